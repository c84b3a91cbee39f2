-- Who is there. An instance has one row at most; its incarnation is one life of its process.
CREATE TABLE instances (
    instance_id     TEXT PRIMARY KEY,
    incarnation     TEXT NOT NULL UNIQUE,
    hostname        TEXT NOT NULL,
    version         TEXT NOT NULL,
    zone            TEXT NOT NULL,
    addresses       TEXT NOT NULL,
    metadata        TEXT NOT NULL,
    pid             INTEGER NOT NULL,
    status          TEXT NOT NULL,
    revision        INTEGER NOT NULL,
    refused         INTEGER NOT NULL,
    problems        TEXT NOT NULL,
    evicted         INTEGER NOT NULL DEFAULT 0,
    started_at      REAL NOT NULL,
    last_heartbeat  REAL NOT NULL
);

-- Who leads. Rows are never deleted, since a token must not begin anew.
CREATE TABLE distributed_locks (
    lock_name      TEXT PRIMARY KEY,
    incarnation    TEXT NOT NULL,
    fencing_token  INTEGER NOT NULL,
    leaving        INTEGER NOT NULL DEFAULT 0,
    acquired_at    REAL NOT NULL,
    heartbeat_at   REAL NOT NULL,
    expires_at     REAL NOT NULL
);

-- What is published. The newest number is the truth; a rollback is a new revision.
CREATE TABLE config_revisions (
    number          INTEGER PRIMARY KEY,
    published_at    REAL NOT NULL,
    author          TEXT NOT NULL,
    note            TEXT NOT NULL,
    digest          TEXT NOT NULL,
    rolled_back_to  INTEGER,
    document        TEXT
);

-- Small values that the holder of a lease writes.
CREATE TABLE config_kv (
    key            TEXT PRIMARY KEY,
    value          TEXT NOT NULL,
    updated_at     REAL NOT NULL,
    fencing_token  INTEGER NOT NULL
);

-- What happened, for people.
CREATE TABLE cluster_events (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    at           REAL NOT NULL,
    kind         TEXT NOT NULL,
    instance_id  TEXT NOT NULL,
    detail       TEXT NOT NULL
);

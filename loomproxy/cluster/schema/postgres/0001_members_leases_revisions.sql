-- Who is there. An instance has one row at most; its incarnation is one life of its process.
CREATE TABLE instances (
    instance_id     text PRIMARY KEY,
    incarnation     text NOT NULL UNIQUE,
    hostname        text NOT NULL,
    version         text NOT NULL,
    zone            text NOT NULL,
    addresses       jsonb NOT NULL,
    metadata        jsonb NOT NULL,
    pid             integer NOT NULL,
    status          text NOT NULL,
    revision        bigint NOT NULL,
    refused         bigint NOT NULL,
    problems        jsonb NOT NULL,
    evicted         boolean NOT NULL DEFAULT false,
    started_at      timestamptz NOT NULL,
    last_heartbeat  timestamptz NOT NULL
);

-- Who leads. Rows are never deleted, since a token must not begin anew.
CREATE TABLE distributed_locks (
    lock_name      text PRIMARY KEY,
    incarnation    text NOT NULL,
    fencing_token  bigint NOT NULL,
    leaving        boolean NOT NULL DEFAULT false,
    acquired_at    timestamptz NOT NULL,
    heartbeat_at   timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL
);

-- What is published. The newest number is the truth; a rollback is a new revision.
CREATE TABLE config_revisions (
    number          bigint PRIMARY KEY,
    published_at    timestamptz NOT NULL,
    author          text NOT NULL,
    note            text NOT NULL,
    digest          text NOT NULL,
    rolled_back_to  bigint,
    document        text
);

-- Small values that the holder of a lease writes.
CREATE TABLE config_kv (
    key            text PRIMARY KEY,
    value          text NOT NULL,
    updated_at     timestamptz NOT NULL,
    fencing_token  bigint NOT NULL
);

-- What happened, for people.
CREATE TABLE cluster_events (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL,
    kind         text NOT NULL,
    instance_id  text NOT NULL,
    detail       text NOT NULL
);

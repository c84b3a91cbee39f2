"""The keys of many instances with one mind: the store they share, and how they keep in touch."""

from typing import Annotated, Literal

from msgspec import field

from loomproxy.config.key import DAY_S, HOUR_S, MINUTE_S, Base, Name, count, duration, group, text


class Database(Base, frozen=True):
    """Where the state that outlives a process is kept."""

    type: Annotated[
        Literal["sqlite", "postgres"],
        group(
            "`sqlite`: a file, for one instance alone. `postgres`: a server that many instances "
            "share; this is what makes them a cluster."
        ),
    ] = "sqlite"
    dsn: Annotated[
        str,
        text(
            "Of `postgres`: `postgresql://user:password@host:5432/name?sslmode=verify-full`, best "
            "as `${DATABASE_DSN}`. TLS is as `sslmode` and `sslrootcert` say.",
            "dsn",
        ),
    ] = ""
    path: Annotated[
        str,
        text("Of `sqlite`: the file; a relative path is beside this file.", "local_path"),
    ] = "loomproxy.db"
    schema: Annotated[
        str,
        text(
            "Of `postgres`: the schema that holds our tables; it is made where it is missing.",
            "sql_name",
        ),
    ] = "loomproxy"
    required: Annotated[
        bool,
        group("Whether an instance that cannot reach the database says that it is not ready."),
    ] = False
    pool_max: Annotated[
        int,
        count("Connections to PostgreSQL of one instance, beside one that listens.", high=64),
    ] = 4
    connect_timeout_s: Annotated[
        float, duration("How long a new connection may take.", low=0.05, high=MINUTE_S)
    ] = 2.0
    statement_timeout_s: Annotated[
        float,
        duration("How long one statement may take, its way included.", low=0.05, high=MINUTE_S),
    ] = 2.0
    lock_timeout_s: Annotated[
        float,
        duration("How long a statement may wait for a lock.", low=0.05, high=MINUTE_S),
    ] = 1.0


class Cluster(Base, frozen=True):
    """How this instance shows itself to the others, and when it believes that one is gone."""

    zone: Annotated[str, text("Where it runs, for people: a rack, a zone.")] = ""
    addresses: Annotated[
        tuple[Annotated[str, text()], ...],
        group("Where others reach it. Empty: the addresses of its listeners."),
    ] = ()
    metadata: Annotated[
        dict[Name, Annotated[str, text()]],
        group("Anything else that its row shall say of it, at most 32 entries."),
    ] = field(default_factory=dict)
    heartbeat_s: Annotated[
        float,
        duration(
            "How often it says that it lives, and asks whether anything was published.",
            low=0.1,
            high=HOUR_S,
        ),
    ] = 5.0
    active_within_s: Annotated[
        float,
        duration(
            "An instance counts as active that has said so within this time.", low=0.2, high=DAY_S
        ),
    ] = 15.0
    forget_after_s: Annotated[
        float,
        duration(
            "An instance that was silent this long is struck off the list by the leader.",
            low=1.0,
            high=DAY_S * 30,
        ),
    ] = HOUR_S
    lease_ttl_s: Annotated[
        float,
        duration(
            "How long a lease lasts without renewal: a dead leader is replaced this much later, "
            "and a heartbeat.",
            low=1.0,
            high=HOUR_S,
        ),
    ] = 15.0
    state_directory: Annotated[
        str,
        text(
            "Where the last good configuration is kept for a start without the database. Empty: "
            "$STATE_DIRECTORY, else beside the runtime files.",
            "optional_file_path",
        ),
    ] = ""

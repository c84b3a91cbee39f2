"""What is wrong among the keys of the store and of the cluster."""

from collections.abc import Iterator
from typing import Final

from loomproxy.config.cluster import Cluster, Database
from loomproxy.config.problem import Problem
from loomproxy.config.static import Static
from loomproxy.core.lease import RENEWALS_PER_TTL

METADATA_MAX: Final = 32
"""Entries that a row of an instance holds."""

ADDRESSES_MAX: Final = 32
"""Addresses that a row of an instance holds."""

BEATS_MIN: Final = 2
"""An instance is not taken for gone because one beat was late."""


def check_cluster(static: Static) -> Iterator[Problem]:
    """The problems of `database` and `cluster`, between their keys and one another."""
    database, cluster = static.database, static.cluster
    if database is None or database.type != "postgres":
        yield from _alone(database, cluster)
        return
    if not database.dsn:
        yield Problem(
            "database.dsn",
            "there is none, and without it each instance would have a state of its own",
            "where the PostgreSQL is that all instances share",
            "Write dsn: ${DATABASE_DSN}, and set that variable.",
        )
    yield from _times(database, cluster)
    if len(cluster.metadata) > METADATA_MAX:
        yield _too_many("metadata", len(cluster.metadata), METADATA_MAX)
    if len(cluster.addresses) > ADDRESSES_MAX:
        yield _too_many("addresses", len(cluster.addresses), ADDRESSES_MAX)


def _alone(database: Database | None, cluster: Cluster) -> Iterator[Problem]:
    if database is not None and database.dsn:
        yield Problem(
            "database.dsn",
            "it is given, but type is sqlite",
            "a dsn with type: postgres alone",
            "Write type: postgres, or take the dsn out.",
        )
    if cluster != Cluster():
        yield Problem(
            "cluster",
            "this node shares no database, so it is alone",
            "database.type: postgres beside it",
            "Add database: {type: postgres, dsn: ${DATABASE_DSN}}, or take it out.",
        )


def _times(database: Database, cluster: Cluster) -> Iterator[Problem]:
    if cluster.active_within_s < BEATS_MIN * cluster.heartbeat_s:
        yield Problem(
            "cluster.active_within",
            f"{cluster.active_within_s:g}s is less than {BEATS_MIN} heartbeats",
            f"{BEATS_MIN * cluster.heartbeat_s:g}s or more",
            "Raise it, or lower cluster.heartbeat.",
        )
    if cluster.forget_after_s <= cluster.active_within_s:
        yield Problem(
            "cluster.forget_after",
            f"{cluster.forget_after_s:g}s is not above active_within",
            f"more than {cluster.active_within_s:g}s",
            "Raise it.",
        )
    renewal_s = cluster.lease_ttl_s / RENEWALS_PER_TTL
    call_s = database.connect_timeout_s + database.statement_timeout_s
    if call_s > renewal_s:
        yield Problem(
            "cluster.lease_ttl",
            f"a renewal may take {call_s:g}s (database.connect_timeout and statement_timeout), "
            f"and one is due each {renewal_s:g}s",
            f"{RENEWALS_PER_TTL * call_s:g}s or more",
            "Raise it, or lower the timeouts.",
        )


def _too_many(key: str, count: int, most: int) -> Problem:
    return Problem(f"cluster.{key}", f"it has {count} entries", f"at most {most}", "Take some out.")

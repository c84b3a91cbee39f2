"""Which store a configuration means."""

from loomproxy.cluster.postgres_store import PostgresStore
from loomproxy.cluster.sqlite_store import SqliteStore
from loomproxy.cluster.store import Store
from loomproxy.config.cluster import Database


def store_of(database: Database, name: str) -> Store:
    """The store, not opened yet; `name` is what its sessions are called."""
    if database.type == "postgres":
        return PostgresStore(database, name)
    return SqliteStore(database)

"""The store that many instances share: PostgreSQL, with its schema and what is published in it."""

from collections.abc import Callable
from typing import Final

from loomproxy.cluster.migrations import migrations, pending
from loomproxy.cluster.postgres import Connection, Link
from loomproxy.cluster.postgres_leases import GUARD, PostgresLeases, hint, serialise
from loomproxy.cluster.postgres_members import PostgresMembers, note
from loomproxy.cluster.store import (
    LISTED_MAX,
    ConflictError,
    Held,
    Migration,
    Revision,
    RevisionHead,
    digest_of,
    fenced,
)
from loomproxy.config.cluster import Database

_DONE: Final = "SELECT version, name FROM schema_migrations ORDER BY version"
_HAS_TABLE: Final = "SELECT to_regclass('schema_migrations') IS NOT NULL"

_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"

_MADE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY, name text NOT NULL, run_at timestamptz NOT NULL
)
"""

_HEADS: Final = """
SELECT number, extract(epoch FROM published_at)::float8, author, note, digest, rolled_back_to
FROM config_revisions
"""

_DOCUMENT: Final = "SELECT document FROM config_revisions WHERE number = $1"

_PUBLISH: Final = """
INSERT INTO config_revisions VALUES ($1, clock_timestamp(), $2, $3, $4, $5, $6)
RETURNING extract(epoch FROM published_at)::float8
"""

_PRUNE: Final = (
    GUARD
    + """
, old AS (
    DELETE FROM config_revisions WHERE EXISTS (SELECT FROM guard)
        AND number <= (SELECT max(number) FROM config_revisions) - $4 RETURNING 1
), faded AS (
    DELETE FROM cluster_events WHERE EXISTS (SELECT FROM guard)
        AND number <= (SELECT max(number) FROM cluster_events) - $5 RETURNING 1
)
SELECT (SELECT count(*) FROM guard) > 0,
       (SELECT count(*) FROM old) + (SELECT count(*) FROM faded)
"""
)

_WRITE: Final = (
    GUARD
    + """
INSERT INTO config_kv SELECT $4, $5, clock_timestamp(), fencing_token FROM guard
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
    fencing_token = excluded.fencing_token
RETURNING 1
"""
)


class PostgresStore(PostgresLeases, PostgresMembers):
    """All that `cluster.store.Store` asks for; `name` is what the server calls our sessions."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(Link(database, f"loomproxy {name}"[:63]))

    async def open(self) -> None:
        """Make ready; raises where the server is away."""
        await self._link.open()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._link.close()

    async def pending(self) -> tuple[Migration, ...]:
        """The migrations that `migrate` would run."""
        async with self._link.unit() as connection:
            return pending(migrations("postgres"), await _done(connection))

    async def migrate(self) -> tuple[Migration, ...]:
        """Run what is pending: all of it or nothing, one instance at a time."""
        async with self._link.migrating() as connection:
            await serialise(connection, self._link.schema, "migrations")
            # Where somebody else has made it, we need no right to do so.
            if not await connection.fetchval(_HAS_SCHEMA, self._link.schema):
                await connection.execute(f'CREATE SCHEMA "{self._link.schema}"')
            await connection.execute(_MADE)
            steps = pending(migrations("postgres"), await _done(connection))
            for step in steps:
                await connection.execute(step.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations VALUES ($1, $2, clock_timestamp())",
                    step.version,
                    step.name,
                )
        return steps

    async def publish(
        self, document: str | None, *, author: str, note: str, expected: int | None
    ) -> RevisionHead:
        """Make a document the newest revision."""
        async with self._link.unit() as connection:
            return await self._publish(connection, document, (author, note, None), expected)

    async def rollback(
        self, number: int, *, author: str, note: str, expected: int | None
    ) -> RevisionHead | None:
        """Publish the document of revision `number` again; 0: none."""
        async with self._link.unit() as connection:
            document = None
            if number:
                row = await connection.fetchrow(_DOCUMENT, number)
                if row is None:
                    return None
                document = row[0]
            return await self._publish(connection, document, (author, note, number), expected)

    async def revisions(self, limit: int = LISTED_MAX) -> tuple[RevisionHead, ...]:
        """The newest first."""
        async with self._link.unit() as connection:
            rows = await connection.fetch(
                _HEADS + " ORDER BY number DESC LIMIT $1", min(limit, LISTED_MAX)
            )
        return tuple(RevisionHead(*row) for row in rows)

    async def revision(self, number: int) -> Revision | None:
        """One with its document."""
        async with self._link.unit() as connection:
            row = await connection.fetchrow(_HEADS + " WHERE number = $1", number)
            if row is None:
                return None
            return Revision(RevisionHead(*row), await connection.fetchval(_DOCUMENT, number))

    async def prune(self, held: Held, *, revisions_max: int, events_max: int) -> int:
        """Strike off the oldest revisions and events beyond so many; guarded."""
        async with self._link.unit() as connection:
            permitted, rows = await connection.fetchrow(
                _PRUNE, held.name, held.owner, held.token, revisions_max, events_max
            )
            if not permitted:
                raise fenced(held)
        return int(rows)

    async def read(self, key: str) -> str | None:
        """The value of a key."""
        async with self._link.unit() as connection:
            value: str | None = await connection.fetchval(
                "SELECT value FROM config_kv WHERE key = $1", key
            )
        return value

    async def write(self, held: Held, key: str, value: str) -> None:
        """Set the value of a key; guarded."""
        async with self._link.unit() as connection:
            written = await connection.fetchval(
                _WRITE, held.name, held.owner, held.token, key, value
            )
            if not written:
                raise fenced(held)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever something may be new; returns when the connection is lost."""
        await self._link.listen(self._link.schema, heard)

    async def _publish(
        self,
        connection: Connection,
        document: str | None,
        origin: tuple[str, str, int | None],
        expected: int | None,
    ) -> RevisionHead:
        await serialise(connection, self._link.schema, "revisions")
        newest = await connection.fetchval("SELECT coalesce(max(number), 0) FROM config_revisions")
        if expected is not None and expected != newest:
            raise ConflictError(expected, newest)
        (author, remark, back), number, digest = origin, newest + 1, digest_of(document)
        at = await connection.fetchval(_PUBLISH, number, author, remark, digest, back, document)
        kind = "published" if back is None else "rolled-back"
        await note(connection, kind, "", f"revision {number} by {author or 'nobody named'}")
        await hint(connection, self._link.schema)
        return RevisionHead(number, at, author, remark, digest, back)


async def _done(connection: Connection) -> list[tuple[int, str]]:
    if not await connection.fetchval(_HAS_TABLE):
        return []
    return [(version, name) for version, name in await connection.fetch(_DONE)]

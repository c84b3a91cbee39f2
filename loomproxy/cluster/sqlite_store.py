"""The store of one instance alone: a file that holds what PostgreSQL holds for many."""

import asyncio
from collections.abc import Callable
from typing import Final

from loomproxy.cluster.migrations import migrations, pending
from loomproxy.cluster.rows import instance_columns, report_columns, view_of
from loomproxy.cluster.sqlite import File, Unit
from loomproxy.cluster.sqlite_leases import (
    GUARD,
    SqliteLeases,
    permitted,
    shown,
    take_away_all,
)
from loomproxy.cluster.store import (
    LISTED_MAX,
    Beat,
    ConflictError,
    EventRow,
    Held,
    Member,
    MemberView,
    Migration,
    Report,
    Revision,
    RevisionHead,
    digest_of,
    fenced,
)
from loomproxy.config.cluster import Database

_MADE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, run_at REAL NOT NULL
)
"""
_HAS_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'"
_DONE: Final = "SELECT version, name FROM schema_migrations ORDER BY version"

_NEWEST: Final = "SELECT coalesce(max(number), 0) FROM config_revisions"

_BEAT: Final = """
UPDATE instances SET last_heartbeat = ?, status = ?, revision = ?, refused = ?, problems = ?
WHERE incarnation = ?
"""

_LIST: Final = """
SELECT instance_id, incarnation, hostname, version, zone, addresses, metadata, pid, status,
       revision, refused, problems, evicted, started_at, last_heartbeat,
       max(0.0, ? - last_heartbeat)
FROM instances ORDER BY instance_id LIMIT ?
"""

_NOTE: Final = "INSERT INTO cluster_events (at, kind, instance_id, detail) VALUES (?, ?, ?, ?)"

_HEADS: Final = (
    "SELECT number, published_at, author, note, digest, rolled_back_to FROM config_revisions"
)
_DOCUMENT: Final = "SELECT document FROM config_revisions WHERE number = ?"

_WRITE: Final = f"""
INSERT INTO config_kv SELECT ?, ?, ?, ? WHERE {GUARD}
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
    fencing_token = excluded.fencing_token
"""


class SqliteStore(SqliteLeases):
    """All that `cluster.store.Store` asks for."""

    def __init__(self, database: Database) -> None:
        super().__init__(File(database))
        self._hearing: set[Callable[[], None]] = set()

    async def open(self) -> None:
        """Make ready; raises where the file cannot be opened."""
        await self._file.unit(lambda unit: unit.value("SELECT 1"))

    async def close(self) -> None:
        """Close the file."""
        await self._file.close()

    async def pending(self) -> tuple[Migration, ...]:
        """The migrations that `migrate` would run."""
        return await self._file.unit(lambda unit: pending(migrations("sqlite"), _done(unit)))

    async def migrate(self) -> tuple[Migration, ...]:
        """Run what is pending: all of it or nothing."""

        def work(unit: Unit) -> tuple[Migration, ...]:
            unit.run(_MADE)
            steps = pending(migrations("sqlite"), _done(unit))
            for step in steps:
                for statement in step.sql.split(";\n"):
                    unit.run(statement)
                unit.run(
                    "INSERT INTO schema_migrations VALUES (?, ?, ?)",
                    step.version,
                    step.name,
                    unit.now,
                )
            return steps

        return await self._file.unit(work)

    async def register(self, member: Member, report: Report) -> Beat:
        """Put this incarnation on the list, in the place of an earlier one of its instance."""

        def work(unit: Unit) -> Beat:
            earlier = unit.rows(
                "SELECT incarnation FROM instances WHERE instance_id = ?", member.instance_id
            )
            for (incarnation,) in earlier:
                if incarnation != member.incarnation:
                    take_away_all(unit, incarnation)
            unit.run(
                "DELETE FROM instances WHERE instance_id = ? OR incarnation = ?",
                member.instance_id,
                member.incarnation,
            )
            columns = (*instance_columns(member, report), 0, unit.now, unit.now)
            marks = ", ".join("?" * len(columns))
            unit.run(f"INSERT INTO instances VALUES ({marks})", *columns)
            _note(unit, "joined", member.instance_id, member.incarnation)
            return Beat(True, False, False, unit.value(_NEWEST))  # noqa: FBT003 -- its columns

        return await self._file.unit(work)

    async def beat(self, instance_id: str, incarnation: str, report: Report) -> Beat:
        """Say that it lives, and learn what is newest."""

        def work(unit: Unit) -> Beat:
            known = unit.run(_BEAT, unit.now, *report_columns(report), incarnation) > 0
            row = unit.row(
                "SELECT incarnation, evicted FROM instances WHERE instance_id = ?", instance_id
            )
            replaced = row is not None and row[0] != incarnation
            evicted = row is not None and not replaced and bool(row[1])
            return Beat(known, replaced, evicted, unit.value(_NEWEST))

        return await self._file.unit(work)

    async def unregister(self, incarnation: str) -> bool:
        """Take it off the list, and free what it holds."""

        def work(unit: Unit) -> bool:
            take_away_all(unit, incarnation)
            instance_id = unit.value(
                "SELECT instance_id FROM instances WHERE incarnation = ?", incarnation
            )
            if instance_id is None:
                return False
            unit.run("DELETE FROM instances WHERE incarnation = ?", incarnation)
            _note(unit, "left", instance_id, incarnation)
            return True

        return await self._file.unit(work)

    async def members(self, active_within_s: float) -> tuple[MemberView, ...]:
        """All on the list, by instance."""

        def work(unit: Unit) -> tuple[MemberView, ...]:
            return tuple(
                view_of(row, active_within_s) for row in unit.rows(_LIST, unit.now, LISTED_MAX)
            )

        return await self._file.unit(work)

    async def evict(self, instance_id: str) -> bool:
        """Ask an instance to leave, and take its leases away at once."""

        def work(unit: Unit) -> bool:
            incarnation = unit.value(
                "SELECT incarnation FROM instances WHERE instance_id = ?", instance_id
            )
            if incarnation is None:
                return False
            unit.run("UPDATE instances SET evicted = 1 WHERE instance_id = ?", instance_id)
            take_away_all(unit, incarnation)
            _note(unit, "evicted", instance_id, incarnation)
            return True

        return await self._file.unit(work)

    async def forget(self, held: Held, silent_s: float) -> tuple[str, ...]:
        """Strike off who was silent for longer, with their leases; guarded."""

        def work(unit: Unit) -> tuple[str, ...]:
            if not permitted(held, unit):
                raise fenced(held)
            silent = unit.rows(
                "SELECT instance_id, incarnation FROM instances "
                "WHERE last_heartbeat < ? AND incarnation <> ? ORDER BY instance_id",
                unit.now - silent_s,
                held.owner,
            )
            for instance_id, incarnation in silent:
                take_away_all(unit, incarnation)
                unit.run(
                    f"DELETE FROM instances WHERE incarnation = ? AND {GUARD}",
                    incarnation,
                    *shown(held, unit),
                )
                _note(unit, "forgotten", instance_id, "it was silent for too long")
            return tuple(instance_id for instance_id, _incarnation in silent)

        return await self._file.unit(work)

    async def prune(self, held: Held, *, revisions_max: int, events_max: int) -> int:
        """Strike off the oldest revisions and events beyond so many; guarded."""

        def work(unit: Unit) -> int:
            if not permitted(held, unit):
                raise fenced(held)
            rows = 0
            for table, most in (
                ("config_revisions", revisions_max),
                ("cluster_events", events_max),
            ):
                rows += unit.run(
                    f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ? "
                    f"AND {GUARD}",
                    most,
                    *shown(held, unit),
                )
            return rows

        return await self._file.unit(work)

    async def publish(
        self, document: str | None, *, author: str, note: str, expected: int | None
    ) -> RevisionHead:
        """Make a document the newest revision."""

        def work(unit: Unit) -> RevisionHead:
            return _publish(unit, document, (author, note, None), expected)

        head = await self._file.unit(work)
        self._tell()
        return head

    async def rollback(
        self, number: int, *, author: str, note: str, expected: int | None
    ) -> RevisionHead | None:
        """Publish the document of revision `number` again; 0: none."""

        def work(unit: Unit) -> RevisionHead | None:
            row = unit.row(_DOCUMENT, number) if number else (None,)
            if row is None:
                return None
            return _publish(unit, row[0], (author, note, number), expected)

        head = await self._file.unit(work)
        self._tell()
        return head

    async def revisions(self, limit: int = LISTED_MAX) -> tuple[RevisionHead, ...]:
        """The newest first."""

        def work(unit: Unit) -> tuple[RevisionHead, ...]:
            rows = unit.rows(f"{_HEADS} ORDER BY number DESC LIMIT ?", min(limit, LISTED_MAX))
            return tuple(RevisionHead(*row) for row in rows)

        return await self._file.unit(work)

    async def revision(self, number: int) -> Revision | None:
        """One with its document."""

        def work(unit: Unit) -> Revision | None:
            row = unit.row(f"{_HEADS} WHERE number = ?", number)
            if row is None:
                return None
            return Revision(RevisionHead(*row), unit.value(_DOCUMENT, number))

        return await self._file.unit(work)

    async def read(self, key: str) -> str | None:
        """The value of a key."""

        def work(unit: Unit) -> str | None:
            value: str | None = unit.value("SELECT value FROM config_kv WHERE key = ?", key)
            return value

        return await self._file.unit(work)

    async def write(self, held: Held, key: str, value: str) -> None:
        """Set the value of a key; guarded."""

        def work(unit: Unit) -> None:
            written = unit.run(_WRITE, key, value, unit.now, held.token, *shown(held, unit))
            if not written:
                raise fenced(held)

        await self._file.unit(work)

    async def note(self, kind: str, instance_id: str, detail: str) -> None:
        """Write down that something happened."""
        await self._file.unit(lambda unit: _note(unit, kind, instance_id, detail))

    async def events(self, limit: int = LISTED_MAX) -> tuple[EventRow, ...]:
        """The newest first."""

        def work(unit: Unit) -> tuple[EventRow, ...]:
            rows = unit.rows(
                "SELECT number, at, kind, instance_id, detail FROM cluster_events "
                "ORDER BY number DESC LIMIT ?",
                min(limit, LISTED_MAX),
            )
            return tuple(EventRow(*row) for row in rows)

        return await self._file.unit(work)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever this process publishes; waits to be cancelled."""
        self._hearing.add(heard)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._hearing.discard(heard)

    def _tell(self) -> None:
        for heard in tuple(self._hearing):
            heard()


def _done(unit: Unit) -> list[tuple[int, str]]:
    if unit.value(_HAS_TABLE) is None:
        return []
    return [(version, name) for version, name in unit.rows(_DONE)]


def _note(unit: Unit, kind: str, instance_id: str, detail: str) -> None:
    unit.run(_NOTE, unit.now, kind, instance_id, detail)


def _publish(
    unit: Unit, document: str | None, origin: tuple[str, str, int | None], expected: int | None
) -> RevisionHead:
    newest = unit.value(_NEWEST)
    if expected is not None and expected != newest:
        raise ConflictError(expected, newest)
    (author, remark, back), number, digest = origin, newest + 1, digest_of(document)
    unit.run(
        "INSERT INTO config_revisions VALUES (?, ?, ?, ?, ?, ?, ?)",
        *(number, unit.now, author, remark, digest, back, document),
    )
    kind = "published" if back is None else "rolled-back"
    _note(unit, kind, "", f"revision {number} by {author or 'nobody named'}")
    return RevisionHead(number, unit.now, author, remark, digest, back)

"""Who is there, in PostgreSQL; and what happened, for people."""

from typing import Final

from loomproxy.cluster.postgres import Connection, Link
from loomproxy.cluster.postgres_leases import GUARD, hint, serialise, take_away_all
from loomproxy.cluster.rows import instance_columns, report_columns, view_of
from loomproxy.cluster.store import (
    LISTED_MAX,
    Beat,
    EventRow,
    Held,
    Member,
    MemberView,
    Report,
    fenced,
)

_NEWEST: Final = "coalesce((SELECT max(number) FROM config_revisions), 0)"

_REGISTER: Final = """
INSERT INTO instances VALUES
    ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, false, clock_timestamp(), clock_timestamp())
"""

_BEAT: Final = f"""
WITH me AS (
    UPDATE instances SET last_heartbeat = clock_timestamp(), status = $3, revision = $4,
        refused = $5, problems = $6
    WHERE incarnation = $2 RETURNING evicted
)
SELECT (SELECT count(*) FROM me) > 0,
       EXISTS (SELECT FROM instances WHERE instance_id = $1 AND incarnation <> $2),
       coalesce((SELECT evicted FROM me), false), {_NEWEST}
"""

_LIST: Final = """
SELECT instance_id, incarnation, hostname, version, zone, addresses, metadata, pid, status,
       revision, refused, problems, evicted, extract(epoch FROM started_at)::float8,
       extract(epoch FROM last_heartbeat)::float8,
       greatest(0, extract(epoch FROM clock_timestamp() - last_heartbeat))::float8
FROM instances ORDER BY instance_id LIMIT $1
"""

_FORGET: Final = (
    GUARD
    + """
, gone AS (
    DELETE FROM instances WHERE EXISTS (SELECT FROM guard)
        AND incarnation <> $2 AND last_heartbeat < clock_timestamp() - make_interval(secs => $4)
    RETURNING instance_id, incarnation
), freed AS (
    UPDATE distributed_locks SET incarnation = '', expires_at = to_timestamp(0), leaving = false
    WHERE incarnation IN (SELECT incarnation FROM gone)
), noted AS (
    INSERT INTO cluster_events (at, kind, instance_id, detail)
    SELECT clock_timestamp(), 'forgotten', instance_id, 'it was silent for too long' FROM gone
)
SELECT (SELECT count(*) FROM guard) > 0,
       coalesce((SELECT array_agg(instance_id ORDER BY instance_id) FROM gone), ARRAY[]::text[])
"""
)

_NOTE: Final = """
INSERT INTO cluster_events (at, kind, instance_id, detail) VALUES (clock_timestamp(), $1, $2, $3)
"""

_EVENTS: Final = """
SELECT number, extract(epoch FROM at)::float8, kind, instance_id, detail
FROM cluster_events ORDER BY number DESC LIMIT $1
"""


class PostgresMembers:
    """The part of the store that knows who is there."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def register(self, member: Member, report: Report) -> Beat:
        """Put this incarnation on the list, in the place of an earlier one of its instance."""
        async with self._link.unit() as connection:
            await serialise(connection, self._link.schema, f"instance {member.instance_id}")
            earlier = await connection.fetchval(
                "DELETE FROM instances WHERE instance_id = $1 OR incarnation = $2 "
                "RETURNING incarnation",
                member.instance_id,
                member.incarnation,
            )
            if earlier is not None and earlier != member.incarnation:
                await take_away_all(connection, earlier)
            await connection.execute(_REGISTER, *instance_columns(member, report))
            await note(connection, "joined", member.instance_id, member.incarnation)
            newest = await connection.fetchval(f"SELECT {_NEWEST}")
        return Beat(known=True, replaced=False, evicted=False, newest=newest)

    async def beat(self, instance_id: str, incarnation: str, report: Report) -> Beat:
        """Say that it lives, and learn what is newest."""
        async with self._link.unit() as connection:
            row = await connection.fetchrow(
                _BEAT, instance_id, incarnation, *report_columns(report)
            )
        return Beat(*row)

    async def unregister(self, incarnation: str) -> bool:
        """Take it off the list, and free what it holds."""
        async with self._link.unit() as connection:
            await take_away_all(connection, incarnation)
            instance_id = await connection.fetchval(
                "DELETE FROM instances WHERE incarnation = $1 RETURNING instance_id", incarnation
            )
            if instance_id is not None:
                await note(connection, "left", instance_id, incarnation)
            await hint(connection, self._link.schema)
        return instance_id is not None

    async def members(self, active_within_s: float) -> tuple[MemberView, ...]:
        """All on the list, by instance."""
        async with self._link.unit() as connection:
            rows = await connection.fetch(_LIST, LISTED_MAX)
        return tuple(view_of(row, active_within_s) for row in rows)

    async def evict(self, instance_id: str) -> bool:
        """Ask an instance to leave, and take its leases away at once."""
        async with self._link.unit() as connection:
            incarnation = await connection.fetchval(
                "UPDATE instances SET evicted = true WHERE instance_id = $1 RETURNING incarnation",
                instance_id,
            )
            if incarnation is None:
                return False
            await take_away_all(connection, incarnation)
            await note(connection, "evicted", instance_id, incarnation)
            await hint(connection, self._link.schema)
        return True

    async def forget(self, held: Held, silent_s: float) -> tuple[str, ...]:
        """Strike off who was silent for longer, with their leases; guarded."""
        async with self._link.unit() as connection:
            permitted, gone = await connection.fetchrow(
                _FORGET, held.name, held.owner, held.token, silent_s
            )
            if not permitted:
                raise fenced(held)
        return tuple(gone)

    async def note(self, kind: str, instance_id: str, detail: str) -> None:
        """Write down that something happened."""
        async with self._link.unit() as connection:
            await note(connection, kind, instance_id, detail)

    async def events(self, limit: int = LISTED_MAX) -> tuple[EventRow, ...]:
        """The newest first."""
        async with self._link.unit() as connection:
            rows = await connection.fetch(_EVENTS, min(limit, LISTED_MAX))
        return tuple(EventRow(*row) for row in rows)


async def note(connection: Connection, kind: str, instance_id: str, detail: str) -> None:
    """Write down that something happened, as part of the unit that makes it so."""
    await connection.execute(_NOTE, kind, instance_id, detail)

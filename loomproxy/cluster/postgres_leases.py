"""Leases in PostgreSQL: an advisory lock serialises who takes one, the row says who has it."""

from typing import Final

from loomproxy.cluster.postgres import Connection, Link
from loomproxy.cluster.store import Busy, Held, Lease, Renewal
from loomproxy.core import lease

GUARD: Final = """
WITH guard AS (
    SELECT fencing_token FROM distributed_locks
    WHERE lock_name = $1 AND incarnation = $2 AND fencing_token = $3
      AND expires_at > clock_timestamp()
    FOR SHARE
)
"""
"""Begins a statement whose effect depends on a lease: its first three parameters are `Held`'s.

It asks what `core.lease.permits` asks, at the moment of the write, and holds the row until the
write is committed: nobody can take the lease in between.
"""

_ROW: Final = """
SELECT incarnation, fencing_token, leaving,
       extract(epoch FROM expires_at)::float8, extract(epoch FROM clock_timestamp())::float8
FROM distributed_locks WHERE lock_name = $1
"""

_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"

_TAKE: Final = """
INSERT INTO distributed_locks VALUES
    ($1, $2, $3, false, clock_timestamp(), clock_timestamp(), to_timestamp($4))
ON CONFLICT (lock_name) DO UPDATE SET
    incarnation = excluded.incarnation, fencing_token = excluded.fencing_token, leaving = false,
    acquired_at = excluded.acquired_at, heartbeat_at = excluded.heartbeat_at,
    expires_at = excluded.expires_at
"""

_KEEP: Final = """
UPDATE distributed_locks SET incarnation = $2, leaving = $3, expires_at = to_timestamp($4),
    heartbeat_at = clock_timestamp() WHERE lock_name = $1
"""

_LIST: Final = """
SELECT lock_name, l.incarnation, coalesce(instance_id, ''), fencing_token,
       extract(epoch FROM acquired_at)::float8, extract(epoch FROM heartbeat_at)::float8,
       extract(epoch FROM expires_at)::float8,
       CASE WHEN l.incarnation = '' THEN 0
            ELSE greatest(0, extract(epoch FROM expires_at - clock_timestamp()))::float8 END,
       leaving
FROM distributed_locks l LEFT JOIN instances i ON i.incarnation = l.incarnation
ORDER BY lock_name LIMIT 1000
"""


class PostgresLeases:
    """The part of the store that knows who leads."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def acquire(self, name: str, owner: str, ttl_s: float) -> Held | Busy:
        """Try once to take the lease `name`."""
        async with self._link.unit() as connection:
            # A look first, so that those who wait for a lease that is held serialise nobody.
            row, now = await _read(connection, name)
            if not lease.is_held(row, now):
                await serialise(connection, self._link.schema, f"lease {name}")
                row, now = await _read(connection, name)
            taken = lease.take(row, owner, ttl_s, now)
            if taken is None:
                return Busy(row.owner, row.expires_at - now)
            await connection.execute(_TAKE, name, owner, taken.token, taken.expires_at)
            return Held(name, owner, taken.token)

    async def renew(self, held: Held, ttl_s: float) -> Renewal | None:
        """Prolong it; None: it is lost."""
        async with self._link.unit() as connection:
            row, now = await _read(connection, held.name, lock=True)
            kept = lease.renew(row, held.owner, held.token, ttl_s, now)
            if kept is None:
                return None
            await _write(connection, held.name, kept)
            return Renewal(kept.leaving)

    async def release(self, held: Held) -> bool:
        """Give it back; False: it was not `held`'s any more."""
        async with self._link.unit() as connection:
            row, _now = await _read(connection, held.name, lock=True)
            freed = lease.free(row, held.owner, held.token)
            if freed is None:
                return False
            await _write(connection, held.name, freed)
            await hint(connection, self._link.schema)
            return True

    async def step_down(self, name: str) -> str | None:
        """Ask its holder to let it go."""
        async with self._link.unit() as connection:
            row, now = await _read(connection, name, lock=True)
            if not lease.is_held(row, now):
                return None
            await _write(connection, name, lease.ask_to_step_down(row))
            await hint(connection, self._link.schema)
            return row.owner

    async def leases(self) -> tuple[Lease, ...]:
        """All that were ever held, by name."""
        async with self._link.unit() as connection:
            return tuple(Lease(*row) for row in await connection.fetch(_LIST))


async def take_away_all(connection: Connection, incarnation: str) -> None:
    """Free whatever `incarnation` holds; its writes are refused from now on."""
    names = await connection.fetch(
        "SELECT lock_name FROM distributed_locks WHERE incarnation = $1 ORDER BY lock_name",
        incarnation,
    )
    for (name,) in names:
        row, _now = await _read(connection, name, lock=True)
        if row.owner == incarnation:
            await _write(connection, name, lease.take_away(row))


async def serialise(connection: Connection, schema: str, what: str) -> None:
    """Wait until nobody else does the same thing; until the unit ends nobody else will."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))", schema, what
    )


async def hint(connection: Connection, schema: str) -> None:
    """Tell those who listen that there is something new, once this unit is committed."""
    await connection.execute("SELECT pg_notify($1, '')", schema)


async def _read(
    connection: Connection, name: str, *, lock: bool = False
) -> tuple[lease.Row, float]:
    row = await connection.fetchrow(_ROW + " FOR UPDATE" if lock else _ROW, name)
    if row is None:
        return lease.NOBODYS, await connection.fetchval(_NOW)
    owner, token, leaving, expires_at, now = row
    return lease.Row(owner, token, expires_at, leaving), now


async def _write(connection: Connection, name: str, row: lease.Row) -> None:
    await connection.execute(_KEEP, name, row.owner, row.leaving, row.expires_at)

"""Leases in a file: the same decisions and rows as in PostgreSQL, under the file's write lock."""

from typing import Any, Final

from loomproxy.cluster.sqlite import File, Unit
from loomproxy.cluster.store import LISTED_MAX, Busy, Held, Lease, Renewal
from loomproxy.core import lease

GUARD: Final = """
EXISTS (SELECT 1 FROM distributed_locks
        WHERE lock_name = ? AND incarnation = ? AND fencing_token = ? AND expires_at > ?)
"""
"""Ends a statement whose effect depends on a lease: its parameters are `shown`'s."""

_ROW: Final = """
SELECT incarnation, fencing_token, leaving, expires_at FROM distributed_locks WHERE lock_name = ?
"""

_TAKE: Final = """
INSERT INTO distributed_locks VALUES (?, ?, ?, 0, ?, ?, ?)
ON CONFLICT (lock_name) DO UPDATE SET
    incarnation = excluded.incarnation, fencing_token = excluded.fencing_token, leaving = 0,
    acquired_at = excluded.acquired_at, heartbeat_at = excluded.heartbeat_at,
    expires_at = excluded.expires_at
"""

_KEEP: Final = """
UPDATE distributed_locks SET incarnation = ?, leaving = ?, expires_at = ?, heartbeat_at = ?
WHERE lock_name = ?
"""

_LIST: Final = """
SELECT lock_name, l.incarnation, coalesce(instance_id, ''), fencing_token, acquired_at,
       heartbeat_at, expires_at, leaving
FROM distributed_locks l LEFT JOIN instances i ON i.incarnation = l.incarnation
ORDER BY lock_name LIMIT ?
"""


class SqliteLeases:
    """The part of the store that knows who leads."""

    def __init__(self, file: File) -> None:
        self._file = file

    async def acquire(self, name: str, owner: str, ttl_s: float) -> Held | Busy:
        """Try once to take the lease `name`."""

        def work(unit: Unit) -> Held | Busy:
            row = _read(unit, name)
            taken = lease.take(row, owner, ttl_s, unit.now)
            if taken is None:
                return Busy(row.owner, row.expires_at - unit.now)
            unit.run(_TAKE, name, owner, taken.token, unit.now, unit.now, taken.expires_at)
            return Held(name, owner, taken.token)

        return await self._file.unit(work)

    async def renew(self, held: Held, ttl_s: float) -> Renewal | None:
        """Prolong it; None: it is lost."""

        def work(unit: Unit) -> Renewal | None:
            row = _read(unit, held.name)
            kept = lease.renew(row, held.owner, held.token, ttl_s, unit.now)
            if kept is None:
                return None
            _write(unit, held.name, kept)
            return Renewal(kept.leaving)

        return await self._file.unit(work)

    async def release(self, held: Held) -> bool:
        """Give it back; False: it was not `held`'s any more."""

        def work(unit: Unit) -> bool:
            freed = lease.free(_read(unit, held.name), held.owner, held.token)
            if freed is not None:
                _write(unit, held.name, freed)
            return freed is not None

        return await self._file.unit(work)

    async def step_down(self, name: str) -> str | None:
        """Ask its holder to let it go."""

        def work(unit: Unit) -> str | None:
            row = _read(unit, name)
            if not lease.is_held(row, unit.now):
                return None
            _write(unit, name, lease.ask_to_step_down(row))
            return row.owner

        return await self._file.unit(work)

    async def leases(self) -> tuple[Lease, ...]:
        """All that were ever held, by name."""

        def work(unit: Unit) -> tuple[Lease, ...]:
            return tuple(_lease(row, unit.now) for row in unit.rows(_LIST, LISTED_MAX))

        return await self._file.unit(work)


def take_away_all(unit: Unit, incarnation: str) -> None:
    """Free whatever `incarnation` holds; its writes are refused from now on."""
    names = unit.rows("SELECT lock_name FROM distributed_locks WHERE incarnation = ?", incarnation)
    for (name,) in names:
        _write(unit, name, lease.take_away(_read(unit, name)))


def shown(held: Held, unit: Unit) -> tuple[str, str, int, float]:
    """The parameters of GUARD."""
    return held.name, held.owner, held.token, unit.now


def permitted(held: Held, unit: Unit) -> bool:
    """Whether a guarded write may happen; for telling a refusal from a write of no rows."""
    return lease.permits(_read(unit, held.name), held.owner, held.token, unit.now)


def _read(unit: Unit, name: str) -> lease.Row:
    row = unit.row(_ROW, name)
    if row is None:
        return lease.NOBODYS
    owner, token, leaving, expires_at = row
    return lease.Row(owner, token, expires_at, bool(leaving))


def _write(unit: Unit, name: str, row: lease.Row) -> None:
    unit.run(_KEEP, row.owner, row.leaving, row.expires_at, unit.now, name)


def _lease(row: tuple[Any, ...], now: float) -> Lease:
    name, owner, instance_id, token, acquired_at, renewed_at, expires_at, leaving = row
    return Lease(
        name,
        owner,
        instance_id,
        token,
        acquired_at,
        renewed_at,
        expires_at,
        remaining_s=max(0.0, expires_at - now) if owner else 0.0,
        leaving=bool(leaving),
    )

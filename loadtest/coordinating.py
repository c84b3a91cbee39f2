"""What agreement costs PostgreSQL: instances beat, listen, watch and campaign, and do nothing else.

Instances are simulated as far as that goes: each is what a node runs of the cluster, with a store
of its own, in this one process, without workers and clients. What the server did is what it counts
itself (pg_stat_statements, pg_stat_database, pg_stat_activity) and what its processes used.
"""

import argparse
import asyncio
import random
import time
import uuid
from typing import Any

import msgspec

from loadtest.accounting import CpuTime, cpu_time_of
from loadtest.together import markdown
from loomproxy.cluster.duties import Duties
from loomproxy.cluster.leases import Leases
from loomproxy.cluster.member import Membership
from loomproxy.cluster.opening import store_of
from loomproxy.cluster.store import LEADER, Held, Member, Report, Revision, Store
from loomproxy.cluster.watch import Watch
from loomproxy.config.cluster import Cluster, Database
from tests.support.postgres import Postgres, postgres

SETTLE_S = 12.0
"""Before it is measured: everybody is on the list, and has found its pace."""

HEARD_WITHIN_S = 30.0

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "600",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
}


class Counted(msgspec.Struct, frozen=True):
    """What the server has done so far."""

    at: float
    statements: int
    rows: int  # read or written
    units: int  # BEGIN … COMMIT
    cpu: CpuTime


class Figures(msgspec.Struct, frozen=True):
    """What so many instances cost."""

    instances: int
    statements_per_s: float
    rows_per_s: float
    units_per_s: float
    connections: int
    server_cpu: float  # cores
    client_cpu: float  # cores, of all simulated instances together
    heard_s: float  # from publishing to the last instance's having applied it


class Simulated:
    """What one node runs of the cluster."""

    def __init__(self, number: int, database: Database) -> None:
        settings = Cluster()
        self.store: Store = store_of(database, f"simulated-{number}")
        self.incarnation = uuid.uuid4().hex
        self.applied_at = 0.0
        member = Member(
            f"simulated-{number}", self.incarnation, "host", "0", "z", ("10.0.0.1:8080",), {}, 1
        )
        dice = random.random
        self.watch = Watch(self.store, self._apply)
        self.leases = Leases(
            self.store,
            self.incarnation,
            ttl_s=settings.lease_ttl_s,
            retry_s=settings.heartbeat_s,
            dice=dice,
        )
        self.membership = Membership(
            self.store,
            member,
            settings.heartbeat_s,
            report=lambda: Report("active", self.watch.running),
            neighbours=self,
            dice=dice,
        )
        self.duties = Duties(
            self.store, member.instance_id, settings.heartbeat_s, settings.forget_after_s
        )

    def heard(self, newest: int) -> None:
        """A beat's answer."""
        self.watch.heard(newest)

    def evicted(self) -> None:
        """Nobody evicts here."""

    def hint(self) -> None:
        """As `node.cluster` does."""
        self.watch.hint()
        self.leases.hint()
        self.membership.beat_soon()

    async def live(self) -> None:
        """As `node.cluster` does."""
        await asyncio.sleep(random.random() * 5.0)  # They were not all started at one moment.
        async with asyncio.TaskGroup() as group:
            group.create_task(self.membership.live())
            group.create_task(self.watch.live())
            group.create_task(self.watch.listening(self.hint))
            group.create_task(self.leases.keep(LEADER, self._lead))

    async def _lead(self, held: Held) -> None:
        await self.duties.lead(held)

    async def _apply(self, _revision: Revision) -> tuple[str, ...]:
        self.applied_at = time.monotonic()
        return ()


def run(options: argparse.Namespace) -> int:
    """Measure each number of instances, and print a table."""
    found = [asyncio.run(_measured(count, options.seconds)) for count in options.instances]
    heads = (
        *("instances", "statements/s", "units/s", "rows/s", "connections"),
        *("server CPU, cores", "CPU of an instance, cores", "published to all, s"),
    )
    rows = [
        (
            one.instances,
            f"{one.statements_per_s:.1f}",
            f"{one.units_per_s:.1f}",
            f"{one.rows_per_s:.1f}",
            one.connections,
            f"{one.server_cpu:.4f}",
            f"{one.client_cpu / one.instances:.5f}",
            f"{one.heard_s:.2f}",
        )
        for one in found
    ]
    print(markdown(heads, rows))
    return 0


async def _measured(count: int, seconds: float) -> Figures:
    with postgres(settings=SETTINGS) as server:
        name = server.database()
        server.sql("CREATE EXTENSION pg_stat_statements", name)
        database = Database(type="postgres", dsn=server.dsn(name))
        first = store_of(database, "first")
        await first.migrate()
        instances = [Simulated(number, database) for number in range(count)]
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(one.live()) for one in instances]
            await asyncio.sleep(SETTLE_S)
            figures = await _during(server, name, count, seconds)
            heard_s = await _heard(first, instances)
            for life in lives:
                life.cancel()
        for one in (first, *(each.store for each in instances)):
            await one.close()
    return msgspec.structs.replace(figures, heard_s=heard_s)


async def _during(server: Postgres, name: str, count: int, seconds: float) -> Figures:
    before, own_before = _counted(server, name), time.process_time()
    await asyncio.sleep(seconds)
    own_s = time.process_time() - own_before
    after = _counted(server, name)
    took_s = after.at - before.at
    connections = int(
        server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0]
    )
    return Figures(
        instances=count,
        statements_per_s=(after.statements - before.statements) / took_s,
        rows_per_s=(after.rows - before.rows) / took_s,
        units_per_s=(after.units - before.units) / took_s,
        connections=connections,
        server_cpu=(after.cpu - before.cpu).total_s / took_s,
        client_cpu=own_s / took_s,
        heard_s=0.0,
    )


def _counted(server: Postgres, name: str) -> Counted:
    rows: Any = server.sql(
        "SELECT (SELECT sum(calls) FROM pg_stat_statements), "
        "(SELECT tup_fetched + tup_inserted + tup_updated + tup_deleted FROM pg_stat_database "
        f"WHERE datname = '{name}'), "
        f"(SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}')",
        name,
    )
    statements, tuples, units = (int(float(cell)) for cell in rows[0])
    assert server.process is not None
    return Counted(time.monotonic(), statements, tuples, units, cpu_time_of(server.process.pid))


async def _heard(first: Store, instances: list[Simulated]) -> float:
    began = time.monotonic()
    await first.publish("routes: []", author="", note="", expected=None)
    while any(one.applied_at < began for one in instances):
        if time.monotonic() - began > HEARD_WITHIN_S:
            raise AssertionError(f"not all heard of it within {HEARD_WITHIN_S:.0f} s")
        await asyncio.sleep(0.01)
    return max(one.applied_at for one in instances) - began

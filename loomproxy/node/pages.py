"""What a node says of itself: health, metrics, and all that `loomproxy status` shows."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from msgspec import structs

import loomproxy
from loomproxy.core import health
from loomproxy.core.units import Instant
from loomproxy.node import status
from loomproxy.node.cluster import Cluster
from loomproxy.node.guests import Guests
from loomproxy.node.http import Reply, as_json
from loomproxy.node.lifecycle import Gates
from loomproxy.node.plugin_figures import Plugins, summary
from loomproxy.node.reload import Reloader
from loomproxy.node.sockets import Sockets
from loomproxy.node.supervisor import Supervisor


class Told(Protocol):
    """What a node lets its pages see of itself."""

    file: str  # of the configuration; "" when the command line said it all
    pid: int
    instance_id: str
    admin_address: str
    started_at: Instant
    gates: Gates
    sockets: Sockets
    supervisor: Supervisor
    reloader: Reloader
    guests: Guests
    cluster: Cluster | None  # None: the node is alone

    @property
    def leaving(self) -> bool:
        """Whether it was told to leave."""


class Pages:
    """The pages of one node, made anew each time from what is so then."""

    def __init__(self, node: Told, plugins: Plugins) -> None:
        self._node = node
        self._plugins = plugins

    def public(self) -> dict[bytes, Callable[[], Awaitable[Reply]]]:
        """Those that are for everybody whom the configuration lets ask, by path."""
        return {
            b"/health/live": self._page_live,
            b"/health/ready": self._page_ready,
            b"/health": self._page_health,
            b"/metrics": self._page_metrics,
            b"/api/v1/health": self._page_ok,
        }

    async def status(self) -> object:
        """All that `loomproxy status` shows."""
        stats = await self._node.supervisor.stats()
        last = self._node.reloader.last
        house = self.house()
        return {
            "node": {
                "pid": self._node.pid,
                "version": loomproxy.__version__,
                "instance_id": self._node.instance_id,
                "state": self.state(),
                "ready": health.is_ready(house),
                "waiting_for": self._node.gates.waiting_for,
                "uptime_s": round(_now() - self._node.started_at, 1),
                "config": self._node.file,
                "admin": self._node.admin_address,
                "revision": self._node.supervisor.current.revision,
                "reloads": self._node.reloader.succeeded,
                "reloads_refused": self._node.reloader.failed,
                "reload_problems": list(last.problems) if last is not None else [],
                "worker_restarts": self._node.supervisor.restarts,
            },
            "listeners": status.listeners(self._node.sockets),
            "workers": status.workers(self._node.supervisor.slots),
            "pools": status.pools(stats),
            "plugins": [summary(one) for one in self._plugins.beside(stats)],
            "cluster": self._node.cluster.overview() if self._node.cluster else None,
        }

    async def _page_live(self) -> Reply:
        return _page(health.live(_now_text()))

    async def _page_ready(self) -> Reply:
        return _page(health.ready(self.house(), _now_text()))

    async def _page_health(self) -> Reply:
        available = status.available(await self._node.supervisor.stats())
        house = self.house()
        pools = health.pools(available, house.dependencies)
        dependencies = {**house.dependencies, "pools": pools}
        house = structs.replace(house, dependencies=dependencies)
        return _page(health.detail(house, _now(), _now_text()))

    async def _page_ok(self) -> Reply:
        return as_json(200, {"status": "ok"})

    async def _page_metrics(self) -> Reply:
        # Not before somebody asks: the library behind it is a third of the node's start.
        from loomproxy.node import metrics  # noqa: PLC0415 - see above

        stats = await self._node.supervisor.stats()
        ready = health.is_ready(self.house())
        plugins = self._plugins.beside(stats)
        node = self._node
        reading = node.cluster.reading() if node.cluster is not None else None
        return metrics.page(node.supervisor, node.reloader, stats, plugins, reading, ready=ready)

    def house(self) -> health.House:
        """All that the pages of health are made from."""
        supervisor = self._node.supervisor
        pongs = supervisor.pongs()
        return health.House(
            gates_passed=self._node.gates.passed,
            draining=self._node.leaving,
            workers=len(supervisor.slots),
            workers_ready=supervisor.ready,
            started_at=self._node.started_at,
            version=loomproxy.__version__,
            instance_id=self._node.instance_id,
            waiting_for=self._node.gates.waiting_for,
            dependencies=self._dependencies(),
            metrics={
                "connections": sum(pong.connections for pong in pongs),
                "in_flight": sum(pong.in_flight for pong in pongs),
                "revision": supervisor.current.revision,
                "worker_restarts": supervisor.restarts,
            },
        )

    def _dependencies(self) -> dict[str, health.Dependency]:
        found = self._node.guests.dependencies()
        if self._node.cluster is not None:
            found["database"] = self._node.cluster.dependency()
        return found

    def state(self) -> str:
        """In one word."""
        if self._node.leaving:
            return "draining"
        return "serving" if self._node.gates.passed else "starting"

    def status_line(self) -> str:
        """For systemctl status."""
        supervisor = self._node.supervisor
        return (
            f"serving revision {supervisor.current.revision} "
            f"with {supervisor.ready} of {len(supervisor.slots)} workers"
        )


def _page(page: health.Page) -> Reply:
    return Reply(page.status, page.body)


def _now() -> Instant:
    return Instant(asyncio.get_running_loop().time())


def _now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""The node, put together: what it starts, in which order, what it answers, and how it leaves.

    admin ─► listening sockets ─► demo upstream ─► workers ─► ready
      ◄──────────────────────────────────────────────────────── drain, in the reverse order

Each thing that is started registers how it is left (`lifecycle`). Readiness is true between the
last startup gate and the first moment of the drain, while every worker serves what is current.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from loomproxy.config.address import listen_address
from loomproxy.config.model import Config
from loomproxy.core.child import ChildPolicy
from loomproxy.core.units import Instant
from loomproxy.log import log
from loomproxy.node.admin import Admin
from loomproxy.node.cluster import Cluster
from loomproxy.node.cluster_api import ClusterApi
from loomproxy.node.demo import Demo
from loomproxy.node.group import Group, first_of
from loomproxy.node.guests import END_TIMEOUT_S, Ground, Guests
from loomproxy.node.http import LIMITS, OPERATORS_LIMITS, HttpServer, Reply
from loomproxy.node.lifecycle import GateError, Gates, Shutdown
from loomproxy.node.notify import Notifier
from loomproxy.node.pages import Pages
from loomproxy.node.plugin_api import PluginApi
from loomproxy.node.plugin_figures import Plugins
from loomproxy.node.reload import Reloader, Report, Source, refusal
from loomproxy.node.runtime import (
    RuntimeDirectoryError,
    admin_socket,
    runtime_directory,
    sweep,
)
from loomproxy.node.slot import Setting
from loomproxy.node.sockets import ListenError, Sockets, bind_unix, listen_tcp, remove_unix
from loomproxy.node.supervisor import Supervisor
from loomproxy.process import clean_environment, own_argv, reaping_orphans

KILL_MARGIN_S: Final = 3.0
"""What a worker gets beyond the drain deadline, which it meets by itself, before it is killed."""

STEP_TIMEOUT_S: Final = 5.0
"""What each step of leaving gets that waits for nothing but ourselves."""

SIGNAL_ECHO_S: Final = 0.25
"""A signal this soon after the first is the same wish: timeout(1) and some supervisors signal a
process and its group as well. A person who wants to force needs longer."""

_ADMIN_BACKLOG: Final = 64
_INIT: Final = 1  # the process that is given those whose parent left: us, in a container
_ADMIN_MODE: Final = 0o600


class Launch(msgspec.Struct, frozen=True):
    """What a node is started with."""

    config: Config
    source: Source  # reads the configuration anew
    file: str  # where from; "" when the command line said it all
    environment: Mapping[str, str]
    dice: Callable[[], float]
    greet: Callable[["Node"], None]  # called once, when it is ready
    worker_argv: tuple[str, ...] = tuple(own_argv("worker", "--channel"))


class Node:
    """One node. Make it in a running loop; `run` returns the exit status."""

    def __init__(self, launch: Launch) -> None:
        self.config = launch.config
        self.pid = os.getpid()
        self.admin_address = ""
        self.sockets = Sockets()
        self.gates = Gates()
        self.group = Group()
        self.notifier = Notifier(launch.environment)
        static = self.config.static
        self.file = launch.file
        self._launch = launch
        self._loop = asyncio.get_running_loop()
        self.started_at = Instant(self._loop.time())
        self._leave = asyncio.Event()
        self._shutdown = Shutdown()
        self._signalled_at: float | None = None  # the first time
        self.forced = False
        self._exit = 0
        self.instance_id = static.node.instance_id or f"{socket.gethostname()}-{self.pid}"
        self.supervisor = Supervisor(
            self.config, self._setting(), slots=_slots(self.config), service=self._serve_page
        )
        ground = Ground(self.config, launch.file, launch.environment, launch.dice)
        self.guests = Guests(ground, self.supervisor, self.group)
        self.reloader = Reloader(
            launch.source,
            self.supervisor,
            self.guests,
            began=self.notifier.reloading,
            ended=lambda: self.notifier.ready(self.pages.status_line()),
        )
        self.cluster = self._cluster(ground)
        self._plugins = Plugins(self.supervisor, lambda: self.guests.manager)
        self.pages = Pages(self, self._plugins)
        self.admin = Admin(
            self.pages.public(),
            status=self.pages.status,
            reload=self.reload,
            drain=self.drain,
            sections=(
                PluginApi(
                    lambda: self.guests.manager,
                    self._plugins.now,
                    self.group.spawn,
                    leaving=self._leave.is_set,
                ),
                ClusterApi(self.cluster, self.guests.problems),
            ),
            token=static.admin.token,
        )

    # What operators ask for.

    def leave(self) -> None:
        """As a signal asks: drain and leave; at the second signal, do not wait for anything.

        A signal after `drain` is the first: systemd stops in order what an operator had drained.
        """
        now = self._loop.time()
        if self._signalled_at is None:
            self._signalled_at = now
            self._leave.set()
            return
        if now - self._signalled_at < SIGNAL_ECHO_S:
            return
        log("forced", level="warning")
        self.forced = True
        self._exit = 1
        self._shutdown.force()
        self.supervisor.force()

    @property
    def leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._leave.is_set()

    def drain(self) -> None:
        """As a command asks: drain and leave, however often it is said."""
        self._leave.set()

    async def reload(self) -> Report:
        """Publish what the configuration says now, or report why not."""
        if self._leave.is_set() or not self.gates.passed:
            state = "draining" if self._leave.is_set() else "starting"
            problem = f"the node is {state}; expected a node that serves. Start it, or wait for it."
            return refusal(self.supervisor.current.revision, problem)
        if self.cluster is None:
            return await self.reloader.reload()
        return await self.cluster.reread(self._launch.source, self.reloader.reload)

    def reload_soon(self) -> None:
        """As `reload`, for a signal, which waits for no answer."""
        self.group.background(self._reload_logged(), "reload")

    def reopen_logs(self) -> None:
        """The access log was renamed."""
        log("logs are opened again")
        self.supervisor.reopen_logs()

    # How it lives.

    async def run(self) -> int:
        """Begin, serve until told to leave, leave; return the exit status."""
        self.group.add("node", self._live, self.drain)
        self.group.add("pings", self.supervisor.pinging)
        if self.pid == _INIT:
            self.group.add("orphans", reaping_orphans)
        if self.notifier.watchdog_interval_s:
            self.group.add("watchdog", self._watchdog)
        await self.group.run()
        return self._exit

    async def _live(self) -> None:
        try:
            await self._begin()
            await self._leave.wait()
        except (GateError, ListenError, RuntimeDirectoryError) as error:
            log("cannot start", level="error", reason=str(error))
            self._exit = 1
        finally:
            await self._end()

    async def _begin(self) -> None:
        """Start everything, and pass the gates; whoever asks us to leave meanwhile is heard."""
        static = self.config.static
        await self._open_admin()
        self.sockets.open(static.listeners, len(self.supervisor.slots))
        self._shutdown.add("sockets", self._close_sockets, timeout_s=STEP_TIMEOUT_S)
        timeout_s = static.node.startup_timeout_s
        begun_at = self._loop.time()
        config: Config | None = self.config
        if self.cluster is not None:
            config = await self._join(self.cluster, timeout_s)
        if config is None:
            return
        if static.node.demo_upstream:
            demo = Demo(static.node.demo_upstream, self._launch.environment)
            self._shutdown.add("demo upstream", demo.stop, timeout_s=STEP_TIMEOUT_S)
            demo.start()
            self.gates.add("demo upstream", demo.check, timeout_s=timeout_s)
        self._shutdown.add("plugins", self.guests.end, timeout_s=END_TIMEOUT_S)
        await self.guests.begin(config.plugins)
        drain_s = static.node.drain.deadline_s + KILL_MARGIN_S + STEP_TIMEOUT_S
        self._shutdown.add("workers", self._drain_workers, timeout_s=drain_s)
        self.supervisor.start(self.sockets)
        self.gates.add("workers", self.supervisor.until_ready, timeout_s=timeout_s)
        self.gates.add("plugins", self.guests.until_required, timeout_s=timeout_s)
        grace_s = static.node.drain.grace_s
        self._shutdown.add("readiness", self._grace, timeout_s=grace_s + STEP_TIMEOUT_S)
        if await self._pass_gates(timeout_s - (self._loop.time() - begun_at)):
            if self.cluster is not None:
                self.cluster.start(self.group)
            log("ready", pid=self.pid, revision=self.supervisor.current.revision)
            self.notifier.ready(self.pages.status_line())
            self._launch.greet(self)

    async def _join(self, cluster: Cluster, timeout_s: float) -> Config | None:
        """Reach the store, and learn what to begin with; None: somebody asked us to leave."""
        self._shutdown.add("cluster", cluster.end, timeout_s=cluster.end_timeout_s)
        self.gates.add("database", cluster.reach_database, timeout_s=timeout_s)
        self.gates.add("migrations", cluster.migrate, timeout_s=timeout_s)
        self.gates.add("snapshot", cluster.take_snapshot, timeout_s=timeout_s)
        if not await self._pass_gates(timeout_s, last=False):
            return None
        await self.supervisor.publish(cluster.first.dynamic)
        return cluster.first

    async def _pass_gates(self, timeout_s: float, *, last: bool = True) -> bool:
        """Pass all gates; or return False, because somebody asked us to leave."""
        await first_of(self.gates.run(timeout_s, last=last), _wait(self._leave))
        return not self._leave.is_set()

    async def _end(self) -> None:
        """Leave by every step that was registered."""
        self._leave.set()
        self.notifier.stopping()
        drain = self.config.static.node.drain
        log("draining", grace_s=drain.grace_s, deadline_s=drain.deadline_s)
        timeout_s = drain.grace_s + drain.deadline_s + KILL_MARGIN_S + 2 * STEP_TIMEOUT_S
        timeout_s += END_TIMEOUT_S
        if self.cluster is not None:
            timeout_s += self.cluster.end_timeout_s
        if await self._shutdown.run(timeout_s):
            self._exit = 1
        log("left", status=self._exit)

    async def _open_admin(self) -> None:
        """Answer operators from the first moment: health says what is being waited for.

        The private socket is there beside a configured address too, so that `status`, `reload` and
        `drain` find this instance without being told where it is.
        """
        configured = self.config.static.admin.address
        private = self._private_address(required=configured == "auto")
        self.admin_address = private if configured == "auto" else configured
        for address in dict.fromkeys((self.admin_address, private)):
            if address:
                await self._answer_at(address)

    def _private_address(self, *, required: bool) -> str:
        """Where this instance is found by default; "" if it cannot be there and need not."""
        static = self.config.static
        try:
            directory = runtime_directory(self._launch.environment, static.node.runtime_directory)
            sweep(directory)
            return f"unix:{admin_socket(directory, self.pid)}"
        except RuntimeDirectoryError as error:
            if required:
                raise
            log("no private admin socket", level="warning", reason=str(error))
            return ""

    async def _answer_at(self, address: str) -> None:
        parsed = listen_address(address)
        where = "admin.address"
        if parsed.path:
            sock = bind_unix(parsed.path, mode=_ADMIN_MODE, backlog=_ADMIN_BACKLOG, where=where)
        else:
            sock = listen_tcp(parsed, backlog=_ADMIN_BACKLOG, where=where)
        answer = self.admin.answer if parsed.path else self.admin.answer_anybody
        trusted = parsed.path or self.config.static.admin.token is not None
        limits = OPERATORS_LIMITS if trusted else LIMITS
        server = HttpServer(answer, self.group.spawn, limits=limits)
        self._shutdown.add(
            "admin", partial(self._close_admin, server, parsed.path), timeout_s=STEP_TIMEOUT_S
        )
        await server.listen(sock)

    async def _close_admin(self, server: HttpServer, path: str) -> None:
        if path:
            remove_unix(path)
        self.admin.close()
        await server.close()
        self.notifier.close()

    async def _close_sockets(self) -> None:
        self.sockets.close()

    async def _grace(self) -> None:
        """Readiness is false; give balancers the time to notice. Nothing when nothing was ready."""
        grace_s = self.config.static.node.drain.grace_s if self.gates.passed else 0.0
        async with asyncio.TaskGroup() as group:
            if self.cluster is not None:
                group.create_task(self.cluster.draining())
            await asyncio.sleep(grace_s)  # noqa: TID251 # the operator's own cadence

    async def _drain_workers(self) -> None:
        """Have workers stop accepting, close our copies of their sockets, wait until they left."""
        if self.forced:
            self.supervisor.force()
        else:
            self.supervisor.drain()
        self.sockets.close()
        await self.supervisor.until_left()

    async def _watchdog(self) -> None:
        """Tell systemd that the loop turns, twice as often as it asks."""
        while True:
            self.notifier.watchdog()
            interval_s = self.notifier.watchdog_interval_s
            await asyncio.sleep(interval_s)  # noqa: TID251 # systemd's cadence

    async def _reload_logged(self) -> None:
        report = await self.reload()
        if not report.ok and self.reloader.last is not report:
            log("reload refused", level="error", reason="; ".join(report.problems))

    async def _serve_page(self, path: bytes) -> Reply:
        return await self.admin.page(path)

    def _cluster(self, ground: Ground) -> Cluster | None:
        """Our part among others, where the configuration names a store."""
        if self.config.static.database is None:
            return None
        return Cluster(ground, self.instance_id, adopt=self._adopt, leave=self.drain)

    async def _adopt(self, source: Source) -> tuple[str, ...]:
        """Publish what the cluster says; return what stands against it."""
        if self.leaving:
            return ("the node is draining",)
        return (await self.reloader.reload(source)).problems

    def _setting(self) -> Setting:
        node = self.config.static.node
        return Setting(
            argv=self._launch.worker_argv,
            env=clean_environment(self._launch.environment),
            policy=ChildPolicy(
                ready_timeout_s=node.startup_timeout_s,
                drain_timeout_s=node.drain.deadline_s + KILL_MARGIN_S,
            ),
            drain_deadline_s=node.drain.deadline_s,
            ping_interval_s=node.worker_ping_interval_s,
            ping_timeout_s=node.worker_ping_timeout_s,
            dice=self._launch.dice,
            background=self.group.background,
        )


def _slots(config: Config) -> int:
    """How many workers: one per core that we may use, unless the configuration says."""
    workers = config.static.node.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


async def _wait(event: asyncio.Event) -> None:
    await event.wait()

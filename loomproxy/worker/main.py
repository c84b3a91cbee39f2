"""A worker process: started by the node, told what to serve, gone when the channel ends."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

import uvloop

from loomproxy.channel import (
    AccessLogTrouble,
    Channel,
    Drain,
    Drained,
    Force,
    Ping,
    Pong,
    Publish,
    Published,
    Ready,
    Refused,
    ReopenLogs,
    ServiceAnswer,
    ServiceAsk,
    Start,
    Stats,
    StatsPlease,
    ToWorker,
    worker_end,
)
from loomproxy.config.compile import compile_snapshot
from loomproxy.config.model import Config
from loomproxy.config.trust import UntrustworthyError
from loomproxy.core.event import Answered, DrainExpired
from loomproxy.core.gate import connections_affordable
from loomproxy.core.units import Instant
from loomproxy.core.wheel import TICK_S
from loomproxy.core.world import World
from loomproxy.log import flush, hear_libraries, introduce, log
from loomproxy.worker.accesslog import AccessLog
from loomproxy.worker.clock import http_date, monotonic
from loomproxy.worker.driver import wake
from loomproxy.worker.lines import line_for, refresh_clock
from loomproxy.worker.listener import ListenerAt
from loomproxy.worker.probes import Probes
from loomproxy.worker.services import Services
from loomproxy.worker.status import pool_statuses

FORCED_EXIT: Final = 3
"""Exit status of a worker whose node is gone."""

LAST_PONG: Final = 0
"""The number of a pong that nobody asked for: the node's pings begin with 1."""

LAST_LINES_S: Final = 2.0
"""How long the access log's last lines may take; a pipe that nobody reads never takes them."""

LAST_WORDS_S: Final = 1.0
"""After the drain deadline: how long the last answers may take to leave."""


def run(fd: int) -> None:
    """Be a worker on the channel at descriptor `fd`; returns when it has drained."""
    hear_libraries()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the node decides.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=fd)))


def _connections_max(wanted: int | str) -> int:
    """How many connections this worker may have, by its configuration and its descriptors."""
    affordable = connections_affordable(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return min(wanted, affordable) if isinstance(wanted, int) else affordable


async def _run(sock: socket.socket) -> None:
    await Worker(sock).run()


class Worker:
    """One worker from `Start` to `Drained`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0.0)
        self._sock = sock
        self._channel: Channel[ToWorker] | None = None
        self._start: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._services: Services | None = None
        self._listeners: list[ListenerAt] = []
        self._access_log: AccessLog | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._stuck = False  # the access log's thread cannot be ended
        self._told = asyncio.Event()  # the channel is closed, all that was said has left
        self._probes: Probes | None = None
        self._config: Config | None = None
        self._revision = 0
        self._drain_s: float | None = None
        self._leaving = asyncio.Event()  # drain, or be gone
        self._patience: asyncio.Timeout | None = None  # while exchanges are waited for
        self._lag_s = 0.0
        self._ticked_at = 0.0
        self._hears: dict[type, Callable[[Any], None]] = {
            Start: self._start.set_result,
            Publish: self._publish,
            Drain: self._begin_drain,
            Force: self._force,
            Ping: self._pong,
            StatsPlease: self._stats,
            ReopenLogs: self._reopen,
            ServiceAnswer: self._served,
        }

    async def run(self) -> None:
        """Serve until drained."""
        self._channel = await worker_end(self._sock, self._hear, self._node_gone)
        start = await self._start
        introduce(slot=start.slot, pid=os.getpid())
        self._config = start.config
        async with asyncio.TaskGroup() as group:
            services = self._set_up(start, group)
            for listener in self._listeners:
                await listener.start()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._drain_by_signal)
            self._say(Ready(start.slot, os.getpid()))
            gc.collect()
            gc.freeze()  # What lives since the start lives to the end: no need to look at it again.
            await self._leaving.wait()
            await self._drain(services)
        self._pong(Ping(LAST_PONG))  # What was counted since the last one.
        self._say(Drained())
        self._channel.close()
        if self._stuck:
            # A thread hangs in a write that nobody takes, and Python would wait for it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._told.wait()
            flush()
            os._exit(0)

    def _set_up(self, start: Start, group: asyncio.TaskGroup) -> Services:
        config = start.config
        self._revision = start.revision
        world = World(compile_snapshot(config, start.revision, start.providers))
        access_log = config.static.access_log
        self._access_log = AccessLog(
            access_log.path, line_for(access_log.format), self._log_trouble
        )
        self._log_task = group.create_task(self._access_log.run())
        self._services = services = Services(
            world,
            group,
            self._access_log,
            self._ask_node,
            connections_max=_connections_max(config.static.node.connections_max),
        )
        by_name = {listener.name: listener for listener in config.static.listeners}
        self._listeners = [
            ListenerAt(by_name[at.name], socket.socket(fileno=at.fd), services)
            for at in start.listeners
        ]
        self._secure(services)
        self._probes = Probes(services)
        self._probes.follow(world)
        self._tick()
        return services

    def _secure(self, services: Services) -> None:
        """Read what pools need for TLS; what is wrong by now is no reason not to serve the rest."""
        try:
            services.secure.prepare(services.world.snapshot.pools.values())
        except UntrustworthyError as error:
            log("tls cannot be used", level="error", reason=error.problem)

    # --- what the node says -----------------------------------------------------------------------

    def _hear(self, message: ToWorker) -> None:
        self._hears[type(message)](message)

    def _say(self, message: Any) -> None:
        assert self._channel is not None
        self._channel.send(message)

    def _node_gone(self, why: str) -> None:
        """Without its node a worker has no readiness, no metrics and nobody to replace it."""
        self._told.set()
        if self._leaving.is_set() and not why:
            return
        log("the node is gone", level="error", reason=why or "closed")
        flush()
        os._exit(FORCED_EXIT)

    def _publish(self, message: Publish) -> None:
        services, config = self._services, self._config
        assert services is not None
        assert config is not None
        assert self._probes is not None
        try:
            snapshot = compile_snapshot(
                Config(config.static, message.dynamic), message.revision, message.providers
            )
        except ValueError as error:  # The node compiled it before: only a bug of ours comes here.
            self._say(Refused(message.revision, str(error)))
            return
        try:
            services.secure.prepare(
                snapshot.pools.values(), as_before=message.dynamic == config.dynamic
            )
        except UntrustworthyError as error:  # A file changed since the node looked at it.
            self._say(Refused(message.revision, str(error)))
            return
        self._config = Config(config.static, message.dynamic)
        services.keepalive.close(services.world.publish(snapshot))
        self._probes.follow(services.world)
        self._revision = message.revision
        self._say(Published(message.revision))

    def _begin_drain(self, message: Drain) -> None:
        self._drain_s = message.deadline_s
        self._leaving.set()

    def _drain_by_signal(self) -> None:
        config = self._config
        assert config is not None
        self._begin_drain(Drain(config.static.node.drain.deadline_s))

    def _force(self, _message: Force) -> None:
        self._drain_s = 0.0
        self._leaving.set()
        self._end_exchanges()
        patience = self._patience
        if patience is not None and not patience.expired():
            soon_at = asyncio.get_running_loop().time() + LAST_WORDS_S
            patience.reschedule(min(patience.when() or soon_at, soon_at))

    def _pong(self, message: Ping) -> None:
        services = self._services
        if services is None:
            return
        tally = services.tally
        tally.access_log_dropped = self._access_log.lost if self._access_log else 0
        self._say(
            Pong(
                message.number,
                self._lag_s,
                services.tally,
                len(services.tellers),
                services.in_flight,
                len(asyncio.all_tasks()),
            )
        )
        self._lag_s = 0.0

    def _stats(self, message: StatsPlease) -> None:
        services = self._services
        if services is not None:
            pools = pool_statuses(services, services.now())
            self._say(Stats(message.number, self._revision, pools, services.tally))

    def _reopen(self, _message: ReopenLogs) -> None:
        if self._access_log is not None:
            self._access_log.reopen()

    def _served(self, message: ServiceAnswer) -> None:
        assert self._services is not None
        asker = self._services.served(message.ask)
        if asker is not None:
            driver, ask = asker
            driver.tell(Answered(ask, message.status, message.content_type, message.body))

    # --- what the worker does by itself -----------------------------------------------------------

    def _ask_node(self, number: int, path: bytes) -> None:
        self._say(ServiceAsk(number, path))

    def _log_trouble(self, reason: str, lines_lost: int) -> None:
        log("access log", level="error", reason=reason, access_lines_lost=lines_lost)
        self._say(AccessLogTrouble(reason, lines_lost))

    def _tick(self) -> None:
        """Look at the deadlines, and at how late we are."""
        services = self._services
        assert services is not None
        services.loop.call_later(TICK_S, self._tick)  # First: whatever happens now, it goes on.
        now = monotonic()
        if self._ticked_at:
            self._lag_s = max(self._lag_s, now - self._ticked_at - TICK_S)
        self._ticked_at = now
        refresh_clock()
        services.world.date = http_date()
        services.expire()
        services.notice()
        for pool in services.world.pools.values():
            for ticket in pool.wake(Instant(now)):
                wake(ticket)

    async def _drain(self, services: Services) -> None:
        """Stop accepting, let exchanges finish, end what is left, write the last lines."""
        deadline_at = services.loop.time() + (self._drain_s or 0.0)
        services.world.draining = True
        for listener in self._listeners:
            await listener.stop()
            listener.hurry()
        await self._until_empty(services, deadline_at)
        self._end_exchanges()
        await self._until_empty(services, services.loop.time() + LAST_WORDS_S)
        for listener in self._listeners:
            listener.abandon()
        # They are lost at the loop's next turn, and only then counted and written down.
        await self._until_empty(services, services.loop.time() + LAST_WORDS_S)
        services.keepalive.close()
        assert self._probes is not None
        assert self._access_log is not None
        self._probes.stop()
        self._access_log.close()
        assert self._log_task is not None
        await asyncio.wait({self._log_task}, timeout=LAST_LINES_S)
        if not self._log_task.done():
            self._access_log.give_up()
            self._log_task.cancel()
            self._stuck = True

    async def _until_empty(self, services: Services, deadline_at: float) -> None:
        try:
            async with asyncio.timeout_at(deadline_at) as self._patience:
                await services.empty.wait()
        except TimeoutError:
            pass
        finally:
            self._patience = None

    def _end_exchanges(self) -> None:
        if self._services is not None:
            for driver in list(self._services.tellers):
                if driver.exchange is not None:
                    driver.tell(DrainExpired())

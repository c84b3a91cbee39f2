"""All worker slots: starts them, pings them, publishes to them, drains them.

The supervisor knows what every worker should serve (`Current`), and brings each to it: a worker
that starts gets it in its first message, one that was starting while a revision was published gets
that as soon as it is ready. What is published is current only when every worker that is ready has
said so; if one refuses or is silent, those that took it are given back what was current before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from loomproxy.channel import (
    AccessLogTrouble,
    Force,
    ListenerSocket,
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
    ToNode,
)
from loomproxy.config.model import Admin, Cluster, Config, Dynamic, Static
from loomproxy.core.chat.provider import Provider
from loomproxy.core.child import Event, State
from loomproxy.core.tally import Tally, Totals
from loomproxy.log import log
from loomproxy.node.http import Reply
from loomproxy.node.slot import Setting, Slot, Worker
from loomproxy.node.sockets import Sockets

PUBLISH_TIMEOUT_S: Final = 10.0
"""How long workers may take to swap to a new revision; it takes them milliseconds."""

STATS_TIMEOUT_S: Final = 2.0
"""How long workers may take to say how their pools are; those that do not are left out."""

SERVICE_ASKS_MAX: Final = 64
"""Pages of the house that one worker may be waiting for; what is beyond is answered 503."""


class Current(msgspec.Struct):
    """What every worker should serve."""

    dynamic: Dynamic
    revision: int = 1
    providers: tuple[Provider, ...] = ()


class _Publication:
    """A revision on its way to the workers."""

    def __init__(self, revision: int, workers: set[Worker]) -> None:
        self.revision = revision
        self.waiting = workers
        self.refusals: list[str] = []
        self.done = asyncio.Event()
        self.settle()

    def settle(self) -> None:
        """Done when everybody has answered or somebody refused."""
        if not self.waiting or self.refusals:
            self.done.set()


class Supervisor:
    """The keeper of all slots. `service` answers what workers ask for the house's own pages."""

    def __init__(
        self,
        config: Config,
        setting: Setting,
        *,
        slots: int,
        service: Callable[[bytes], Awaitable[Reply]],
    ) -> None:
        self.static: Static = config.static
        self.current = Current(config.dynamic)
        self.totals = Totals()
        self.refusal = ""  # why a starting worker could not use what is current; "" when it could
        self.loop_lag_s = 0.0  # of the node: how late the last round of pings was
        self._setting = setting
        self._service = service
        self._service_asks: dict[Worker, int] = {}
        self._next_revision = self.current.revision + 1
        self._publication: _Publication | None = None
        self._publishing = asyncio.Lock()
        self._stats: dict[Worker, Stats] = {}
        self._stats_number = 0
        self._changed = asyncio.Event()
        self.slots = [
            Slot(
                number,
                setting,
                start=self._start_message,
                hear=self._hear,
                retire=self._retire,
                changed=self._changed.set,
            )
            for number in range(slots)
        ]

    @property
    def all_ready(self) -> bool:
        """Whether every slot has a worker that serves what is current."""
        return self.ready == len(self.slots)

    @property
    def ready(self) -> int:
        """How many slots have such a worker."""
        return sum(
            slot.state is State.READY
            and slot.worker is not None
            and slot.worker.revision == self.current.revision
            for slot in self.slots
        )

    @property
    def serving(self) -> set[int]:
        """The slots whose worker serves, be it an older revision."""
        return {slot.number for slot in self.slots if slot.state is State.READY}

    @property
    def restarts(self) -> int:
        """How many workers were started beyond the first of each slot."""
        return sum(max(0, slot.starts - 1) for slot in self.slots)

    def pongs(self) -> list[Pong]:
        """The last word of every worker that lives and has said one."""
        workers = [slot.worker for slot in self.slots]
        return [worker.pong for worker in workers if worker is not None and worker.pong is not None]

    def total(self) -> Tally:
        """What all workers counted, those that are gone included."""
        return self.totals.total()

    def start(self, sockets: Sockets) -> None:
        """Start a worker in every slot, with the slot's sockets."""
        for slot in self.slots:
            slot.sockets = sockets.of_slot(slot.number)
            slot.tell(Event.START)

    async def until_ready(self) -> None:
        """Return when every worker is ready."""
        await self._until(lambda: self.all_ready)

    async def until_left(self) -> None:
        """Return when no worker is left."""
        await self._until(lambda: not any(slot.running for slot in self.slots))

    def drain(self) -> None:
        """Tell every worker to finish and leave; those that do not meet the deadline are killed."""
        for slot in self.slots:
            slot.tell(Event.STOP)

    def force(self) -> None:
        """End every worker now."""
        for slot in self.slots:
            slot.send(Force())
            slot.tell(Event.FORCE)

    def reopen_logs(self) -> None:
        """Tell every worker that its access log was renamed."""
        for slot in self.slots:
            slot.send(ReopenLogs())

    async def pinging(self) -> None:
        """Ping every worker at the configured interval, for ever."""
        number = 0
        interval_s = self._setting.ping_interval_s
        loop = asyncio.get_running_loop()
        while True:
            number += 1
            for slot in self.slots:
                slot.ping(number)
            awake_at = loop.time() + interval_s
            await asyncio.sleep(interval_s)  # noqa: TID251 # the supervisor's own cadence
            self.loop_lag_s = max(0.0, loop.time() - awake_at)

    async def publish(
        self, dynamic: Dynamic | None = None, providers: tuple[Provider, ...] | None = None
    ) -> tuple[str, ...]:
        """Make these current everywhere, or nowhere; return what stood against it, or nothing.

        What is None stays as it is. One at a time: who comes meanwhile waits.
        """
        async with self._publishing:
            current = self.current
            return await self._publish(
                current.dynamic if dynamic is None else dynamic,
                current.providers if providers is None else providers,
            )

    async def _publish(self, dynamic: Dynamic, providers: tuple[Provider, ...]) -> tuple[str, ...]:
        assert self._publication is None
        revision = self._take_revision()
        workers = {
            slot.worker
            for slot in self.slots
            if slot.state is State.READY and slot.worker is not None
        }
        publication = self._publication = _Publication(revision, workers)
        try:
            self._send(Publish(dynamic, revision, providers))
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await publication.done.wait()
        except TimeoutError:
            silent = ", ".join(str(worker.pid) for worker in publication.waiting)
            publication.refusals.append(
                f"no answer within {PUBLISH_TIMEOUT_S:.0f} s from worker with pid {silent}"
            )
        except asyncio.CancelledError:  # Nobody waits any more, and some may have taken it.
            self._take_back()
            raise
        finally:
            self._publication = None
        if publication.refusals:
            self._take_back()
            return tuple(publication.refusals)
        self.current = Current(dynamic, revision, providers)
        self._bring_up_to_date()
        self._changed.set()
        return ()

    async def stats(self) -> dict[int, Stats]:
        """How each worker sees its pools, by slot; without those that do not answer in time."""
        self._stats_number += 1
        asked = [slot for slot in self.slots if slot.state is State.READY]
        for slot in asked:
            slot.send(StatsPlease(self._stats_number))
        number = self._stats_number
        try:
            async with asyncio.timeout(STATS_TIMEOUT_S):
                await self._until(lambda: all(self._answered(slot, number) for slot in asked))
        except TimeoutError:
            log("a worker does not say how its pools are", level="warning")
        return {
            slot.number: self._stats[slot.worker]
            for slot in asked
            if slot.worker is not None and slot.worker in self._stats
        }

    def _answered(self, slot: Slot, number: int) -> bool:
        """Whether the worker of `slot` has answered question `number`, or cannot any more."""
        worker = slot.worker
        if worker is None or slot.state is not State.READY:
            return True
        stats = self._stats.get(worker)
        return stats is not None and stats.number >= number

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _start_message(self, slot: int, listeners: tuple[ListenerSocket, ...]) -> Start:
        # What lets operators in, and where shared state is kept, is the node's alone.
        static = msgspec.structs.replace(
            self.static, admin=Admin(), database=None, cluster=Cluster()
        )
        config = Config(static, self.current.dynamic)
        return Start(slot, listeners, config, self.current.revision, self.current.providers)

    def _take_revision(self) -> int:
        revision = self._next_revision
        self._next_revision += 1
        return revision

    def _send(self, publish: Publish) -> None:
        for slot in self.slots:
            if slot.state is State.READY:
                slot.send(publish)

    def _take_back(self) -> None:
        """Publish again what was current; under a new number, because revisions only grow."""
        self.current = msgspec.structs.replace(self.current, revision=self._take_revision())
        self._send(self._current_as_message())

    def _current_as_message(self) -> Publish:
        current = self.current
        return Publish(current.dynamic, current.revision, current.providers)

    def _bring_up_to_date(self) -> None:
        """Publish what is current to the workers that became ready meanwhile."""
        for slot in self.slots:
            worker = slot.worker
            ready = slot.state is State.READY and worker is not None
            if ready and worker is not None and worker.revision != self.current.revision:
                slot.send(self._current_as_message())

    def _hear(self, slot: Slot, worker: Worker, message: ToNode) -> None:
        match message:
            case Pong():
                self.totals.heard(worker, message.tally)
            case Ready():
                self.refusal = ""
                if self._publication is None:
                    self._bring_up_to_date()
            case Published() | Refused():
                self._hear_about_revision(slot, worker, message)
            case Stats():
                self._hear_stats(worker, message)
            case ServiceAsk():
                self._hear_ask(slot, worker, message)
            case AccessLogTrouble():
                log(
                    "access log trouble",
                    level="error",
                    slot=slot.number,
                    reason=message.reason,
                    lines_lost=message.lines_lost,
                )
            case _:
                pass  # Drained: the worker leaves by itself, and its end is what counts.

    def _hear_stats(self, worker: Worker, message: Stats) -> None:
        self._stats[worker] = message
        if message.tally is not None:
            self.totals.heard(worker, message.tally)

    def _hear_about_revision(
        self, slot: Slot, worker: Worker, message: Published | Refused
    ) -> None:
        if isinstance(message, Refused):
            log(
                "worker refuses a revision",
                level="error",
                slot=slot.number,
                revision=message.revision,
                reason=message.reason,
            )
            if slot.state is State.STARTING:
                self.refusal = message.reason
        publication = self._publication
        if publication is None or publication.revision != message.revision:
            return
        publication.waiting.discard(worker)
        if isinstance(message, Refused):
            publication.refusals.append(f"worker {slot.number} refuses it: {message.reason}")
        publication.settle()

    def _hear_ask(self, slot: Slot, worker: Worker, message: ServiceAsk) -> None:
        asks = self._service_asks.get(worker, 0)
        if asks >= SERVICE_ASKS_MAX:
            slot.send(ServiceAnswer(message.ask, 503, b"text/plain", b"Too many at once.\n"))
            return
        self._service_asks[worker] = asks + 1
        self._setting.background(self._serve(worker, message), "page for a worker")

    async def _serve(self, worker: Worker, message: ServiceAsk) -> None:
        """Answer a page that a worker's client asked for."""
        reply = await self._service(message.path)
        if worker in self._service_asks:
            self._service_asks[worker] -= 1
        if worker.channel is not None:
            worker.channel.send(
                ServiceAnswer(message.ask, reply.status, reply.content_type, reply.body)
            )

    def _retire(self, worker: Worker) -> None:
        """A worker is gone: keep its counters, forget the rest."""
        self.totals.lost(worker)
        self._stats.pop(worker, None)
        self._service_asks.pop(worker, None)
        if self._publication is not None:
            self._publication.waiting.discard(worker)
            self._publication.settle()

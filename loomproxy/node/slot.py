"""One worker slot: the place of a worker, which outlives it, and the worker in it.

What becomes of a worker is decided by `core.child`; here its decisions are carried out: spawn, say
Drain, kill. A worker has left when its process has ended *and* its channel has: what it said last
is still heard, its last counters above all.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from loomproxy.channel import (
    Channel,
    Drain,
    ListenerSocket,
    Message,
    Ping,
    Pong,
    Published,
    Ready,
    Start,
    ToNode,
    node_end,
)
from loomproxy.core.child import Child, ChildPolicy, Command, Event, State
from loomproxy.core.tally import Tally
from loomproxy.core.units import NEVER, Instant
from loomproxy.log import is_line, log, relay
from loomproxy.process import Exit, Process, spawn


class Setting(msgspec.Struct, frozen=True):
    """What all slots have in common."""

    argv: tuple[str, ...]  # of a worker; the number of its channel is appended
    env: dict[str, str]
    policy: ChildPolicy
    drain_deadline_s: float
    ping_interval_s: float
    ping_timeout_s: float
    dice: Callable[[], float]  # 0..1, for the jitter of a backoff
    background: Callable[[Coroutine[Any, Any, None], str], None]  # the group's


class Worker:
    """One life in a slot."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.channel: Channel[Any] | None = None
        self.exit: Exit | None = None
        self.channel_ended = False
        self.revision = 0  # that its new exchanges are born into; 0: none yet
        self.pings_owed = 0
        self.pong: Pong | None = None
        self.pong_at = Instant(0.0)
        self.requests_per_s = 0.0
        self.drained = False

    @property
    def pid(self) -> int:
        """Its process id; 0 when it could not be started."""
        return self.process.pid if self.process is not None else 0


class Slot:
    """One slot.

    `start` makes the first message for a worker; `hear` is told what a worker says, and `retire`
    its last counters when it is gone; `changed` that the slot's state may be another.
    """

    def __init__(
        self,
        number: int,
        setting: Setting,
        *,
        start: Callable[[int, tuple[ListenerSocket, ...]], Start],
        hear: Callable[["Slot", Worker, ToNode], None],
        retire: Callable[[Worker], None],
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.starts = 0
        self.sockets: list[tuple[str, socket.socket]] = []
        self._setting = setting
        self._start = start
        self._hear_worker = hear
        self._retire = retire
        self._changed = changed
        self._child = Child(setting.policy)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def state(self) -> State:
        """Where in its life the worker of this slot is."""
        return self._child.state

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._child.running

    @property
    def backoff_s(self) -> float:
        """How long until the next start; 0 when none is waited for."""
        if self.state is not State.BACKOFF:
            return 0.0
        return max(0.0, self._child.deadline_at - self._loop.time())

    def tell(self, event: Event) -> None:
        """Something happened to the worker: decide, and do."""
        commands = self._child.handle(event, Instant(self._loop.time()), self._setting.dice())
        self._arm()
        for command in commands:
            self._do(command)
        self._changed()

    def send(self, message: Message) -> None:
        """Say something to the worker, where there is one to hear it."""
        if self.worker is not None and self.worker.channel is not None:
            self.worker.channel.send(message)

    def ping(self, number: int) -> None:
        """Ask whether its loop turns, and replace it when it owes too many answers.

        Counted in pings and not in seconds: a node that was itself stopped for a while has asked
        nothing, and must not take its workers for hung.
        """
        worker = self.worker
        if worker is None or self.state is not State.READY:
            return
        if worker.pings_owed * self._setting.ping_interval_s >= self._setting.ping_timeout_s:
            log(
                "worker hangs",
                level="error",
                slot=self.number,
                pid=worker.pid,
                pings_owed=worker.pings_owed,
            )
            self.tell(Event.HUNG)
            return
        worker.pings_owed += 1
        self.send(Ping(number))

    def _arm(self) -> None:
        """Have DEADLINE said at the child's deadline, and not for an earlier one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._child.deadline_at != NEVER:
            self._timer = self._loop.call_at(self._child.deadline_at, self._deadline)

    def _deadline(self) -> None:
        self._timer = None
        if self.running:
            log("worker is late", level="error", slot=self.number, state=self.state.value)
        self.tell(Event.DEADLINE)

    def _do(self, command: Command) -> None:
        match command:
            case Command.SPAWN:
                self._spawn()
            case Command.DRAIN:
                self.send(Drain(self._setting.drain_deadline_s))
            case Command.KILL:
                if self.worker is not None and self.worker.process is not None:
                    self.worker.process.kill()

    def _spawn(self) -> None:
        """Start a worker with its end of a channel and the slot's sockets."""
        self.starts += 1
        worker = self.worker = Worker()
        ours, theirs = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        fds = (theirs.fileno(), *(sock.fileno() for _name, sock in self.sockets))
        try:
            worker.process = spawn(
                (*self._setting.argv, str(theirs.fileno())),
                env=self._setting.env,
                pass_fds=fds,
                left=partial(self._process_left, worker),
                said=partial(self._said, worker),
            )
        except OSError as error:
            ours.close()
            worker.channel_ended = True
            log("worker cannot be started", level="error", slot=self.number, reason=str(error))
            self._loop.call_soon(self._process_left, worker, Exit(1, (str(error),)))
            return
        finally:
            theirs.close()
        log("worker started", slot=self.number, pid=worker.pid)
        self._setting.background(self._open(worker, ours), f"channel of slot {self.number}")

    async def _open(self, worker: Worker, ours: socket.socket) -> None:
        """Open our end, and say the first word."""
        hear = partial(self._hear, worker)
        worker.channel = await node_end(ours, hear, partial(self._channel_ended, worker))
        listeners = tuple(ListenerSocket(name, sock.fileno()) for name, sock in self.sockets)
        start = self._start(self.number, listeners)
        worker.revision = start.revision
        worker.channel.send(start)
        if self.state is State.DRAINING:  # STOP came before there was a channel to say it on
            worker.channel.send(Drain(self._setting.drain_deadline_s))

    def _said(self, worker: Worker, line: str) -> None:
        relay(line, "worker said", slot=self.number, pid=worker.pid)

    def _hear(self, worker: Worker, message: ToNode) -> None:
        """Keep what concerns the slot, and pass everything on."""
        if isinstance(message, Pong):
            worker.pings_owed = 0
            self._note(worker, message)
        elif isinstance(message, Published):
            worker.revision = message.revision
        elif isinstance(message, Ready):
            log("worker ready", slot=self.number, pid=worker.pid, revision=worker.revision)
            self.tell(Event.SAID_READY)
        self._hear_worker(self, worker, message)
        self._changed()

    def _note(self, worker: Worker, pong: Pong) -> None:
        """Keep the newest counters, and how fast they grow."""
        now = Instant(self._loop.time())
        if worker.pong is not None and now > worker.pong_at:
            more = exchanges(pong.tally) - exchanges(worker.pong.tally)
            worker.requests_per_s = more / (now - worker.pong_at)
        worker.pong = pong
        worker.pong_at = now

    def _channel_ended(self, worker: Worker, why: str) -> None:
        worker.channel_ended = True
        worker.channel = None
        if worker.exit is not None:
            self._gone(worker, worker.exit)
        elif self.state in (State.STARTING, State.READY):
            # It runs and cannot be spoken to. A worker that leaves by itself ends a moment later.
            log("channel lost", level="warning", slot=self.number, pid=worker.pid, reason=why)
            self.tell(Event.HUNG)

    def _process_left(self, worker: Worker, end: Exit) -> None:
        worker.exit = end
        if worker.channel_ended:
            self._gone(worker, end)

    def _gone(self, worker: Worker, end: Exit) -> None:
        """The worker has left in every sense."""
        expected = self.state is State.DRAINING and end.code == 0
        last = next((line for line in reversed(end.lines) if not is_line(line)), "")
        log(
            "worker left",
            level="info" if expected else "error",
            slot=self.number,
            pid=worker.pid,
            reason=str(end),
            said=last,
        )
        self.worker = None
        self._retire(worker)
        self.tell(Event.LEFT)


def exchanges(tally: Tally) -> int:
    """How many exchanges were finished."""
    return sum(sum(series.requests) for series in tally.series.values())

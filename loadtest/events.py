"""A client of many event streams at once: `Listener` opens them evenly and reads until they end.

Streams are opened one after the other over RAMP_S, so that their events come evenly spread. Each is
told to last as long as ramp and measurement together, and SPARE_S more. In between, when all speak
and none has ended, the measurement takes place: what the proxy uses then is the price of relaying.

The time to the first byte runs from the request's last byte to the answer's first one. It holds
what the proxy needs to accept the connection and to open one to the upstream, while all streams
that are open already keep it busy.
"""

import select
import socket
import time
from dataclasses import dataclass, field

from loadtest import speech
from loadtest.load import US_PER_S, Load, Task, percentile, pinned
from loadtest.processes import LOOPBACK
from loadtest.stream import Stream
from loadtest.trouble import Trouble
from loadtest.upstream import LIVE

RAMP_S = 1.0
SPARE_S = 1.5  # How long we wait for the first bytes of the last streams before we begin anyhow.
GRACE_S = 5.0  # How long streams may be late at their end before the rest of them is lost.
READ_BYTES_MAX = 65_536
ANSWER_TIMEOUT_S = 5.0
VERIFIED_EVENTS = 2  # More than come with the head: a proxy that holds them back is found out.
ASK = (
    f"GET {speech.EVENTS}%d HTTP/1.1\r\nHost: {LOOPBACK}\r\n"
    "User-Agent: listener\r\nAccept: text/event-stream\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class EventStreams:
    """The workload of many event streams at once, as data."""

    connections: int
    ramp_s: float = RAMP_S
    spare_s: float = SPARE_S
    upstream: str = field(default=LIVE, init=False)

    def verify(self, port: int) -> None:
        """Refuse a port that does not stream: Trouble when a stream is not right."""
        listener = Listener(port, events_each=VERIFIED_EVENTS)
        try:
            listener.open()
            listener.read_until(time.monotonic() + ANSWER_TIMEOUT_S)
        finally:
            listener.close()
        (one,) = listener.heard
        if one.stream.problem or not one.stream.ended or one.stream.seen != VERIFIED_EVENTS:
            raise Trouble(
                f"port {port}: of an event stream {one.stream.seen} of {VERIFIED_EVENTS} events"
                f" came as they should; ended: {one.stream.ended}; {one.stream.problem}."
            )

    def run(self, task: Task) -> Load:
        """Hold all streams for the seconds of the task; tell events, times, and what was missed."""
        events_each = round((self.ramp_s + task.seconds + self.spare_s) * speech.EVENTS_PER_S)
        listener = Listener(task.port, events_each=events_each)
        with pinned(task.core):
            try:
                self._open_evenly(listener)
                late = listener.waiting
                with task.watch:
                    seen, began_at = listener.seen, time.monotonic()
                    listener.read_until(began_at + task.seconds)
                    done, ended_at = listener.seen - seen, time.monotonic()
                listener.read_until(ended_at + self.ramp_s + self.spare_s + GRACE_S)
            finally:
                listener.close()
        first = [one.first_byte_s * US_PER_S for one in listener.heard if one.first_at]
        return Load(
            done=done,
            duration_us=round((ended_at - began_at) * US_PER_S),
            p50_us=round(percentile(first, 50)),
            p99_us=round(percentile(first, 99)),
            failures={**listener.failures, "streams_late": late},
        )

    def _open_evenly(self, listener: "Listener") -> None:
        began_at = time.monotonic()
        for number in range(self.connections):
            listener.read_until(began_at + self.ramp_s * number / self.connections)
            listener.open()
        listener.read_until(began_at + self.ramp_s)
        while listener.waiting and time.monotonic() < began_at + self.ramp_s + self.spare_s:
            listener.read_until(time.monotonic() + speech.EVENT_PERIOD_S)


class Heard:
    """One connection with its stream and its moments."""

    __slots__ = ("asked_at", "first_at", "socket", "stream")

    def __init__(self, connection: socket.socket) -> None:
        """Begin when the request has been sent on `connection`."""
        self.socket = connection
        self.asked_at = time.monotonic()
        self.first_at = 0.0
        self.stream = Stream()

    @property
    def first_byte_s(self) -> float:
        """How long the first byte of the answer took."""
        return self.first_at - self.asked_at


class Listener:
    """All streams of one run, behind one epoll."""

    def __init__(self, port: int, *, events_each: int) -> None:
        """Listen to streams of `events_each` events from `port`."""
        self.port = port
        self.events_each = events_each
        self.heard: list[Heard] = []
        self.ask = (ASK % events_each).encode()
        self.listening: dict[int, Heard] = {}
        self.epoll = select.epoll()

    def open(self) -> None:
        """Ask for one more stream."""
        connection = socket.create_connection((LOOPBACK, self.port), timeout=ANSWER_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(self.ask)
        connection.settimeout(0)
        one = Heard(connection)
        self.heard.append(one)
        self.listening[connection.fileno()] = one
        self.epoll.register(connection, select.EPOLLIN)

    @property
    def waiting(self) -> int:
        """How many streams have not had their first byte."""
        return sum(not one.first_at for one in self.heard)

    @property
    def seen(self) -> int:
        """How many events have come on all streams."""
        return sum(one.stream.seen for one in self.heard)

    @property
    def failures(self) -> dict[str, int]:
        """Events that never came as they should, and streams that did not end as they should."""
        broken = [one for one in self.heard if one.stream.problem or not one.stream.ended]
        missing = len(self.heard) * self.events_each - self.seen
        return {"events_missing": missing, "streams_broken": len(broken)}

    def read_until(self, deadline_at: float) -> None:
        """Read what comes until the moment `deadline_at`, or until all streams have ended."""
        while self.listening and (remaining_s := deadline_at - time.monotonic()) > 0:
            for descriptor, _ in self.epoll.poll(remaining_s):
                self._read(self.listening[descriptor])

    def _read(self, one: Heard) -> None:
        try:
            received = one.socket.recv(READ_BYTES_MAX)
        except OSError:
            received = b""
        stream = one.stream
        if not one.first_at:
            one.first_at = time.monotonic()
        if received:
            stream.feed(received)
        elif not stream.ended:
            stream.problem = stream.problem or "closed before its end"
        if stream.ended or stream.problem or not received:
            self._leave(one)

    def _leave(self, one: Heard) -> None:
        del self.listening[one.socket.fileno()]
        one.socket.close()

    def close(self) -> None:
        """Close what is still open."""
        for one in list(self.listening.values()):
            self._leave(one)
        self.epoll.close()

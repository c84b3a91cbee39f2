"""A client of many WebSocket connections that say something, wait for its echo, and say it again.

The handshake is a real one (RFC 6455 §4.1) and its answer is checked. After it, each connection
says one message, always the same, masked once; the answer must be the very bytes that a server
frames it as. Pings, fragments and closing frames do not occur: the upstream is ours, and a proxy
relays a tunnel without looking.
"""

import base64
import os
import select
import socket
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest import speech
from loadtest.load import US_PER_S, Load, Task, percentile, pinned
from loadtest.processes import LOOPBACK
from loadtest.trouble import Trouble
from loadtest.upstream import LIVE

ANSWER_TIMEOUT_S = 5.0
READ_BYTES_MAX = 65_536
HEAD_BYTES_MAX = 16_384
KEY_BYTES = 16  # RFC 6455 §4.1.
SWITCHED = b"HTTP/1.1 101 "
VERIFY_S = 0.1
HANDSHAKE = (
    f"GET {speech.ECHO} HTTP/1.1\r\nHost: {LOOPBACK}\r\nUser-Agent: echoes\r\n"
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: %s\r\n\r\n"
).encode()


@dataclass(frozen=True, slots=True)
class Echoes:
    """The workload of echoes over upgraded connections, as data."""

    connections: int
    upstream: str = field(default=LIVE, init=False)

    def verify(self, port: int) -> None:
        """Refuse a port that does not upgrade and echo: Trouble says how."""
        with Room(port, 1) as room:
            room.begin()
            room.talk_until(time.monotonic() + VERIFY_S)
            room.end(time.monotonic() + ANSWER_TIMEOUT_S)
            if room.failed or not room.round_trips_us:
                raise Trouble(f"port {port}: no echo over a WebSocket: {room.problems}.")

    def run(self, task: Task) -> Load:
        """Talk on all connections for the seconds of the task; tell round trips and failures."""
        with pinned(task.core), Room(task.port, self.connections) as room:
            with task.watch:
                began_at = time.monotonic()
                room.begin()
                room.talk_until(began_at + task.seconds)
                took_s, done = time.monotonic() - began_at, len(room.round_trips_us)
            room.end(time.monotonic() + ANSWER_TIMEOUT_S)
            return Load(
                done=done,
                duration_us=round(took_s * US_PER_S),
                p50_us=round(percentile(room.round_trips_us, 50)),
                p99_us=round(percentile(room.round_trips_us, 99)),
                failures={"connections_failed": room.failed},
            )


class Talker:
    """One upgraded connection and what it waits for."""

    __slots__ = ("answer", "come", "message", "said_at", "socket")

    def __init__(self, connection: socket.socket, number: int) -> None:
        """Take `connection`, which is upgraded, as connection `number` of its room."""
        self.socket = connection
        self.message = speech.client_frame(speech.message(number))
        self.answer = speech.server_frame(speech.message(number))
        self.come = b""  # Of an answer that has not come whole.
        self.said_at = 0.0

    def say(self) -> None:
        """Send the message."""
        self.said_at = time.monotonic()
        self.socket.sendall(self.message)

    def hear(self) -> bool:
        """Read what has come; tell whether the echo is whole. ValueError: it is a wrong one."""
        received = self.socket.recv(READ_BYTES_MAX)
        if received == self.answer and not self.come:
            return True
        self.come += received
        if not received or not self.answer.startswith(self.come):
            raise ValueError(f"{self.come[:200]!r} instead of {self.answer!r}")
        if self.come != self.answer:
            return False
        self.come = b""
        return True


def upgraded(port: int) -> socket.socket:
    """Return a connection to `port` after its handshake; Trouble when that was refused."""
    connection = socket.create_connection((LOOPBACK, port), timeout=ANSWER_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(KEY_BYTES))
    connection.sendall(HANDSHAKE % key)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        received = connection.recv(READ_BYTES_MAX)
        head += received
        if not received or len(head) > HEAD_BYTES_MAX:
            break
    # Field names are told apart by letters only, the value is not: it is looked for as it is.
    accepted = b": " + speech.accept_for(key) + b"\r\n"
    if not head.startswith(SWITCHED) or accepted not in head:
        connection.close()
        raise Trouble(f"port {port}: a WebSocket handshake was answered {head[:300]!r}.")
    connection.settimeout(0)
    return connection


class Room:
    """All connections of one run, behind one epoll."""

    def __init__(self, port: int, connections: int) -> None:
        """Upgrade `connections` connections to `port`."""
        self.epoll = select.epoll()
        self.talkers: dict[int, Talker] = {}
        self.round_trips_us = array("I")  # How long each took.
        self.problems: list[str] = []  # Of connections that ended early.
        for number in range(connections):
            connection = upgraded(port)
            self.talkers[connection.fileno()] = Talker(connection, number)
            self.epoll.register(connection, select.EPOLLIN)

    def __enter__(self) -> "Room":
        """Return the room itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        for talker in self.talkers.values():
            talker.socket.close()
        self.epoll.close()

    @property
    def failed(self) -> int:
        """How many connections got something else than their echoes, or not all of them."""
        return len(self.problems)

    def begin(self) -> None:
        """Let every connection say its message once."""
        for talker in list(self.talkers.values()):
            self._let(talker, talker.say)

    def talk_until(self, deadline_at: float) -> None:
        """Let every connection that has its echo say its message again, until `deadline_at`."""
        while self.talkers and (remaining_s := deadline_at - time.monotonic()) > 0:
            for descriptor, _ in self.epoll.poll(remaining_s):
                talker = self.talkers[descriptor]
                if self._heard(talker):
                    self._let(talker, talker.say)

    def end(self, deadline_at: float) -> None:
        """Wait for the last echo of every connection until `deadline_at`; what fails is counted."""
        waiting = set(self.talkers)
        while waiting and (remaining_s := deadline_at - time.monotonic()) > 0:
            for descriptor, _ in self.epoll.poll(remaining_s):
                if self._heard(self.talkers[descriptor]) or descriptor not in self.talkers:
                    waiting.discard(descriptor)
        self.problems += [f"no echo within {ANSWER_TIMEOUT_S:.0f} s"] * len(waiting)

    def _heard(self, talker: Talker) -> bool:
        """Read what has come on a connection; tell whether its echo is whole, and time it."""
        if not self._let(talker, talker.hear):
            return False
        self.round_trips_us.append(round((time.monotonic() - talker.said_at) * US_PER_S))
        return True

    def _let(self, talker: Talker, act: Callable[[], bool | None]) -> bool | None:
        """Do `act`; when that shows that the connection is of no more use, give it up."""
        try:
            return act()
        except (OSError, ValueError) as fault:
            self.problems.append(str(fault))
            del self.talkers[talker.socket.fileno()]
            talker.socket.close()
            return None

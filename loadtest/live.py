"""The live upstream: event streams at a held pace, echoes over upgraded connections, and a sink.

nginx answers files and small texts; what lives longer than an answer is played here, by one process
with one epoll and no library, because it shares its core with the client and must cost little:

* `POST /live/sink` reads the whole body, keeps none of it, and only then answers.
* `GET /live/events/COUNT` answers at once with head and first event, then sends one event each
  1/EVENTS_PER_S s, each in a chunk and a write of its own. Streams keep the phase at which they
  were asked for: if clients come evenly, events leave evenly.
* `GET /live/echo` with a WebSocket handshake sends each text frame back unmasked. After the
  handshake it speaks only what `speech` needs: whole text frames of at most 125 bytes.

Whatever else it is told ends the connection, so that a mistake shows as a failure. So does a reader
that lets the socket's buffer run full: nothing is queued here.
"""

import contextlib
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping

from loadtest import speech
from loadtest.processes import LOOPBACK
from loadtest.upstream import SMALL_BODY

BACKLOG = 4096
HEAD_BYTES_MAX = 16_384
READ_BYTES_MAX = 65_536
SINK_READ_BYTES_MAX = 1_048_576  # One buffer, shared: what is read into it is never looked at.
FRAME_HEAD_BYTES = 2
MASK_BYTES = 4
LENGTH_BITS = 0x7F

TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
    len(SMALL_BODY),
    SMALL_BODY,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


class Refused(Exception):
    """A connection said something that this upstream does not play along with."""


def fields_of(head: bytes) -> tuple[str, Mapping[str, str]]:
    """Return target and fields (names in lower case) of a request head; Refused if it is none."""
    line, *rest = head.decode("latin-1").split("\r\n")
    try:
        _, target, _ = line.split(" ")
        fields = dict(one.split(":", 1) for one in rest)
    except ValueError:
        raise Refused(f"no request: {head[:100]!r}") from None
    return target, {name.lower(): value.strip() for name, value in fields.items()}


def echo_of(received: bytearray) -> bytes:
    """Take all whole frames from `received`; return them as a server frames them."""
    answers = b""
    while len(received) >= FRAME_HEAD_BYTES:
        if received[0] != speech.FIN_TEXT or not received[1] & speech.MASKED:
            raise Refused(f"no whole, masked text frame: {bytes(received[:20])!r}")
        begin = FRAME_HEAD_BYTES + MASK_BYTES
        end = begin + (received[1] & LENGTH_BITS)
        if len(received) < end:
            break
        mask, payload = bytes(received[FRAME_HEAD_BYTES:begin]), bytes(received[begin:end])
        answers += speech.server_frame(speech.unmask(payload, mask))
        del received[:end]
    return answers


class Talk:
    """One connection. `react` is what it does when bytes have come; it changes as it goes on."""

    __slots__ = (
        "closed",
        "events_left",
        "events_sent",
        "live",
        "react",
        "received",
        "socket",
        "to_drain_bytes",
    )

    def __init__(self, live: "Live", connection: socket.socket) -> None:
        """Begin by expecting a request on `connection`."""
        self.live = live
        self.socket = connection
        self.react: Callable[[], None] = self.read_head
        self.received = bytearray()
        self.closed = False
        self.to_drain_bytes = 0
        self.events_left = 0
        self.events_sent = 0

    def read_head(self) -> None:
        """Collect a request head; when it is whole, begin what it asks for."""
        self.received += self._read()
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            if len(self.received) > HEAD_BYTES_MAX:
                raise Refused("no end of the head")
            return
        target, fields = fields_of(bytes(self.received[:end]))
        del self.received[: end + 4]
        if target == speech.SINK:
            self._begin_sink(fields)
        elif target.startswith(speech.EVENTS):
            self._begin_events(target.removeprefix(speech.EVENTS))
        elif target == speech.ECHO:
            self._begin_echo(fields)
        else:
            raise Refused(f"nothing lives at {target}")

    def _begin_sink(self, fields: Mapping[str, str]) -> None:
        if "transfer-encoding" in fields:
            raise Refused("the sink reads bodies with a Content-Length only")
        self.to_drain_bytes = int(fields.get("content-length", "0")) - len(self.received)
        self.received.clear()
        self.react = self.drain
        self._answer_when_drained()

    def drain(self) -> None:
        """Read the body and forget it."""
        room = min(self.to_drain_bytes, SINK_READ_BYTES_MAX)
        size = self.socket.recv_into(self.live.scratch, room)
        if not size:
            raise Refused("gone in the middle of a body")
        self.to_drain_bytes -= size
        self._answer_when_drained()

    def _answer_when_drained(self) -> None:
        if self.to_drain_bytes < 0:
            raise Refused("more body than its Content-Length")
        if self.to_drain_bytes == 0:
            self._write(TAKEN)
            self.react = self.read_head

    def _begin_events(self, count: str) -> None:
        if not count.isdecimal() or not 1 <= int(count) <= speech.EVENTS_MAX:
            raise Refused(f"{count[:20]!r} events")
        self.events_left = int(count)
        self.events_sent = 0
        self.react = self.expect_silence
        if self.send_event(STREAM_HEAD):
            self.live.due.append((time.monotonic() + speech.EVENT_PERIOD_S, self))

    def send_event(self, before: bytes = b"") -> bool:
        """Send the next event, with the stream's end if it is the last; tell if there are more."""
        self.events_left -= 1
        piece = before + speech.chunk(self.events_sent)
        self.events_sent += 1
        if self.events_left:
            self._write(piece)
            return True
        self.react = self.read_head
        self._write(piece + STREAM_END)
        return False

    def expect_silence(self) -> None:
        """End the connection: who listens to events has nothing to say but goodbye."""
        raise Refused(f"while it listens: {self._read()[:100]!r}")

    def _begin_echo(self, fields: Mapping[str, str]) -> None:
        asked = (fields.get("upgrade", "").lower(), fields.get("sec-websocket-version"))
        if asked != ("websocket", "13") or "upgrade" not in fields.get("connection", "").lower():
            raise Refused(f"no WebSocket handshake: {fields}")
        key = fields.get("sec-websocket-key", "").encode("latin-1")
        self._write(SWITCHING % speech.accept_for(key))
        self.react = self.echo

    def echo(self) -> None:
        """Send back every frame that is whole by now."""
        self.received += self._read()
        answers = echo_of(self.received)
        if answers:
            self._write(answers)

    def _read(self) -> bytes:
        received = self.socket.recv(READ_BYTES_MAX)
        if not received:
            raise Refused("goodbye")
        return received

    def _write(self, piece: bytes) -> None:
        if self.socket.send(piece) != len(piece):
            raise Refused("the reader is too slow")


class Live:
    """The connections of one listening socket, and whose event is due when."""

    def __init__(self, listener: socket.socket) -> None:
        """Watch `listener`, which must not block."""
        self.listener = listener
        self.scratch = bytearray(SINK_READ_BYTES_MAX)
        self.talks: dict[int, Talk] = {}
        # By time, since all have one period. Where we were late an entry may stand behind a later
        # one, and is sent that little too late.
        self.due: deque[tuple[float, Talk]] = deque()
        self.epoll = select.epoll()
        self.epoll.register(listener, select.EPOLLIN)

    def turn(self) -> None:
        """Wait for bytes or for the next event, and deal with what there is."""
        for descriptor, _ in self.epoll.poll(self._pause_s()):
            talk = self.talks.get(descriptor)
            if talk is None:
                self._accept()
            else:
                self._let(talk, talk.react)
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            at, talk = self.due.popleft()
            if not talk.closed and self._let(talk, talk.send_event):
                self.due.append((at + speech.EVENT_PERIOD_S, talk))

    def _pause_s(self) -> float | None:
        return max(0.0, self.due[0][0] - time.monotonic()) if self.due else None

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.listener.accept()
                connection.settimeout(0)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.talks[connection.fileno()] = Talk(self, connection)
                self.epoll.register(connection, select.EPOLLIN)

    def _let(self, talk: Talk, act: Callable[[], object]) -> object:
        """Do `act`; when that shows that the talk is over, close it and return None."""
        try:
            return act()
        except (Refused, OSError) as reason:
            if str(reason) != "goodbye":
                print(f"{talk.react.__name__}: {reason}", file=sys.stderr, flush=True)
            talk.closed = True
            del self.talks[talk.socket.fileno()]
            talk.socket.close()
            return None


def main(port: int) -> None:
    """Serve on `port` of the loopback until this process is ended."""
    with socket.create_server((LOOPBACK, port), backlog=BACKLOG) as listener:
        listener.settimeout(0)
        live = Live(listener)
        while True:
            live.turn()


if __name__ == "__main__":
    main(int(sys.argv[1]))

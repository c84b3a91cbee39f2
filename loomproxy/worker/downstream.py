"""One connection from a client: bytes in, bytes out, and between exchanges its patience.

It thinks nothing about requests: the wire reads them, the driver carries them out. What is decided
here is what no exchange can know, because there is none: how long a connection may be idle, how
long a head may take, and how it closes so that the client can read its last answer (RFC 9112 §9.6).
"""

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import termios
from typing import Final, cast

from loomproxy.core import fault as faults
from loomproxy.core.command import Fate
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamGone,
    DownstreamTaken,
    DownstreamTaking,
    RequestBroken,
)
from loomproxy.core.http1.wire import Refusal, RequestWire
from loomproxy.core.hygiene import Peer
from loomproxy.core.message import RequestHead, RequestPart
from loomproxy.core.tally import CLIENT_IDLE, CLIENT_SILENT
from loomproxy.core.units import NEVER, Instant
from loomproxy.worker.driver import Driver
from loomproxy.worker.ports import Door
from loomproxy.worker.services import Services
from loomproxy.worker.upstream import NO_TRANSPORT

PIPELINED_BYTES_MAX: Final = 64 << 10
"""What a client may send ahead of its answers before it is not read any more. A trailer section may
be larger, and is read on to its own bound: what belongs to the request that is being carried out is
not ahead of it.
"""

REQUESTS_PER_TURN_MAX: Final = 32
"""How many pipelined requests of one client are answered before everybody else has a turn: about a
millisecond. One read can bring ten thousand.
"""

LINGER_S: Final = 2.0
"""How long a closed connection still takes what the client sends. nginx waits 5 s for each piece,
30 s in all.
"""

LINGER_BYTES_MAX: Final = 4 << 20
"""How much of it is taken. Beyond it the client may lose the answer to a request it should not have
sent.
"""

TAKE_S: Final = 30.0
"""How long a client may take nothing of what is left to send when a tunnel is over. An exchange
waits for its client before it ends, a tunnel does not, and closing waits for as long as the client
likes.
"""

HURRY_S: Final = 1.0
"""How long an idle connection may still bring a request where it has to make room, or its worker
drains; there the answer says close.
"""

GONE: Final = select.POLLERR | select.POLLNVAL
"""What poll(2) says of a connection that was reset."""

INT: Final = struct.Struct("i")

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close sends RST (socket(7))."""


class Downstream(asyncio.Protocol):
    """One connection from a client."""

    __slots__ = (
        "_at",
        "_driver",
        "_head_begun",
        "_held_back",
        "_lingered_bytes",
        "_lingering",
        "_pumping",
        "_reading_paused",
        "_requests",
        "_services",
        "_transport",
        "_untaken_bytes",
        "deadline_at",
        "full",
        "peer",
        "scheduled_at",
        "wire",
    )

    def __init__(self, at: Door, services: Services) -> None:
        self._at = at
        self._services = services
        self._transport: asyncio.Transport = NO_TRANSPORT
        self._driver = Driver(services, self)
        self.wire = RequestWire(services.world.snapshot.limits)
        self.peer: Peer = at.nobody
        self.full = False  # the client has not taken all that was sent
        self.deadline_at: Instant = NEVER
        self.scheduled_at: Instant = NEVER
        self._requests = 0
        self._pumping = False
        self._reading_paused = False  # the exchange wants it so
        self._held_back = False  # the client sent too far ahead
        self._head_begun = False  # part of a head is there, and its time runs
        self._lingering = False
        self._lingered_bytes = 0
        self._untaken_bytes = 0  # while full: when it was looked at last

    # --- from the event loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there. What the kernel does not take at once means: full."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self.peer = self._at.peer_of(self._transport)
        if not self._at.opened(self, self._driver):
            self.reset()
            return
        self.set_deadline(self._services.now() + self._at.listener.head_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        driver = self._driver
        if driver.exchange is not None:
            self._read_on(driver, data)
        elif self._lingering:
            self._swallow(len(data))
        else:
            self.wire.receive(data)
            self._pump()
            if self._driver.exchange is None and not self._head_begun:
                self._await_head()

    def _read_on(self, driver: Driver, data: bytes) -> None:
        """Something comes while an exchange is going on."""
        if driver.tunnel:
            driver.tunnel_data(data, from_downstream=True)
            return
        self.wire.receive(data)
        driver.read_downstream()
        if self._is_ahead():
            self._hold_back(on=True)

    def eof_received(self) -> bool:
        """The client sends no more; True keeps the way down open."""
        driver = self._driver
        if driver.tunnel:
            driver.fin(from_downstream=True)
            return not self._transport.is_closing()
        if driver.exchange is None or self._lingering:
            return False
        if self._at.listener.client_half_close == "abort":
            driver.tell(DownstreamGone())
            return False
        self.wire.receive(b"")
        driver.read_downstream()
        if driver.exchange is not None:
            driver.fin(from_downstream=True)
        return not self._transport.is_closing()

    def connection_lost(self, _error: Exception | None) -> None:
        """It is over."""
        self.deadline_at = NEVER
        self._services.wheel.forget(self)
        self._services.unread.discard(self)
        if self._driver.exchange is not None:
            self._driver.tell(DownstreamGone())
        self._at.closed(self, self._driver)

    def pause_writing(self) -> None:
        """The client does not take more now."""
        self.full = True
        if self._driver.exchange is not None:
            self._driver.tell(DOWNSTREAM_FULL)

    def resume_writing(self) -> None:
        """The client has taken it all."""
        self.full = False
        if self._driver.exchange is not None:
            self._driver.tell(DOWNSTREAM_TAKEN)

    # --- from the driver --------------------------------------------------------------------------

    def read_part(self) -> RequestPart | RequestBroken | None:
        """What the wire has next of the request that is being carried out."""
        thing = self.wire.poll()
        if isinstance(thing, Refusal):
            self._at.refused(self.peer, thing)
            return RequestBroken(thing.fault)
        assert not isinstance(thing, RequestHead), "a request before the last one was over"
        return thing

    def write(self, data: bytes) -> None:
        """Send `data`; what the kernel does not take is held, and `full` says so."""
        if not self._transport.is_closing():
            self._transport.write(data)
            if self.full:
                self._untaken_bytes = self._untaken()

    def write_eof(self) -> None:
        """Send FIN after what was written."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def take_rest(self) -> bytes:
        """What the client sent too early, for a tunnel; nothing is held back any more."""
        rest = self.wire.take_rest()
        self._hold_back(on=False)
        return rest

    @property
    def ended(self) -> bool:
        """Whether the client has said that it sends no more, and listens on."""
        return self.wire.ended

    def read(self, *, paused: bool) -> None:
        """Stop or go on reading, because the exchange says so."""
        self._reading_paused = paused
        self._apply_pause()

    def set_deadline(self, at: Instant) -> None:
        """Be told at `at`."""
        self.deadline_at = at
        if at < self.scheduled_at:
            self._services.wheel.schedule(self)

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline_at = NEVER
        driver = self._driver
        taken_bytes = self._taken() if self.full else 0
        if driver.exchange is not None:
            driver.tell(DownstreamTaking(taken_bytes) if taken_bytes else DeadlineExpired())
        elif taken_bytes:
            self.set_deadline(self._services.now() + TAKE_S)
        elif self._lingering:
            self._transport.abort()
        elif self.wire.idle:
            self._dismiss()
        else:
            self.wire.take_rest()  # What still comes of the head comes too late.
            driver.begin(RequestBroken(faults.CLIENT_HEAD_TIMEOUT), may_keep=False)

    def settle(self, fate: Fate, now: Instant) -> None:
        """The exchange is over; what becomes of the connection."""
        if fate is KEEP:
            self.wire.next_message()
            draining = self._services.world.draining
            wait_s = HURRY_S if draining else self._at.listener.idle_timeout_s
            self.set_deadline(now + wait_s)
            if self.wire.buffered or self._held_back:
                self._pump()
                self._await_head()
        elif fate is Fate.CLOSE:
            self._close()
        else:
            self.reset()

    def reset(self) -> None:
        """End it so that nobody takes what came for complete, even where only the end tells."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing() and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    @property
    def idle(self) -> bool:
        """Whether nothing is going on: no exchange, no half of a head."""
        return self._driver.exchange is None and self.wire.idle

    def fileno(self) -> int:
        """Its descriptor, for poll(2); -1 when there is none."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        return -1 if sock is None or self._transport.is_closing() else sock.fileno()

    def noticed(self, events: int) -> None:
        """While it is not read: what poll(2) says of it. Whoever is gone is not waited for.

        A FIN says that only where a half-close does, and never in a tunnel.
        """
        fin_is_goodbye = self._at.listener.client_half_close == "abort" and not self._driver.tunnel
        if events & (GONE | select.POLLRDHUP if fin_is_goodbye else GONE):
            self._transport.abort()

    def hurry(self) -> None:
        """If idle, stay only a moment for the request that may be on its way."""
        if self.idle and not self._lingering:
            self.set_deadline(min(self.deadline_at, self._services.now() + HURRY_S))

    # --- inside -----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin what the wire has: one request at a time, until one needs to wait.

        The client is read on only when it is not ahead. A request that ends frees but its own
        bytes: to read on because of that would let a client fill our memory.
        """
        if self._pumping:
            return
        self._pumping = True
        driver = self._driver
        begun, later = 0, False
        while driver.exchange is None and not (self._lingering or self._transport.is_closing()):
            if begun == REQUESTS_PER_TURN_MAX:
                later = True
                self._services.loop.call_soon(self._pump)
                break
            thing = self.wire.poll()
            if thing is None:
                break
            begun += 1
            self._begin(thing)
        self._pumping = False
        if later or self._held_back or self.wire.buffered:
            self._hold_back(on=later or self._is_ahead())

    def _is_ahead(self) -> bool:
        """Whether the client has sent too much behind the request that is being carried out."""
        return (
            self.wire.buffered > PIPELINED_BYTES_MAX
            and self._driver.exchange is not None
            and self.wire.over
        )

    def _begin(self, thing: RequestHead | RequestPart | Refusal) -> None:
        self._head_begun = False
        if isinstance(thing, RequestHead):
            self._requests += 1
            may_keep = self._requests < self._at.listener.keepalive_requests_max
            self._driver.begin(thing, may_keep=may_keep)
            return
        assert isinstance(thing, Refusal), "a part of a request that nobody carries out"
        self._at.refused(self.peer, thing)
        self._driver.begin(RequestBroken(thing.fault), may_keep=False)

    def _await_head(self) -> None:
        """If a head has begun, it has its time from now."""
        idle = self._driver.exchange is not None or self.wire.idle
        if not (idle or self._lingering or self._transport.is_closing()):
            self._head_begun = True
            self.set_deadline(self._services.now() + self._at.listener.head_timeout_s)

    def _close(self) -> None:
        """Close in order.

        If the client may still be sending, read on for a while: data that nobody reads would make
        the kernel reset the connection, and the client could lose its answer.
        """
        if self._transport.is_closing():
            return
        if self._driver.request_read and not self.wire.buffered:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._lingering = True
                self.set_deadline(self._services.now() + TAKE_S)
            return
        self._lingering = True
        self.write_eof()
        self.read(paused=False)
        self._hold_back(on=False)
        self.set_deadline(self._services.now() + LINGER_S)

    def _swallow(self, size: int) -> None:
        self._lingered_bytes += size
        if self._lingered_bytes > LINGER_BYTES_MAX:
            self._transport.abort()

    def _dismiss(self) -> None:
        """The client has been silent for too long; in a worker that drains, only for a moment."""
        services = self._services
        if not services.world.draining:
            reason = CLIENT_IDLE if self._requests else CLIENT_SILENT
            services.tally.note_limit(self._at.listener.name, reason)
        self._transport.abort()

    def _taken(self) -> int:
        """Bytes that the client has taken since the last look."""
        before, self._untaken_bytes = self._untaken_bytes, self._untaken()
        return max(0, before - self._untaken_bytes)

    def _untaken(self) -> int:
        """Bytes that the client has not taken: ours, and what the kernel holds (tcp(7): SIOCOUTQ).

        The kernel takes the next only when a third of its buffer is free, which may be megabytes.
        """
        untaken = self._transport.get_write_buffer_size()
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed.
                answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(INT.size))
                untaken += INT.unpack(answer)[0]
        return untaken

    def _hold_back(self, *, on: bool) -> None:
        if on is not self._held_back:
            self._held_back = on
            self._apply_pause()

    def _apply_pause(self) -> None:
        if self._transport.is_closing():
            return
        paused = self._reading_paused or self._held_back
        if paused is self._transport.is_reading():
            if paused:
                self._transport.pause_reading()
                self._services.unread.add(self)
            else:
                self._transport.resume_reading()
                self._services.unread.discard(self)


KEEP: Final = Fate.KEEP  # Bound once: reading a member through its class costs as much as a call.
DOWNSTREAM_FULL: Final = DownstreamFull()
DOWNSTREAM_TAKEN: Final = DownstreamTaken()

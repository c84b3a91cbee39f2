"""What stands for the world in the tests of the worker: a clock, a transport, a network, a door.

The transport keeps uvloop's promises, the odd ones too: with no write buffer `pause_writing` is
told within the `write` that filled the kernel, `close` waits for what was written for as long as it
takes, a lost connection is told at the loop's next turn, and whoever writes after that is wrong.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from loomproxy.config.model import Listener
from loomproxy.core.http1.limits import Refusal
from loomproxy.core.hygiene import Peer

BEGINS_AT = 1000.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = BEGINS_AT

    def __call__(self) -> float:
        return self.now


class Socket:
    """The options that somebody set."""

    family = 2

    def __init__(self) -> None:
        self.options: list[tuple[Any, ...]] = []
        self.descriptor = -1

    def fileno(self) -> int:
        return self.descriptor

    def setsockopt(self, *option: Any) -> None:
        self.options.append(option)


class Transport(asyncio.Transport):
    """One end of a connection; the test is the other."""

    def __init__(self, peername: object = ("192.0.2.7", 40000)) -> None:
        super().__init__()
        self.protocol: Any = None
        self.socket = Socket()
        self.peername = peername
        self.kernel: int | None = None  # bytes that it takes yet; None: all there are
        self.writes: list[bytes] = []  # as they were asked for
        self.received = bytearray()  # what arrived at the other end
        self.held = b""
        self.fin = False  # has arrived at the other end
        self.reading = False
        self.closing = self.lost = self.aborted = False
        self._eof_asked = self._paused = False
        self._high = 64 << 10

    def connect(self, protocol: Any) -> "Transport":
        """The connection is there."""
        self.protocol = protocol
        protocol.connection_made(self)
        self.reading = not self.closing
        return self

    # --- what the other end does ------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The other end sends, and we read."""
        assert self.reading, "the kernel holds it: nobody reads"
        self.protocol.data_received(data)

    def feed_eof(self) -> None:
        """The other end says that it sends no more."""
        assert self.reading, "the kernel holds it: nobody reads"
        if self.protocol.eof_received():
            self.reading = False
        else:
            self.close()

    def lose(self, error: Exception | None = None) -> None:
        """The connection breaks."""
        self._force(error)

    def take(self, size: int | None = None) -> None:
        """The other end reads: there is room for so much more; None: for all there ever is."""
        self.kernel = size
        self._send()
        if not self.held:
            if self._paused:
                self._paused = False
                self.protocol.resume_writing()
            if self.closing and not self.lost:
                self._force(None)

    def answers(self) -> bytes:
        """All that arrived since the last call."""
        data = bytes(self.received)
        self.received.clear()
        return data

    # --- asyncio.Transport ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:  # type: ignore[override] # we write bytes
        assert not self.lost, "a write on a handle that is closed"
        assert not self._eof_asked, "a write after write_eof"
        if self.aborted:
            return
        assert data, "a write of nothing"
        self.writes.append(data)
        self.held += data
        if not self._paused:
            self._send()
            if len(self.held) > self._high:
                self._paused = True
                self.protocol.pause_writing()

    def _send(self) -> None:
        size = len(self.held) if self.kernel is None else min(self.kernel, len(self.held))
        if self.kernel is not None:
            self.kernel -= size
        self.received += self.held[:size]
        self.held = self.held[size:]
        if self._eof_asked and not self.held:
            self.fin = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        assert not self.lost, "write_eof on a handle that is closed"
        self._eof_asked = True
        self._send()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.reading = False
            if not self.held:
                self._force(None)

    def abort(self) -> None:
        self._force(None)

    def _force(self, error: Exception | None) -> None:
        if self.aborted:
            return
        self.aborted = self.closing = True
        self.reading = False
        self.held = b""
        asyncio.get_running_loop().call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        self.lost = self.fin = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert not self.lost
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.lost
        self.reading = not self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.socket, "peername": self.peername}.get(name, default)

    @property
    def was_reset(self) -> bool:
        """Whether the other end sees a reset, and not an end."""
        return self.aborted and bool(self.socket.options)


class Call:
    """A connection to an endpoint that is being opened."""

    def __init__(
        self, make: Callable[[], Any], place: tuple[Any, ...], secured: dict[str, Any]
    ) -> None:
        self._make = make
        self.secured = secured  # what TLS was asked for with; nothing: without it
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.place = place
        self.transport = Transport()
        self.cancelled = False

    async def wait(self) -> tuple[Transport, Any]:
        """What whoever connects waits for."""
        try:
            await self._answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.transport, self.transport.protocol

    def accept(self) -> Transport:
        """The endpoint takes the call; the caller hears of it at the loop's next turn."""
        self.transport.connect(self._make())
        self._answer.set_result(None)
        return self.transport

    def refuse(self, error: Exception | None = None) -> None:
        """Nobody is there."""
        self._answer.set_exception(error or ConnectionRefusedError(111, "Connection refused"))


class Network:
    """The part of an event loop that opens connections and puts work off."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.call_soon = asyncio.get_running_loop().call_soon

    async def create_connection(self, make: Callable[[], Any], *place: Any, **secured: Any) -> Any:
        return await self._call(make, place, secured)

    async def create_unix_connection(self, make: Callable[[], Any], *place: Any) -> Any:
        return await self._call(make, place, {})

    async def _call(
        self, make: Callable[[], Any], place: tuple[Any, ...], secured: dict[str, Any]
    ) -> Any:
        call = Call(make, place, secured)
        self.calls.append(call)
        return await call.wait()


class Door:
    """A listener without a socket."""

    def __init__(self, listener: Listener, services: Any) -> None:
        self.listener = listener
        self.nobody = Peer(b"", 0, trusted=False, local_port=80, listener=listener.name)
        self.services = services
        self.here: list[object] = []
        self.refusals: list[Refusal] = []

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        ip, port = transport.get_extra_info("peername")
        return Peer(ip.encode(), port, trusted=False, local_port=80, listener=self.listener.name)

    def opened(self, client: object, teller: Any) -> bool:
        self.here.append(client)
        self.services.attach(teller)
        return True

    def closed(self, client: object, teller: Any) -> None:
        self.here.remove(client)
        self.services.forget(teller)

    def refused(self, _peer: Peer, refusal: Refusal) -> None:
        self.refusals.append(refusal)

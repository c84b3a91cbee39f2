"""A TCP proxy between loomproxy and its upstream which does the worst at one event.

An *event* is a connection that was accepted, a piece of bytes read from either side (`bytes up`,
`bytes down`, and `end down` for the one with which an answer ends), or a FIN (`fin up`, `fin
down`). A clean run of a scene counts them; then, for every n, the n-th is met with each fault
(after SQLite's anomaly tests, which let the n-th allocation fail; that a proxy does it is asyncpg's
idea).

It runs in the event loop of who uses it.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

PIECE_BYTES_MAX: Final = 1 << 16
PAUSE_S: Final = 0.05
"""Of a short stall: well below every timeout of the proxy."""

LATE_S: Final = 0.03
"""How long after an answer bytes that nobody asked for come: the connection is idle by then."""

DRIBBLED_BYTES: Final = 12
"""How many bytes of a piece come one by one, at either end of it."""

POISON: Final = b"HTTP/1.1 200 Poison\r\nContent-Length: 6\r\n\r\npoison"
"""What would become the answer to somebody else's request."""

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close sends RST (socket(7))."""


class Ends:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._fin_sent = False

    def reset(self) -> None:
        """End it with RST."""
        connection = self.writer.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def send(self, piece: bytes) -> None:
        """Send a piece, or FIN if it is empty; nothing where FIN has been sent."""
        if self.writer.is_closing() or self._fin_sent:
            return
        if piece:
            self.writer.write(piece)
            await self.writer.drain()
        else:
            self.fin()

    def fin(self) -> None:
        """Say FIN, once, and go on listening."""
        if not self.writer.is_closing() and not self._fin_sent:
            self._fin_sent = True
            with contextlib.suppress(OSError):  # It was reset: reading tells.
                self.writer.write_eof()


@dataclass(frozen=True)
class Plan:
    """Which event is the worst one: the `number`-th of this kind, from 0; and what happens at it.

    Counted by kind, it is the same event however the network cuts the bytes of the other side.
    """

    kind: str
    number: int
    fault: str


class Over(Exception):
    """The link carries nothing any more."""


class Link:
    """One connection of loomproxy, and the one to the upstream that belongs to it."""

    def __init__(self, meddler: "Meddler", near: Ends) -> None:
        self.meddler = meddler
        self.near = near
        self.far: Ends | None = None
        self.spoiled = False  # loomproxy must not keep it
        self.stalled = False
        self._events: list[str] = []

    def __str__(self) -> str:
        return f"spoiled={self.spoiled} {self._events[-6:]}"

    async def run(self) -> None:
        """Carry until both sides have said FIN, or a fault ends it."""
        try:
            await self._accepted()
            self.far = Ends(*await asyncio.open_connection(*self.meddler.upstream))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("up", self.near, self.far))
                group.create_task(self._carry("down", self.far, self.near))
        except* Over:
            pass
        except* OSError:  # One side reset it: so do we to the other.
            self.reset()
        if self.stalled:
            await self._stall()
        for ends in (self.near, self.far):
            if ends is not None:
                ends.writer.close()

    async def _accepted(self) -> None:
        fault = self._note("accepted")
        if fault == "pause":
            await asyncio.sleep(PAUSE_S)
        elif fault:
            await self._meet(fault, self.near, b"")

    async def _carry(self, way: str, source: Ends, target: Ends) -> None:
        while True:
            piece = await source.reader.read(PIECE_BYTES_MAX)
            if self.stalled:
                raise Over
            fault = self._note(f"{self._kind(way, piece)} {way}")
            if fault:
                await self._meet(fault, target, piece)
            else:
                await target.send(piece)
            if not piece:
                return

    def _kind(self, way: str, piece: bytes) -> str:
        ends = way == "down" and piece.endswith(self.meddler.end_mark)
        return ("end" if ends else "bytes") if piece else "fin"

    def _note(self, kind: str) -> str:
        self._events.append(kind)
        return self.meddler.note(kind)

    async def _meet(self, fault: str, target: Ends, piece: bytes) -> None:
        self._events.append(fault)
        self.spoiled = fault not in HARMLESS
        await FAULTS[fault](self, target, piece)

    async def _stall(self) -> None:
        """Carry nothing; once released, only look whether loomproxy has closed its side."""
        await self.meddler.released.wait()
        try:
            while await self.near.reader.read(PIECE_BYTES_MAX):
                pass
        except OSError:
            return

    def reset(self) -> None:
        """RST to both sides."""
        self.near.reset()
        if self.far is not None:
            self.far.reset()

    # --- the faults -------------------------------------------------------------------------------

    async def cut(self, _target: Ends, _piece: bytes) -> None:
        """RST both ways; the piece is lost."""
        self.reset()
        raise Over

    async def cut_after(self, target: Ends, piece: bytes) -> None:
        """RST both ways behind the piece."""
        await target.send(piece)
        await self.cut(target, piece)

    async def cut_refuse(self, target: Ends, piece: bytes) -> None:
        """RST both ways, and nobody listens any more."""
        self.meddler.refuse()
        await self.cut(target, piece)

    async def close(self, _target: Ends, _piece: bytes) -> None:
        """FIN both ways before the piece, which is lost."""
        raise Over

    async def close_after(self, target: Ends, piece: bytes) -> None:
        """FIN both ways behind the piece."""
        await target.send(piece)
        raise Over

    async def half_down(self, target: Ends, piece: bytes) -> None:
        """FIN to loomproxy behind the piece; what it says is still carried."""
        if piece:
            await target.send(piece)
        self.near.fin()

    async def half_up(self, target: Ends, piece: bytes) -> None:
        """FIN to the upstream behind the piece; what it says is still carried."""
        if piece:
            await target.send(piece)
        if self.far is not None:
            self.far.fin()

    async def stall(self, _target: Ends, _piece: bytes) -> None:
        """Nothing is carried any more, neither bytes nor FIN."""
        self.stalled = True
        raise Over

    async def pause(self, target: Ends, piece: bytes) -> None:
        """The piece, or the FIN, comes late."""
        await asyncio.sleep(PAUSE_S)
        await target.send(piece)

    async def dribble(self, target: Ends, piece: bytes) -> None:
        """The piece comes byte by byte."""
        middle = max(DRIBBLED_BYTES, len(piece) - DRIBBLED_BYTES)
        for at in range(min(DRIBBLED_BYTES, len(piece))):
            await target.send(piece[at : at + 1])
            await asyncio.sleep(0)
        if piece[DRIBBLED_BYTES:middle]:
            await target.send(piece[DRIBBLED_BYTES:middle])
        for at in range(middle, len(piece)):
            await target.send(piece[at : at + 1])
            await asyncio.sleep(0)

    async def garble(self, target: Ends, piece: bytes) -> None:
        """Every bit of the piece is another one."""
        await target.send(bytes(byte ^ 0xFF for byte in piece))

    async def insert(self, target: Ends, piece: bytes) -> None:
        """More than the answer comes, at once."""
        await target.send(piece + POISON)

    async def insert_late(self, target: Ends, piece: bytes) -> None:
        """More than the answer comes, when the connection is idle again."""
        await target.send(piece)
        await asyncio.sleep(LATE_S)
        await target.send(POISON)


Meet = Callable[[Link, Ends, bytes], Awaitable[None]]

FAULTS: Final[dict[str, Meet]] = {
    meet.__name__: meet
    for meet in (
        Link.cut,
        Link.cut_after,
        Link.cut_refuse,
        Link.close,
        Link.close_after,
        Link.half_down,
        Link.half_up,
        Link.stall,
        Link.pause,
        Link.dribble,
        Link.garble,
        Link.insert,
        Link.insert_late,
    )
}
"""What can happen at an event, by name. `refuse` is another: then there is no event at all."""

HARMLESS: Final = frozenset(("pause", "dribble"))
"""Faults after which the connection is as good as before."""


class Meddler:
    """The proxy: it listens on `port`, and carries to `upstream` what loomproxy sends."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.port = 0
        self.links: set[Link] = set()
        self.events: list[str] = []  # since `arm`
        self.fired_at: int | None = None  # which of them was the worst one
        self.end_mark: bytes | tuple[bytes, ...] = ()  # how answers end; (): nobody knows
        self.released = asyncio.Event()
        self._plan: Plan | None = None
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Listen, on the port it had before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._welcome, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Listen no more: connecting is refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def arm(self, plan: Plan | None, end_mark: bytes) -> None:
        """Count events from here on; the one of `plan` is the worst. Answers end in `end_mark`."""
        self.end_mark = end_mark or ()
        self.events = []
        self.fired_at = None
        self.released.clear()
        self._plan = plan
        if plan is not None and plan.fault == "refuse":
            self.fired_at = 0
            self.refuse()

    async def disarm(self) -> None:
        """Carry everything again; stalled links only look whether they are closed."""
        self._plan = None
        self.released.set()
        await self.open()

    def note(self, kind: str) -> str:
        """Count an event; the fault to meet it with, or ""."""
        number = self.events.count(kind)
        self.events.append(kind)
        plan = self._plan
        if plan is None or (plan.kind, plan.number) != (kind, number):
            return ""
        self.fired_at = len(self.events) - 1
        return plan.fault

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until this holds of the links."""
        while not claim():
            self._news.clear()
            await self._news.wait()

    def reset(self) -> None:
        """Reset what is left."""
        for link in self.links:
            link.reset()

    def drop(self) -> None:
        """Say FIN on every connection of loomproxy's."""
        for link in self.links:
            link.near.fin()

    async def end(self) -> None:
        """Listen no more, and reset what is left."""
        self.refuse()
        self.released.set()
        self.reset()
        await self.until(lambda: not self.links)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, Ends(reader, writer))
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)
            self._news.set()

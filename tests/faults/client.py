"""A client that tells strictly what it got; h11 judges whether an answer is HTTP, and whole."""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

import h11

from tests.faults.scenes import TUNNEL_WORDS, Scene

PATIENCE_S: Final = 8.0
"""How long an exchange may take before it is said to hang: many times every timeout together."""

READ_BYTES_MAX: Final = 1 << 16
SWITCHING: Final = 101
PAUSE_S: Final = 0.002
"""Between two pieces of a request, so that they are pieces."""


@dataclass
class Seen:
    """What a client got for one request."""

    status: int = 0  # 0: no answer began
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    complete: bool = False
    ending: str = ""  # "closed" or "reset" where the connection ended, "hangs" where nothing came
    malformed: str = ""
    keeps: bool = False  # the connection may carry another request
    continued: asyncio.Event = field(default_factory=asyncio.Event)  # 100, or a final head, came


class Client:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""

    @classmethod
    async def to(cls, address: tuple[str, int]) -> "Client":
        """Connect."""
        return cls(*await asyncio.open_connection(*address))

    async def ask(self, scene: Scene, path: str) -> list[Seen]:
        """Do what the scene says; what came for each of its requests."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._ask(scene, scene.paths(path))
        except TimeoutError:
            return [Seen(ending="hangs")]

    async def _ask(self, scene: Scene, paths: list[str]) -> list[Seen]:
        self._writer.write(b"".join(scene.head(path) for path in paths))
        first = Seen()
        sending = asyncio.create_task(self._send_body(scene, paths[0], first.continued))
        seen = [first]
        try:
            await self._receive(first, scene)
            if first.status == SWITCHING and scene.tunnel:
                await self._talk(first)
            while len(seen) < len(paths) and seen[-1].complete:
                seen.append(Seen())
                await self._receive(seen[-1], scene)
        finally:
            sending.cancel()
        return seen

    async def _send_body(self, scene: Scene, path: str, continued: asyncio.Event) -> None:
        if not scene.up:
            return
        if scene.expects:
            await continued.wait()
        for piece in scene.body(path):
            self._writer.write(piece)
            await quietly(self._writer.drain())
            await asyncio.sleep(PAUSE_S)

    async def _receive(self, seen: Seen, scene: Scene) -> None:
        """The next answer, whole or as far as it came."""
        wire = h11.Connection(h11.CLIENT)
        fields = [("Host", "any"), *scene.fields]
        wire.send(h11.Request(method=scene.method, target="/", headers=fields))
        wire.send(h11.EndOfMessage())
        if self._rest:
            wire.receive_data(self._rest)
            self._rest = b""
        try:
            while not await self._step(wire, seen):
                pass
        except h11.RemoteProtocolError as error:
            if not seen.ending:
                seen.malformed = str(error)
        if seen.complete:
            self._rest = bytes(wire.trailing_data[0])

    async def _step(self, wire: h11.Connection, seen: Seen) -> bool:
        """Take one thing of the answer; True when it is over."""
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await self._read(seen))
            return seen.ending == "reset"
        if isinstance(event, h11.InformationalResponse):
            seen.continued.set()
            if event.status_code == SWITCHING:
                seen.status = SWITCHING
                self._rest = bytes(wire.trailing_data[0])
                return True
        elif isinstance(event, h11.Response):
            seen.status = event.status_code
            seen.keeps = (b"connection", b"close") not in list(event.headers)
            seen.continued.set()
        elif isinstance(event, h11.Data):
            seen.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            seen.trailers = tuple((n.decode(), v.decode()) for n, v in event.headers)
            seen.complete = True
            return True
        return isinstance(event, h11.ConnectionClosed)

    async def _read(self, seen: Seen) -> bytes:
        try:
            data = await self._reader.read(READ_BYTES_MAX)
        except ConnectionError:
            seen.ending = "reset"
            return b""
        if not data:
            seen.ending = "closed"
        return data

    async def _talk(self, seen: Seen) -> None:
        """Say word after word in the tunnel, each when the one before has come back; then FIN."""
        seen.body, self._rest = self._rest, b""
        wanted = 0
        for word in TUNNEL_WORDS:
            self._writer.write(word)
            await quietly(self._writer.drain())
            wanted += len(word)
            while len(seen.body) < wanted and not seen.ending:
                seen.body += await self._read(seen)
        if not seen.ending:
            with contextlib.suppress(OSError):  # It was reset: reading tells.
                self._writer.write_eof()
        while not seen.ending:
            seen.body += await self._read(seen)
        seen.complete = seen.ending == "closed"
        self.close()  # Who has heard the last word of a tunnel leaves.

    def close(self) -> None:
        """Leave."""
        self._writer.transport.abort()


async def quietly(sending: Awaitable[None]) -> None:
    """Send; where the other side is gone already, reading tells."""
    try:
        await sending
    except ConnectionError:
        return

"""A provider that says what it was told to say, byte by byte, and remembers what it was asked."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request, as it arrived."""

    first: str
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Speak = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """A provider that listens at `url`, and gives its answers in turn, the last one ever after."""

    def __init__(self, said: Sequence[bytes | Sequence[bytes] | Speak]) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.connections = 0
        self.left = asyncio.Event()  # some connection has ended
        self._said = said
        self._writers: set[asyncio.StreamWriter] = set()
        self._empty = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._exchange(reader, writer):
                pass
        writer.transport.abort()
        self._writers.discard(writer)
        self.left.set()
        if not self._writers:
            self._empty.set()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        block = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = block.removesuffix("\r\n\r\n").split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        asked = Asked(first, fields, body)
        self.asked.append(asked)
        speech = self._said[min(len(self.asked), len(self._said)) - 1]
        if callable(speech):
            await speech(asked, writer)
            return True
        for piece in [speech] if isinstance(speech, bytes) else speech:
            if not piece:
                return False
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return True

    async def end(self) -> None:
        """End all connections."""
        self._empty.clear()
        for writer in self._writers:
            writer.transport.abort()
        if self._writers:
            await self._empty.wait()


def answer(
    body: Any, status: str = "200 OK", kind: str = "application/json", **fields: str
) -> bytes:
    """A whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def chunked(pieces: Sequence[bytes], kind: str = "text/event-stream") -> list[bytes]:
    """An answer in chunks: its head, each chunk, its end."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    return [head.encode(), *parts, b"0\r\n\r\n"]


@contextlib.asynccontextmanager
async def provider(
    *said: bytes | Sequence[bytes] | Speak, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Provider]:
    """A provider that gives these answers.

    An answer that is a list is written piece by piece; a function writes for itself. After an
    empty piece the connection ends.
    """
    here = Provider(said)
    server = await asyncio.start_server(here.serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    host = "localhost" if tls else "127.0.0.1"
    here.url = f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield here
    finally:
        server.close()
        await here.end()

"""The upstream of the tests: a real server on raw asyncio, which plays what a test asks of a path.

It runs in a thread of its own, so that tests stay plain functions with blocking clients. What it
sees is noted in its journal (`connected`, `request`, `body`, `left`), which a test can wait for;
what it should wait for is a *cue* that the test gives. A path nobody claimed echoes what was
received.
"""

import asyncio
import hashlib
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Self

from tests.support.waiting import WITHIN_S, Journal

READ_AHEAD_BYTES_MAX: Final = 1 << 18
"""What a line holds before it stops reading; tests of a slow upstream count on its being small."""

Fields = Iterable[tuple[str, str]]


class Gone(Exception):
    """The other side left."""


class Line(asyncio.Protocol):
    """One connection as the origin holds it."""

    def __init__(self, origin: "Origin") -> None:
        self.origin = origin
        self.number = 0
        self.sent_bytes = 0
        self.has_left = asyncio.Event()  # FIN or reset: nothing more comes
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.origin.welcome(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > READ_AHEAD_BYTES_MAX and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._left("closed")
        return not self.origin.tls

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._left("reset" if exc else "closed")
        self._writable.set()
        self.origin.farewell(self)

    def _left(self, how: str) -> None:
        if not self.has_left.is_set():
            self.has_left.set()
            self._news.set()
            self.origin.journal.note("left", line=self.number, how=how)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def some(self) -> bytes:
        """Whatever has arrived; b"" once the other side said its last."""
        while not self._buffer and not self.has_left.is_set():
            self._news.clear()
            await self._news.wait()
        return self._take(len(self._buffer))

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while (at := self._buffer.find(mark)) < 0:
            await self._more()
        return self._take(at + len(mark))

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        while len(self._buffer) < count:
            await self._more()
        return self._take(count)

    async def _more(self) -> None:
        if self.has_left.is_set():
            raise Gone
        self._news.clear()
        self._resume()
        await self._news.wait()

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._resume()
        return data

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._lost:
                self.transport.resume_reading()

    async def send(self, data: bytes) -> None:
        """Send, and wait while the other side does not take it."""
        if self._lost:
            raise Gone
        self.transport.write(data)
        self.sent_bytes += len(data)
        await self._writable.wait()
        if self.origin.tls:  # It takes whatever one writes to nobody, and says so a turn later.
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Say FIN and go on listening."""
        self.transport.write_eof()

    def close(self) -> None:
        """Close in order: what was sent arrives."""
        self.transport.close()

    def vanish(self) -> None:
        """Close at once: in TLS, without saying so."""
        self.transport.abort()

    def reset(self) -> None:
        """Close with RST."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Scene:
    """One request as the origin received it, and the means to answer it."""

    def __init__(self, line: Line, head: bytes) -> None:
        self.line = line
        self.head = head
        first, *rest = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = first.split(" ", 2)
        self.path = self.target.partition("?")[0]
        self.fields = [
            (name.lower(), value.strip())
            for name, _, value in (field.partition(":") for field in rest)
            if name
        ]
        self.trailers: list[str] = []
        self._body: bytes | None = None

    def field(self, name: str) -> str | None:
        """The first value of a field, or None."""
        return next((value for have, value in self.fields if have == name), None)

    def note(self, kind: str, **known: Any) -> None:
        """Tell the test something."""
        self.line.origin.journal.note(kind, line=self.line.number, path=self.path, **known)

    async def cue(self, name: str) -> None:
        """Wait for the test to give this cue; `Gone` when the other side leaves first."""
        cue = asyncio.create_task(self.line.origin.cue_event(name).wait())
        left = asyncio.create_task(self.line.has_left.wait())
        try:
            await asyncio.wait((cue, left), return_when=asyncio.FIRST_COMPLETED)
            if not cue.done():
                raise Gone
        finally:
            cue.cancel()
            left.cancel()

    async def left(self) -> None:
        """Wait for the other side to leave."""
        await self.line.has_left.wait()

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await self.line.send(data)

    async def reply(self, status: int = 200, body: bytes = b"", fields: Fields = ()) -> None:
        """A whole response with Content-Length, unless the status has no body."""
        await self.send(head(status, [("Content-Length", str(len(body))), *fields]) + body)

    async def parts(self) -> Any:
        """The request body as it arrives, part by part."""
        if (self.field("transfer-encoding") or "").lower() == "chunked":
            while size := int((await self.line.until(b"\r\n")).split(b";")[0], 16):
                yield await self.line.exactly(size)
                await self.line.exactly(2)
            while (line := await self.line.until(b"\r\n")) != b"\r\n":
                self.trailers.append(line.decode("latin-1").strip())
            return
        left = int(self.field("content-length") or 0)
        while left:
            part = await self.line.exactly(min(left, 1 << 16))
            left -= len(part)
            yield part

    async def body(self) -> bytes:
        """The whole request body; trailers are in `trailers` afterwards."""
        if self._body is None:
            self._body = b"".join([part async for part in self.parts()])
            self.note("body", size=len(self._body))
        return self._body

    @property
    def keep(self) -> bool:
        """Whether the client lets this connection live on."""
        return (self.field("connection") or "").lower() != "close" and self.version == "HTTP/1.1"


Act = Callable[[Scene], Awaitable[None]]


def head(status: int, fields: Fields = (), *, reason: str = "Fine") -> bytes:
    """A response head."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def echo(scene: Scene) -> None:
    """Answer with what was received, as JSON."""
    body = await scene.body()
    seen = {
        "origin": scene.line.origin.name,
        "line": scene.line.number,
        "method": scene.method,
        "target": scene.target,
        "version": scene.version,
        "head": scene.head.decode("latin-1"),
        "fields": scene.fields,
        "trailers": scene.trailers,
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "body": body[:4096].decode("latin-1"),
    }
    await scene.reply(200, json.dumps(seen).encode(), [("Content-Type", "application/json")])


class Origin:
    """The server; a context manager. `at` is an IP address, or a Unix socket's path.

    With `tls` it is secured, and its `url` says so; `named` is the host in it.
    """

    def __init__(
        self,
        name: str = "origin",
        *,
        at: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        named: str = "",
    ) -> None:
        self.name = name
        self.journal = Journal()
        self.acts: dict[str, Act] = {}
        self.act: Act = echo  # for a path nobody claimed
        self.failures: list[BaseException] = []
        self.lines: set[Line] = set()
        self.port = 0
        self.tls = tls
        self._at = at
        self._named = named or (f"[{at}]" if ":" in at else at)
        self._lines_ever = 0
        self._cues: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"origin {name}", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    @property
    def url(self) -> str:
        """As an endpoint's address is written in a configuration."""
        if self._at.startswith("/"):
            return f"unix:{self._at}"
        return f"{'https' if self.tls else 'http'}://{self._named}:{self.port}"

    def on(self, path: str, act: Act) -> str:
        """From now on requests for `path` are answered by `act`; returns the path."""
        self.acts[path] = act
        return path

    def give(self, cue: str) -> None:
        """Give a cue; it stays given."""
        self._loop.call_soon_threadsafe(lambda: self.cue_event(cue).set())

    def cue_event(self, cue: str) -> asyncio.Event:
        """For scenes: the event behind a cue."""
        return self._cues.setdefault(cue, asyncio.Event())

    def open(self) -> None:
        """Listen (again), on the port it had before."""
        self._do(self._open())

    def close(self) -> None:
        """Listen no more and reset every connection: from outside, the machine died."""
        self._do(self._close())

    def drop_idle(self) -> None:
        """Close every connection that is there, in order."""
        self._do(self._drop())

    def sent_bytes(self, path: str) -> int:
        """Bytes written on the line that last served `path`."""
        number = self.journal.all("request", path=path)[-1].line
        return next((line.sent_bytes for line in tuple(self.lines) if line.number == number), 0)

    def welcome(self, line: Line) -> None:
        """For lines: one came in."""
        self._lines_ever += 1
        line.number = self._lines_ever
        self.lines.add(line)
        self.journal.note("connected", line=line.number)
        task = self._loop.create_task(self._serve(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def farewell(self, line: Line) -> None:
        """For lines: one is gone for good."""
        self.lines.discard(line)
        self.journal.note("lost", line=line.number)

    async def _serve(self, line: Line) -> None:
        try:
            keep = True
            while keep:
                scene = Scene(line, await line.until(b"\r\n\r\n"))
                self.journal.note(
                    "request",
                    line=line.number,
                    path=scene.path,
                    method=scene.method,
                    head=scene.head,
                )
                act = self.acts.get(scene.path, self.act)
                await act(scene)
                keep = scene.keep
            line.close()
        except Gone:
            line.close()
        except Exception as error:  # noqa: BLE001 # whatever an act did wrong is the test's to know
            self.failures.append(error)
            line.reset()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN_S)

    async def _open(self) -> None:
        if self._at.startswith("/"):
            if os.path.exists(self._at):  # noqa: PTH110, ASYNC240 # a test's own socket file, at once
                os.unlink(self._at)  # noqa: PTH108 # a plain path
            self._server = await self._loop.create_unix_server(lambda: Line(self), self._at)
            return
        self._server = await self._loop.create_server(
            lambda: Line(self),
            self._at,
            self.port,
            backlog=1024,
            reuse_address=True,
            ssl=self.tls,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for line in tuple(self.lines):
            line.reset()

    async def _drop(self) -> None:
        for line in tuple(self.lines):
            line.close()

    async def _end(self) -> None:
        await self._close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

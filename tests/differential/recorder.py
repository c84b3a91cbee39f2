"""A recording upstream: writes down what reaches it, and reads it as strictly as RFC 9112 can be.

Its reader shares nothing with the proxy's. Where a message is not exactly what the grammar says, it
is *unreadable*, and nothing behind it is read: whatever a more forgiving server made of it would be
a guess.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rb"(%b) ([!-~]+) HTTP/1\.[01]" % _TOKEN)
_FIELD_LINE: Final = re.compile(rb"(%b):[ \t]*((?:[!-~\x80-\xff][ \t]*)*)" % _TOKEN)
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


class Unreadable(Exception):
    """What came is no HTTP request; the argument says why."""


@dataclass
class Received:
    """A request as it reached the upstream."""

    method: str
    target: str
    fields: list[tuple[str, str]]  # names in lower case
    framing: str = "none"
    body: bytes = b""
    trailers: list[str] = field(default_factory=list)
    whole: bool = False

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for have, value in self.fields if have == name]

    def host(self) -> str:
        """The value of Host, which every readable request has once."""
        return self.all("host")[0]


class Reader:
    """Reads the bytes of one connection."""

    def __init__(self) -> None:
        self._held = b""
        self._steps = self._read()
        self.current: Received | None = None  # whose head is here and whose end is not
        self.idle = True  # between two requests, with not a byte of the next one
        next(self._steps)

    def feed(self, data: bytes) -> Iterator[Received]:
        """Each request of which the head, and then the end, came with these bytes."""
        self._held += data
        self.idle = False
        while (request := next(self._steps)) is not None:
            yield request

    def _read(self) -> Iterator[Received | None]:
        """One request after another; None asks for more bytes, after which it is resumed."""
        while True:
            self.idle = not self._held
            lines = yield from self._lines()
            request = self.current = _head(lines)
            yield request
            if request.framing == "length":
                size = int(request.all("content-length")[0])
                request.body = yield from self._exactly(size)
            elif request.framing == "chunked":
                yield from self._chunks(request)
            request.whole = True
            self.current = None
            yield request

    def _lines(self):
        """The lines of a section that an empty line ends."""
        lines: list[bytes] = []
        while line := (yield from self._line()):
            lines.append(line)
        return lines

    def _line(self):
        while (end := self._held.find(b"\n")) < 0:
            yield None
        line, self._held = self._held[: end + 1], self._held[end + 1 :]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Unreadable(f"the line {line!r} does not end in one CRLF")
        return line[:-2]

    def _exactly(self, size: int):
        while len(self._held) < size:
            yield None
        data, self._held = self._held[:size], self._held[size:]
        return data

    def _chunks(self, request: Received):
        while True:
            line = yield from self._line()
            if not _CHUNK_SIZE.fullmatch(line):
                raise Unreadable(f"{line!r} is not a chunk size")
            size = int(line, 16)
            if not size:
                break
            request.body += yield from self._exactly(size)
            if (yield from self._exactly(2)) != b"\r\n":
                raise Unreadable("a chunk does not end where its size says")
        for line in (yield from self._lines()):
            name, value = _field(line)
            request.trailers.append(f"{name}: {value}")


def _head(lines: list[bytes]) -> Received:
    match = _REQUEST_LINE.fullmatch(lines[0]) if lines else None
    if match is None:
        raise Unreadable(f"{lines[:1]!r} is not a request line")
    fields = [_field(line) for line in lines[1:]]
    request = Received(match[1].decode(), match[2].decode(), fields)
    if len(request.all("host")) != 1:
        raise Unreadable(f"Host came {len(request.all('host'))} times")
    lengths, codings = request.all("content-length"), request.all("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Unreadable(f"two framings: {lengths} {codings}")
    if codings and codings[0].lower() != "chunked":
        raise Unreadable(f"the coding {codings[0]!r}")
    if lengths and not _DIGITS.fullmatch(lengths[0].encode("latin-1")):
        raise Unreadable(f"the length {lengths[0]!r}")
    request.framing = "chunked" if codings else "length" if lengths else "none"
    return request


def _field(line: bytes) -> tuple[str, str]:
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        raise Unreadable(f"{line!r} is not a field line")
    return match[1].decode().lower(), match[2].decode("latin-1").strip(" \t")


def mark(method: str, target: str) -> bytes:
    """The body of the answer to this request: it says whose answer it is."""
    return f"{method} {target}".encode()


class Line(asyncio.Protocol):
    """One connection to the recorder."""

    def __init__(self, recorder: "Recorder") -> None:
        self.recorder = recorder
        self.reader = Reader()
        self.open = True
        self.unreadable = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.recorder.lines.append(self)

    def data_received(self, data: bytes) -> None:
        self.recorder.raw += data
        if self.unreadable:
            return
        try:
            for request in self.reader.feed(data):
                self.recorder.received(self, request)
        except Unreadable as why:
            self.unreadable = True
            self.recorder.unreadable.append(str(why))
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.transport.close()
        self.recorder.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.recorder.lines.remove(self)
        if not self.unreadable and self.reader.current is not None:
            self.recorder.begun.append(self.reader.current)
        self.recorder.news.set()


class Recorder:
    """An upstream for one lane: what reached it since `begin`."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.news = asyncio.Event()
        self.begin()

    def begin(self, answer: bytes | None = None, *, at_head: bool = False, close: bool = False):
        """Forget what was, and answer the requests of the next case like this."""
        self.requests: list[Received] = []  # whole ones
        self.begun: list[Received] = []  # those that ended with their connection
        self.unreadable: list[str] = []
        self.raw = b""
        self.answer, self.at_head, self.close = answer, at_head, close

    async def listen(self) -> int:
        """Listen on a free port; returns it."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Line(self), "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Close everything."""
        self.server.close()
        for line in list(self.lines):
            line.transport.abort()
        await self.until(lambda: not self.lines)
        await self.server.wait_closed()

    def received(self, line: Line, request: Received) -> None:
        """A head came, or the end of a request: one of both is answered."""
        if request.whole:
            self.requests.append(request)
        elif request.all("expect") and request.framing != "none" and not self.at_head:
            line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        ours = request.target.startswith(("/probe-", "/settle-"))
        if request.whole is not (self.at_head and not ours):
            self._answer(line, request, ours=ours)

    def _answer(self, line: Line, request: Received, *, ours: bool) -> None:
        if self.answer is not None and not ours:
            line.transport.write(self.answer)
            if self.close:
                line.transport.close()
            return
        body = b"" if request.method == "HEAD" else mark(request.method, request.target)
        line.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def until(self, claim) -> None:
        """Wait until a claim about this recorder holds."""
        while not claim():
            self.news.clear()
            await self.news.wait()

    def quiet(self) -> bool:
        """Whether no connection is in the middle of a request."""
        return all(line.reader.idle for line in self.lines)

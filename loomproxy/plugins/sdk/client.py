"""An HTTP client for plugins that ask a provider: JSON there, JSON or a stream of lines back.

It has what a provider plugin needs and no more: connections that are kept, TLS, a timeout for each
phase, bounds, and failures that are `PluginError`s already, with the code that the proxy should
hear. Redirects are not followed, cookies not kept. One whose `stream` block ends early, because the
client has left, closes its connection at once, so that the provider stops working.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from loomproxy.plugins.sdk import wire
from loomproxy.plugins.sdk.errors import PluginError
from loomproxy.plugins.sdk.later import aclosing, timeout
from loomproxy.plugins.sdk.upstream import error_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from loomproxy.plugins.sdk.wire import Event, Head

KEPT_S: Final = 4.0
"""How long an idle connection is kept: less than the 5 s after which node and uvicorn close it."""

ERROR_BYTES_MAX: Final = 65536
"""Of an answer that is an error; what it says stands at its beginning."""

_ERROR_STATUS_MIN: Final = 300
_INFORMATIONAL_MAX: Final = 199
_BODILESS: Final = frozenset(("204", "304"))
_PORTS: Final = {"http": 80, "https": 443}


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Seconds for each phase. There is none for the whole: a healthy stream may be long."""

    connect_s: float = 5.0  # for a free connection, and for its handshakes
    first_byte_s: float = 300.0  # until the answer begins
    idle_s: float = 60.0  # between two pieces of it


@dataclasses.dataclass
class _Pipe:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    kept_at: float = 0.0


class Stream:
    """An answer as it comes."""

    def __init__(self, head: Head, pieces: AsyncIterator[bytes]) -> None:
        self.fields = head.fields  # names in lower case
        self._pieces = pieces

    async def lines(self) -> AsyncIterator[str]:
        """Yield each line without its end; for NDJSON."""
        lines = wire.Lines()
        try:
            async for piece in self._pieces:
                for line in lines.feed(piece):
                    yield line
        except wire.TooLarge as error:
            message = f"The provider's answer cannot be read: {error}."
            raise PluginError("provider_unavailable", message, transient=False) from None
        last = lines.end()
        if last:
            yield last

    async def events(self) -> AsyncIterator[Event]:
        """Yield each server-sent event; one that the end cuts off is none."""
        events = wire.Events()
        async for line in self.lines():
            event = events.feed(line)
            if event is not None:
                yield event


class Client:
    """Asks one provider, at `base_url`. Make it in the initialise hook, close it in cleanup.

    `fields` go with every request: the key, for one. At most `connections_max` requests run at
    once; further ones wait as long as a connection may take. Names of hosts in `base_url` are
    resolved for each new connection.
    """

    def __init__(
        self,
        base_url: str,
        *,
        fields: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        connections_max: int = 256,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        with contextlib.suppress(ValueError):  # of a port that is none
            self._port = parts.port or _PORTS.get(parts.scheme, 0)
        if parts.scheme not in _PORTS or not parts.hostname or not hasattr(self, "_port"):
            raise PluginError(
                "invalid_request", f"{base_url!r}: is no http:// or https:// URL. Correct it."
            )
        self._host = parts.hostname
        self._base = parts.path.rstrip("/")
        self._tls = tls
        self._secure = parts.scheme == "https"
        self._place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._fields = {"Host": parts.netloc.rpartition("@")[2], **(fields or {})}
        self._timeouts = timeouts or Timeouts()
        self._free: collections.deque[_Pipe] = collections.deque()
        self._connections_max = connections_max
        self._slots: asyncio.Semaphore | None = None  # made in its loop, as old Pythons want it

    async def get(self, path: str) -> Any:
        """Return the JSON at `base_url` + `path`."""
        return await self._whole("GET", path, None)

    async def post(self, path: str, body: Any) -> Any:
        """Return the JSON that answers this one."""
        return await self._whole("POST", path, body)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncGenerator[Stream, None]:
        """POST JSON; the block reads the answer while it comes.

        An answer that is no success raises before the block begins.
        """
        async with self._asked("POST", path, body) as stream:
            yield stream

    async def aclose(self) -> None:
        """Close the connections that are kept. The client can still be used."""
        while self._free:
            writer = self._free.popleft().writer
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _whole(self, method: str, path: str, body: Any) -> Any:
        async with self._asked(method, path, body) as stream:
            try:
                data = await wire.read_whole(stream._pieces)  # noqa: SLF001 - of this module
            except wire.TooLarge as error:
                raise self._broken(str(error)) from None
        try:
            return wire.load(data) if data else None
        except wire.Malformed as error:
            raise self._broken(f"its answer {error}") from None

    @contextlib.asynccontextmanager
    async def _asked(self, method: str, path: str, body: Any) -> AsyncGenerator[Stream, None]:
        async with self._slot():
            pipe = await self._take()
            kept = False
            try:
                head = await self._exchange(pipe, method, path, body)
                pieces = self._pieces(pipe, head, bodiless=head.first[1] in _BODILESS)
                async with aclosing(pieces):
                    if int(head.first[1]) >= _ERROR_STATUS_MIN:
                        raise error_of(self._place, head, await _excerpt(pieces))
                    yield Stream(head, pieces)
                # An answer that was read to its end leaves a connection that can be used again.
                kept = bool(pipe.kept_at)
            finally:
                if kept:
                    self._free.append(pipe)
                else:
                    pipe.writer.transport.abort()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        slots = self._slots = self._slots or asyncio.Semaphore(self._connections_max)
        try:
            async with timeout(self._timeouts.connect_s):
                await slots.acquire()
        except TimeoutError:
            raise PluginError(
                "provider_unavailable", f"{self._place}: all connections are in use."
            ) from None
        try:
            yield
        finally:
            slots.release()

    async def _take(self) -> _Pipe:
        """Return a kept connection that still stands, or a new one."""
        loop = asyncio.get_running_loop()
        while self._free:
            pipe = self._free.pop()
            fresh = loop.time() - pipe.kept_at < KEPT_S
            if fresh and not pipe.reader.at_eof() and not pipe.writer.transport.is_closing():
                pipe.kept_at = 0.0
                return pipe
            pipe.writer.transport.abort()
        try:
            async with timeout(self._timeouts.connect_s):
                return await self._connect()
        except TimeoutError:
            seconds = self._timeouts.connect_s
            message = f"{self._place}: no connection within {seconds:g} s."
            raise PluginError("provider_unavailable", message) from None
        except ssl.SSLError as error:
            message = f"{self._place}: TLS failed: {error.reason or error}."
            raise PluginError("provider_unavailable", message, transient=False) from None
        except OSError as error:
            message = f"{self._place}: no connection: {error.strerror or error}."
            raise PluginError("provider_unavailable", message) from None

    async def _connect(self) -> _Pipe:
        if self._secure and self._tls is None:
            self._tls = ssl.create_default_context()
        reader, writer = await asyncio.open_connection(
            self._host,
            self._port,
            limit=wire.HEAD_BYTES_MAX,
            ssl=self._tls if self._secure else None,
            happy_eyeballs_delay=0.25,
        )
        return _Pipe(reader, writer)

    async def _exchange(self, pipe: _Pipe, method: str, path: str, body: Any) -> Head:
        """Send a request; return the head of its answer."""
        data = b"" if body is None else wire.dump(body)
        fields = {**self._fields, "Accept-Encoding": "identity"}
        if body is not None:
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(data))
        lines = [f"{method} {self._base}{path} HTTP/1.1"]
        lines += (f"{name}: {value}" for name, value in fields.items())
        if any("\r" in line or "\n" in line for line in lines):
            raise PluginError("invalid_request", f"{self._place}: a field holds a line break.")
        try:
            async with timeout(self._timeouts.first_byte_s):
                pipe.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
                await pipe.writer.drain()
                head = await wire.read_head(pipe.reader)
                while head and int(_status(head)) <= _INFORMATIONAL_MAX:
                    head = await wire.read_head(pipe.reader)
        except TimeoutError:
            seconds = self._timeouts.first_byte_s
            message = f"{self._place}: no answer within {seconds:g} s."
            raise PluginError("timeout", message) from None
        except (OSError, wire.Malformed, wire.TooLarge) as error:
            raise self._broken(str(error)) from None
        if head is None:
            raise self._broken("the connection ended before an answer")
        return head

    async def _pieces(
        self, pipe: _Pipe, head: Head, *, bodiless: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body; at its end the pipe may be kept, if the answer allows it."""
        pieces = wire.read_pieces(pipe.reader, head)
        while not bodiless:
            try:
                async with timeout(self._timeouts.idle_s):
                    piece = await wire.next_piece(pieces)
            except TimeoutError:
                seconds = self._timeouts.idle_s
                message = f"{self._place}: nothing came for {seconds:g} s in the middle."
                raise PluginError("timeout", message) from None
            except (OSError, wire.Malformed, wire.TooLarge) as error:
                raise self._broken(str(error)) from None
            if not piece:
                break
            yield piece
        framed = bodiless or head.chunked or head.length is not None
        if framed and not head.asks("close") and head.first[0] == "HTTP/1.1":
            pipe.kept_at = asyncio.get_running_loop().time()

    def _broken(self, problem: str) -> PluginError:
        return PluginError("provider_unavailable", f"{self._place}: {problem}.")


def _status(head: Head) -> str:
    if not head.first[0].startswith("HTTP/1.") or not head.first[1].isdecimal():
        raise wire.Malformed(f"the first line {' '.join(head.first)[:80]!r} is none")
    return head.first[1]


async def _excerpt(pieces: AsyncIterator[bytes]) -> bytes:
    """Return the beginning of an error's body; none, when even that does not come whole."""
    body = bytearray()
    with contextlib.suppress(PluginError):
        async for piece in pieces:
            body += piece
            if len(body) >= ERROR_BYTES_MAX:
                break
    return bytes(body[:ERROR_BYTES_MAX])

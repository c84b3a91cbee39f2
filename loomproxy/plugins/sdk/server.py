"""The plugin's HTTP server: connections, their bounds, and what a leaving caller means.

It reads one call after another from each connection, checks the token, has it answered, and writes
the answer, waiting whenever the caller reads slowly. It does not know what the paths mean: that is
`answer`'s, the function that it was given. Cancellation is a connection that ends: whatever works
for it is cancelled at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import re
import secrets
import sys
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from loomproxy.plugins.sdk import wire
from loomproxy.plugins.sdk.errors import PluginError
from loomproxy.plugins.sdk.later import timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from loomproxy.plugins.sdk.wire import Head

IDLE_TIMEOUT_S: Final = 75.0
"""How long a connection may be silent between calls, or within one; nginx's is 75 s, too."""

LINGER_S: Final = 2.0
"""How long what a refused caller still sends is read, so that it gets to read the refusal."""

PIECES_PER_TURN_MAX: Final = 16
"""Of one stream in a row; a handler that never waits would keep the loop from all else."""

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")
_REFUSED_STATUS_MIN: Final = 400
_BUFFER_BYTES: Final = wire.HEAD_BYTES_MAX


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much a plugin takes on at once. Beyond it: 503 `provider_unavailable`, at once."""

    connections_max: int = 1024
    in_flight_max: int = 256  # chat completions
    body_bytes_max: int = wire.BODY_BYTES_MAX
    health_timeout_s: float = 5.0  # of the plugin's own health hook


@dataclasses.dataclass(frozen=True)
class Call:
    """One request to the plugin."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes
    request_id: str


@dataclasses.dataclass
class Answer:
    """What goes back: a body, or the pieces of an event stream."""

    status: int = 200
    body: bytes = b"{}"
    stream: AsyncGenerator[bytes, None] | None = None
    fields: dict[str, str] = dataclasses.field(default_factory=dict)


def refusal(error: PluginError) -> Answer:
    """Return the answer that a PluginError is."""
    answer = Answer(error.status, wire.dump(error.as_dict()))
    wait_s = error.details.get("retry_after")
    if isinstance(wait_s, (int, float)):
        answer.fields["Retry-After"] = str(max(0, round(wait_s)))
    return answer


def failure(request_id: str) -> PluginError:
    """Say on stderr what is being handled just now; return what the caller may know of it."""
    sys.stderr.write(f"request {request_id}: the plugin failed\n{traceback.format_exc()}")
    sys.stderr.flush()
    return PluginError(
        "internal_error",
        f"The plugin failed; its log says why, at request {request_id}.",
        details={"request_id": request_id},
    )


class Server:
    """All connections of one plugin."""

    def __init__(
        self, answer: Callable[[Call], Awaitable[Answer]], token: str, bounds: Bounds
    ) -> None:
        self.answer = answer
        self.bounds = bounds
        self.draining = False
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self._token = f"Bearer {token}".encode()

    def connection(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self)

    def knows(self, authorization: str) -> bool:
        """Whether a call carries our token; it takes as long whatever is wrong with it."""
        return hmac.compare_digest(authorization.encode("latin-1", "replace"), self._token)

    async def drain(self, grace_s: float) -> None:
        """Let running calls end for so long, then cancel them; return when all have left."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.leave_when_idle()
        with contextlib.suppress(TimeoutError):
            async with timeout(grace_s):
                await self.empty.wait()
        for connection in tuple(self.connections):
            connection.cancel()
        with contextlib.suppress(TimeoutError):
            async with timeout(1.0):  # A handler that ignores being cancelled ends with us.
                await self.empty.wait()


class Connection(asyncio.StreamReaderProtocol):
    """One connection: a task that reads, answers, and is cancelled when the caller leaves."""

    def __init__(self, server: Server) -> None:
        super().__init__(asyncio.StreamReader(limit=_BUFFER_BYTES), self._begin)
        self._server = server
        self._serving_task: asyncio.Task[Any] | None = None  # `_task` is the base class's own
        self._busy = False  # between a call's head and the end of its answer
        self._cancelled = False
        self._closing = False

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = self._server
        self._serving_task = asyncio.current_task()
        server.connections.add(self)
        server.empty.clear()
        try:
            if len(server.connections) > server.bounds.connections_max:
                await self._refuse_connection(writer)
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # The caller left, or was silent for too long: nobody is there to be told. What a
            # handler raises does not come here.
            pass
        except Exception:  # noqa: BLE001 - one connection's failure is no other's
            failure("-")
        finally:
            server.connections.discard(self)
            if not server.connections:
                server.empty.set()
            writer.close()

    def eof_received(self) -> bool | None:
        """The caller left: whoever half-closes has no use for an answer either."""
        keep = super().eof_received()
        if self._busy:
            self.cancel()
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        super().connection_lost(exc)
        if self._busy:
            self.cancel()

    def cancel(self) -> None:
        """End what runs for this connection; once, so that its cleaning up is not cut short."""
        if self._serving_task is not None and not self._cancelled:
            self._cancelled = True
            self._serving_task.cancel()

    def leave_when_idle(self) -> None:
        """Close now, or after the call that is being answered."""
        self._closing = True
        if not self._busy:
            self.cancel()

    async def _refuse_connection(self, writer: asyncio.StreamWriter) -> None:
        bound = self._server.bounds.connections_max
        error = PluginError("provider_unavailable", f"All {bound} connections are taken.")
        self._closing = True
        await self._write(writer, None, refusal(error), "")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head: Head | None = None
            try:
                async with timeout(IDLE_TIMEOUT_S):
                    head = await wire.read_head(reader)
                if head is None:
                    return
                self._busy = True
                call = await self._read_call(reader, writer, head)
                answer = await self._answer(call)
            except wire.Malformed as error:
                answer = self._last(PluginError("invalid_request", f"No HTTP: {error}."))
            except wire.TooLarge as error:
                status = 431 if head is None else 413
                answer = self._last(PluginError("invalid_request", f"{error}.", status=status))
            except PluginError as error:
                answer = refusal(error)
            request_id = head.fields["x-request-id"] if head else ""
            await self._write(writer, head, answer, request_id)
            if self._closing:
                if answer.status >= _REFUSED_STATUS_MIN:
                    await self._linger(reader, writer)
                return
            self._busy = False

    def _last(self, error: PluginError) -> Answer:
        """Return the refusal after which nothing that this connection says can be understood."""
        self._closing = True
        return refusal(error)

    async def _read_call(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Head
    ) -> Call:
        """Return the call behind a head. Nothing of it is kept before its token was seen."""
        method, target, version = head.first
        given_id = head.fields.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(given_id):
            given_id = secrets.token_hex(8)
        head.fields["x-request-id"] = given_id
        if version not in {"HTTP/1.1", "HTTP/1.0"}:
            raise wire.Malformed(f"the version {version[:20]!r} is none that is understood")
        if version == "HTTP/1.0" or head.asks("close") or self._server.draining:
            self._closing = True
        known = self._server.knows(head.fields.get("authorization", ""))
        body = await self._read_body(reader, writer, head, keep=known)
        if not known:
            raise PluginError(
                "authentication_failed",
                "The call has not this plugin's token: Authorization: Bearer $LOOM_PLUGIN_TOKEN.",
            )
        return Call(method, target.partition("?")[0], head.fields, body, given_id)

    async def _read_body(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: Head,
        *,
        keep: bool,
    ) -> bytes:
        if not head.chunked and not head.length:
            return b""
        bound = self._server.bounds.body_bytes_max
        if (head.length or 0) > bound:
            raise wire.TooLarge(f"a body may have {bound} bytes")
        if head.fields.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length and head.length <= _BUFFER_BYTES:  # as nearly all: in one piece
            async with timeout(IDLE_TIMEOUT_S):
                return await wire.read_exactly(reader, head.length)
        return await self._read_long_body(reader, head, keep=keep)

    async def _read_long_body(
        self, reader: asyncio.StreamReader, head: Head, *, keep: bool
    ) -> bytes:
        bound = self._server.bounds.body_bytes_max
        body = bytearray()
        body_bytes = 0
        pieces = wire.read_pieces(reader, head)
        while True:
            async with timeout(IDLE_TIMEOUT_S):
                piece = await wire.next_piece(pieces)
            if not piece:
                return bytes(body)
            body_bytes += len(piece)
            if body_bytes > bound:
                raise wire.TooLarge(f"a body may have {bound} bytes")
            if keep:
                body += piece

    async def _answer(self, call: Call) -> Answer:
        try:
            return await self._server.answer(call)
        except PluginError as error:
            return refusal(error)
        except Exception:  # noqa: BLE001 - whatever a plugin's code raises has this one answer
            return refusal(failure(call.request_id))

    async def _write(
        self, writer: asyncio.StreamWriter, head: Head | None, answer: Answer, request_id: str
    ) -> None:
        old = head is not None and head.first[2] == "HTTP/1.0"
        fields = dict(answer.fields)
        if answer.stream is None:
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(answer.body))
        else:
            fields["Content-Type"] = "text/event-stream"
            fields["Cache-Control"] = "no-cache"
            if not old:
                fields["Transfer-Encoding"] = "chunked"
        if request_id:
            fields["X-Request-ID"] = request_id
        if self._closing or self._server.draining:
            self._closing = True
            fields["Connection"] = "close"
        phrase = HTTPStatus(answer.status).phrase
        lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{k}: {v}" for k, v in fields.items())]
        block = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if answer.stream is not None:
            writer.write(block)
            await self._write_stream(writer, answer.stream, chunked=not old)
        elif head is not None and head.first[0] == "HEAD":
            writer.write(block)
        else:
            writer.write(block + answer.body)
        await writer.drain()

    async def _write_stream(
        self, writer: asyncio.StreamWriter, stream: AsyncGenerator[bytes, None], *, chunked: bool
    ) -> None:
        """Write pieces as they come, no faster than they are read."""
        pieces_since = 0  # the loop had a turn
        try:
            async for piece in stream:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
                pieces_since += 1
                if pieces_since == PIECES_PER_TURN_MAX:
                    pieces_since = 0
                    await asyncio.sleep(0)  # noqa: TID251 - no cadence: one turn of the loop
        except (ConnectionError, asyncio.CancelledError):
            # The handler may stand at a `yield`: it learns of it as if it had been waiting.
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await stream.athrow(asyncio.CancelledError())
            raise
        finally:
            await stream.aclose()
        if chunked:
            writer.write(b"0\r\n\r\n")

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read on for a moment: bytes unread at a close would take the refusal with them."""
        if writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with timeout(LINGER_S):
                while await reader.read(_BUFFER_BYTES):
                    pass

"""A small HTTP server for the house's own pages: the admin listener and the demo upstream.

It reads with the same wire as the data plane and answers one request at a time per connection. It
is made for few clients: what they may send, how many they may be and how long they may idle is
bounded, and nothing more is done for speed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import msgspec
import orjson

from loomproxy.cluster.store import DOCUMENT_BYTES_MAX
from loomproxy.core.http1.framing import chunk, last_chunk
from loomproxy.core.http1.wire import Limits, Refusal, RequestWire
from loomproxy.core.hygiene import local_response
from loomproxy.core.message import RequestHead, RequestPart

LIMITS: Final = Limits(head_bytes_max=16 << 10, target_bytes_max=4096, body_bytes_max=64 << 10)
"""What one request may bring. Operators' tools send little."""

OPERATORS_LIMITS: Final = msgspec.structs.replace(LIMITS, body_bytes_max=DOCUMENT_BYTES_MAX)
"""The same where only operators come: they publish a configuration in one piece."""

IDLE_TIMEOUT_S: Final = 30.0
"""How long a connection may keep us waiting, before, within or between its requests."""

BUFFERED_BYTES_MAX: Final = 64 << 10
"""What a client may send ahead while it waits for an answer; then it is not read from."""

CONNECTIONS_MAX: Final = 256
"""How many clients at once; further ones are cut at once, so that operators notice."""


class Reply(msgspec.Struct):
    """What to answer: `body`, or what `stream` yields, piece by piece, instead of it."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    extra: bytes = b""  # further fields, a canonical block
    stream: AsyncIterator[bytes] | None = None


def as_json(status: int, thing: object) -> Reply:
    """`thing` as compact JSON with a newline: what people read in a terminal ends a line."""
    try:
        body = orjson.dumps(thing, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # What JSON can say and orjson refuses: integers beyond 64 bits, lone surrogates.
        body = json.dumps(thing, separators=(",", ":")).encode() + b"\n"
    return Reply(status, body)


Answer = Callable[[RequestHead, bytes], Awaitable[Reply]]
Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class HttpServer:
    """All connections of one listening socket. `answer` must not raise."""

    def __init__(
        self,
        answer: Answer,
        spawn: Spawn,
        *,
        connections_max: int = CONNECTIONS_MAX,
        limits: Limits = LIMITS,
    ) -> None:
        self._answer = answer
        self._spawn = spawn
        self._connections_max = connections_max
        self._limits = limits
        self._connections: set[HttpConnection] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, sock: Any) -> None:  # socket.socket, of either family
        """Accept on a bound socket, which is ours from now on."""
        server = await asyncio.get_running_loop().create_server(self._connection, sock=sock)
        self._servers.append(server)

    async def close(self) -> None:
        """Accept no more, answer what was asked, and cut what idles."""
        for server in self._servers:
            server.close()
        while self._connections:
            waiting = [connection.leave() for connection in list(self._connections)]
            await asyncio.gather(*waiting)

    def _connection(self) -> asyncio.Protocol:
        return HttpConnection(
            self._answer, self._spawn, self._connections, self._connections_max, self._limits
        )


class HttpConnection(asyncio.Protocol):
    """One client."""

    def __init__(
        self,
        answer: Answer,
        spawn: Spawn,
        connections: set["HttpConnection"],
        connections_max: int,
        limits: Limits,
    ) -> None:
        self._answer = answer
        self._spawn = spawn
        self._connections = connections
        self._connections_max = connections_max
        self._wire = RequestWire(limits)
        self._head: RequestHead | None = None
        self._body: list[bytes] = []
        self._busy: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._gone = asyncio.Event()
        self._leaving = False

    async def leave(self) -> None:
        """Finish what is being answered, and close."""
        self._leaving = True
        if self._busy is None:
            self._close()
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._writable.set()
        if len(self._connections) > self._connections_max:
            self._transport.abort()
            return
        self._arm()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client left, or we did."""
        self._transport = None
        self._connections.discard(self)
        self._disarm()
        self._writable.set()
        self._gone.set()
        if self._busy is not None:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, unless an answer is being made."""
        self._wire.receive(data)
        if self._busy is None:
            self._arm()
            self._advance()
        elif self._wire.buffered > BUFFERED_BYTES_MAX and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client will send no more; keep the connection while an answer is being made."""
        self._leaving = True
        return self._busy is not None

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It takes it again."""
        self._writable.set()

    def _advance(self) -> None:
        """Read until a request is whole, or more bytes are needed."""
        while self._busy is None:
            thing = self._wire.poll()
            if thing is None:
                return
            if isinstance(thing, Refusal):
                self._refuse(thing)
                return
            self._take(thing)

    def _take(self, thing: RequestHead | RequestPart) -> None:
        if isinstance(thing, RequestHead):
            self._head = thing
            self._body = []
            if thing.expect_continue:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if thing.has_body:
                return
        else:
            self._body.append(thing.data)
            if not thing.ended:
                return
        assert self._head is not None
        self._disarm()
        self._busy = self._spawn(self._respond(self._head, b"".join(self._body)), "answer")

    async def _respond(self, head: RequestHead, body: bytes) -> None:
        """Answer one request, then read the next."""
        try:
            reply = await self._answer(head, body)
        except BaseException:
            self._close()  # A bug of ours, or the end of the node: nobody is to wait for ever.
            raise
        keep = head.keep_alive and not self._leaving
        if reply.stream is not None:
            keep = keep and head.minor_version > 0
            await self._send_stream(head, reply, reply.stream, keep_alive=keep)
        else:
            self._write(
                local_response(
                    reply.status,
                    content_type=reply.content_type,
                    body=reply.body,
                    keep_alive=keep,
                    head_only=head.method == b"HEAD",
                    extra=reply.extra,
                )
            )
        self._busy = None
        if not keep or self._leaving:
            self._close()
            return
        self._wire.next_message()
        if self._transport is not None:
            self._transport.resume_reading()
            self._arm()
        self._advance()

    async def _send_stream(
        self, head: RequestHead, reply: Reply, stream: AsyncIterator[bytes], *, keep_alive: bool
    ) -> None:
        """Send pieces as they come; to an HTTP/1.0 client until we close (RFC 9112 §6.3)."""
        chunked = head.minor_version > 0
        self._write(
            b"HTTP/1.1 %d OK\r\nContent-Type: %b\r\nCache-Control: no-store\r\n"
            b"%bConnection: %b\r\n\r\n"
            % (
                reply.status,
                reply.content_type,
                b"Transfer-Encoding: chunked\r\n" if chunked else b"",
                b"keep-alive" if keep_alive else b"close",
            )
        )
        if head.method != b"HEAD":
            async for piece in stream:
                self._write(chunk(piece) if chunked else piece)
                await self._writable.wait()
            if chunked:
                self._write(last_chunk(b""))

    def _refuse(self, refusal: Refusal) -> None:
        self._write(
            local_response(
                refusal.fault.status or 400,
                content_type=b"text/plain; charset=utf-8",
                body=refusal.fault.text.encode() + b"\n",
                keep_alive=False,
                head_only=False,
            )
        )
        self._close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _arm(self) -> None:
        """Wait for the client from now on, within bounds."""
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT_S, self._close)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

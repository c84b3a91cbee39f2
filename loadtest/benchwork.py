"""The pieces of work that `loadtest/bench` measures: a real worker's connections, without sockets.

Each piece is what one event of a network makes a worker do: its connections, drivers, exchanges,
access log and counters are the real ones; only the transports hold bytes instead of sending them.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

from loomproxy.config.compile import compile_snapshot
from loomproxy.config.load import parse
from loomproxy.config.model import Config, Listener
from loomproxy.core.chat.provider import Model, Provider
from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.core.http1.limits import Refusal
from loomproxy.core.hygiene import Peer
from loomproxy.core.world import World
from loomproxy.worker.accesslog import AccessLog
from loomproxy.worker.downstream import Downstream
from loomproxy.worker.lines import line_for
from loomproxy.worker.services import Services
from loomproxy.worker.upstream import Upstream

CONFIG = """
listeners:
  - {name: public, address: "127.0.0.1:8080", keepalive_requests_max: 1000000000, chat: true}
pools: {app: {endpoints: ["http://127.0.0.1:9000"], keepalive: {requests_max: 1000000000}}}
routes: [{pool: app}]
"""
GET = b"GET /small HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n"
POST = (
    b"POST /small HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 25 Nov 2026 22:15:03 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n"
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"64\r\n" + b"data: " + b"x" * 92 + b"\n\n" + b"\r\n"
_SAID = b"a sentence that somebody says to a model, " * 6
_ASKED = b'{"model": "acme/model-1", "messages": [{"role": "user", "content": "%b"}]}' % _SAID
_COMPLETION = (
    b'{"id": "chatcmpl-1", "object": "chat.completion", "created": 1764000000, "model": "model-1", '
    b'"choices": [{"index": 0, "message": {"role": "assistant", "content": "%b"}, '
    b'"finish_reason": "stop"}], "usage": {"prompt_tokens": 60, "completion_tokens": 60, '
    b'"total_tokens": 120}}' % _SAID
)
_CHUNK = (
    b'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1764000000, '
    b'"model": "model-1", "choices": [{"index": 0, "delta": {"content": " word"}}]}\n\n'
)
CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk\r\n"
    b"Authorization: Bearer sk-1234567890\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_ASKED), _ASKED)
)
_STREAMED = _ASKED.replace(b"{", b'{"stream": true, ', 1)
CHAT_STREAMED = CHAT.replace(_ASKED, _STREAMED).replace(
    b": %d" % len(_ASKED), b": %d" % len(_STREAMED)
)
COMPLETION = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_COMPLETION), _COMPLETION)
)
DELTA = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)
PROVIDER = Provider(
    "acme",
    (EndpointSpec(Address(path="/run/acme.sock"), secrets=((b"Authorization", b"Bearer t"),)),),
    (Model("model-1"),),
)
UPGRADE = GET.replace(b"Accept: */*", b"Connection: Upgrade\r\nUpgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FRAME = b"\x82\x7e\x00\x64" + b"x" * 100
MALFORMED = GET.replace(b"Accept: ", b"Accept : ")

Work = Callable[[], object]


class Transport(asyncio.Transport):
    """Takes all that is written at once, and keeps the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = b""

    def write(self, data: Any) -> None:
        """Take it."""
        self.last = data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held back."""

    def get_write_buffer_size(self) -> int:
        """Nothing is held."""
        return 0

    def is_closing(self) -> bool:
        """It stays."""
        return False

    def is_reading(self) -> bool:
        """Whoever measures decides when something is read."""
        return True

    def write_eof(self) -> None:
        """Nobody is at the other end."""

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def close(self) -> None:
        """It stays."""

    def abort(self) -> None:
        """It stays."""


class Network:
    """The part of a loop that a driver asks for connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_soon = loop.call_soon
        self.upstream: Upstream | None = None

    async def create_connection(
        self, make: Callable[[], Upstream], *_place: object, **_more: object
    ) -> None:
        """Be there at once."""
        self.upstream = make()
        self.upstream.connection_made(Transport())

    create_unix_connection = create_connection


class Door:
    """A listener without a socket."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.nobody = Peer(b"", 0, trusted=False)

    def peer_of(self, _transport: object) -> Peer:
        """Always the same client."""
        return Peer(b"127.0.0.1", 4711, trusted=False, local_port=8080, listener="public")

    def opened(self, _client: object, _teller: object) -> None:
        """Nobody counts."""

    def closed(self, _client: object, _teller: object) -> None:
        """Nobody counts."""

    def refused(self, _peer: Peer, _refusal: Refusal) -> None:
        """Nobody reads a log."""


class Bench:
    """One worker, and one connection of a client and of an endpoint at a time."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        config = parse(CONFIG, "bench.yaml")
        assert isinstance(config, Config), config
        self._log = AccessLog("/dev/null", line_for("json"), _no_trouble)
        self._services = Services(
            World(compile_snapshot(config, 1, (PROVIDER,))), group, self._log, _nobody_serves
        )
        self._network = Network(self._services.loop)
        self._services.loop = cast("asyncio.AbstractEventLoop", self._network)
        self._door = Door(config.static.listeners[0])

    def client(self) -> Downstream:
        """Return a client that has just connected."""
        client = Downstream(cast("Any", self._door), self._services)
        client.connection_made(Transport())
        return client

    async def asking(self, request: bytes) -> tuple[Downstream, Upstream]:
        """Return a client that has asked, and the connection to the endpoint that was asked."""
        client = self.client()
        client.data_received(request)
        for _ in range(3):  # The connection is opened by a task, which needs its turns.
            turned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            await turned
        assert self._network.upstream is not None, "no connection was asked for"
        return client, self._network.upstream

    def forget(self) -> None:
        """Drop the lines that nobody writes down here."""
        self._log.give_up()


async def pieces(bench: Bench) -> dict[str, Work]:
    """Return every piece of work by its name, each ready to be done again and again."""
    # All three ask before anybody is answered, so that each has a connection of its own.
    client, endpoint = await bench.asking(GET)
    reader, stream = await bench.asking(GET)
    talker, listener = await bench.asking(UPGRADE)
    asker, provider = await bench.asking(CHAT)
    hearer, deltas = await bench.asking(CHAT_STREAMED)
    endpoint.data_received(ANSWER)
    provider.data_received(COMPLETION)
    deltas.data_received(STREAM)
    stream.data_received(STREAM)
    listener.data_received(SWITCHED)

    def exchange(request: bytes, answer: bytes = ANSWER) -> None:
        client.data_received(request)
        endpoint.data_received(answer)

    def chat() -> None:
        asker.data_received(CHAT)
        provider.data_received(COMPLETION)

    heads = _ever_other()
    exchange(GET)
    chat()
    deltas.data_received(DELTA)
    deltas.data_received(DELTA)
    stream.data_received(EVENT)
    talker.data_received(FRAME)
    # Nobody shall measure how fast something fails.
    assert _heard(client).endswith(b"\r\n\r\nhello\n"), _heard(client)
    assert _heard(reader) == EVENT, _heard(reader)
    assert _heard(listener) == FRAME, _heard(listener)
    assert _heard(asker).endswith(_COMPLETION), _heard(asker)
    assert _heard(hearer) == DELTA, _heard(hearer)
    return {
        "small GET": lambda: exchange(GET),
        "small GET, heads never seen": lambda: exchange(*next(heads)),
        "POST of 1 KiB": lambda: exchange(POST),
        "chat": chat,
        "chunk of a chat": lambda: deltas.data_received(DELTA),
        "event of a stream": lambda: stream.data_received(EVENT),
        "piece of a tunnel": lambda: talker.data_received(FRAME),
        "refused head": lambda: bench.client().data_received(MALFORMED),
    }


def _heard(connection: Any) -> bytes:
    """Return what was written last to a connection of either side."""
    transport = getattr(connection, "transport", None) or connection._transport  # noqa: SLF001 - only looked at
    return bytes(transport.last)


def _ever_other() -> Iterator[tuple[bytes, bytes]]:
    for number in itertools.count():
        yield (
            GET.replace(b"wrk", b"wrk/%d" % (number % 997)),
            ANSWER.replace(b"22:15:03", b"%02d:%02d:03" % (number // 60 % 24, number % 60)),
        )


def _no_trouble(_reason: str, _lost: int) -> None:
    """Lines are dropped here on purpose."""


def _nobody_serves(_number: int, _path: bytes) -> None:
    """No page of the house is asked for."""

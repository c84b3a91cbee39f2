"""The house's small HTTP server, with real connections."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from loomproxy.core.message import RequestHead
from loomproxy.node import http as module
from loomproxy.node.group import Group
from loomproxy.node.http import HttpServer, Reply

DEADLINE_S = 30.0


class House:
    """A server, what it was asked, and clients of it."""

    def __init__(self, **server: int) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.called = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.server = HttpServer(self.answer, Group().spawn, **server)
        self.address = ("", 0)

    async def open(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        await self.server.listen(sock)

    async def answer(self, head: RequestHead, body: bytes) -> Reply:
        self.asked.append((head.target, body))
        self.called.set()
        if self.hold is not None:
            await self.hold.wait()
        if head.path == b"/bug":
            raise AssertionError("a bug")
        if head.path == b"/stream":
            return Reply(200, content_type=b"text/plain", stream=_pieces())
        return Reply(200, head.path + b"\n", b"text/plain", b"X-House: yes\r\n")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def say(self, text: bytes) -> bytes:
        """Send `text`, return all that comes until the server closes."""
        reader, writer = await self.connect()
        writer.write(text)
        got = await reader.read()
        writer.close()
        await writer.wait_closed()
        return got


async def _pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


def run(play: Callable[[House], Awaitable[None]], **server: int) -> None:
    async def whole() -> None:
        house = House(**server)
        await house.open()
        async with asyncio.timeout(DEADLINE_S):
            await play(house)
            await house.server.close()

    asyncio.run(whole())


def test_requests_sent_ahead_are_answered_in_order() -> None:
    async def play(house: House) -> None:
        got = await house.say(
            b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
            b"POST /b?c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
            b"HEAD /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        assert house.asked == [(b"/a", b""), (b"/b?c", b"hi"), (b"/c", b"")]
        assert got.count(b"HTTP/1.1 200 OK\r\n") == 3
        assert got.count(b"X-House: yes") == 3
        assert got.index(b"\r\n\r\n/a\n") < got.index(b"\r\n\r\n/b\n")
        assert got.endswith(b"\r\n\r\n")

    run(play)


def test_nonsense_is_answered_and_the_connection_closed() -> None:
    async def play(house: House) -> None:
        assert (await house.say(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        too_large = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"
        assert (await house.say(too_large)).startswith(b"HTTP/1.1 413 ")
        assert house.asked == []

    run(play)


def test_expect_continue_is_answered_before_the_body() -> None:
    async def play(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()

    run(play)


def test_stream_is_chunked_or_ends_with_the_connection() -> None:
    async def play(house: House) -> None:
        got = await house.say(b"GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert got.endswith(b"\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")
        assert (await house.say(b"GET /stream HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\none two")
        head = await house.say(b"HEAD /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert head.endswith(b"chunked\r\nConnection: close\r\n\r\n")

    run(play)


def test_client_that_says_no_more_still_gets_its_answer() -> None:
    async def play(house: House) -> None:
        reader, writer = await house.connect()
        house.hold = asyncio.Event()
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.write_eof()
        await house.called.wait()
        house.hold.set()
        assert (await reader.read()).endswith(b"/a\n")
        writer.close()

    run(play)


def test_idle_client_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_TIMEOUT_S", 0.05)

    async def play(house: House) -> None:
        assert await house.say(b"GET / HT") == b""

    run(play)


def test_too_many_clients_are_cut_at_once() -> None:
    async def play(house: House) -> None:
        _, first = await house.connect()
        reader, second = await house.connect()
        with pytest.raises(ConnectionResetError):
            await _end(reader)
        second.close()
        first.close()

    run(play, connections_max=1)


async def _end(reader: asyncio.StreamReader) -> None:
    if await reader.read() == b"":
        raise ConnectionResetError


def test_client_that_sends_ahead_without_end_is_not_read_from() -> None:
    async def play(house: House) -> None:
        house.hold = asyncio.Event()
        reader, writer = await house.connect()
        one = b"GET /again HTTP/1.1\r\nHost: h\r\n\r\n"
        writer.write(one)
        await house.called.wait()
        (connection,) = house.server._connections
        writer.write(one * 500_000)
        transport = connection._transport
        assert transport is not None
        while transport.is_reading():  # noqa: ASYNC110 # a transport does not say that it paused
            await asyncio.sleep(0)
        assert connection._wire.buffered < 2 << 20
        writer.transport.abort()
        house.hold.set()
        assert reader is not None

    run(play)


def test_nobody_waits_for_an_answer_that_cannot_be_made(said: Callable[[], str]) -> None:
    async def play(house: House) -> None:
        assert await house.say(b"GET /bug HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        assert b"/a" in await house.say(b"GET /a HTTP/1.0\r\n\r\n")

    run(play)
    assert "a bug" in said()


def test_closing_waits_for_what_is_being_answered() -> None:
    async def play(house: House) -> None:
        house.hold = asyncio.Event()
        reader, writer = await house.connect()
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await house.called.wait()
        closing = asyncio.get_running_loop().create_task(house.server.close())
        await asyncio.sleep(0)
        assert not closing.done()
        house.hold.set()
        assert (await reader.read()).endswith(b"Connection: close\r\n\r\n/a\n")
        await closing
        writer.close()

    run(play)

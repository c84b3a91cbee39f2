"""A connection in TLS, on the event loop that workers have: what uvloop holds is not lost."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec, TlsSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.pool import PoolSpec
from loomproxy.core.wheel import Wheel
from loomproxy.worker.keepalive import Keepalive
from loomproxy.worker.secure import Secure
from loomproxy.worker.upstream import Upstream
from tests.support.authority import Authority

WITHIN_S = 10.0


class Holder:
    """Who holds a tunnel, and reads when told to."""

    def __init__(self) -> None:
        self.upstream: Upstream
        self.got = bytearray()
        self.said: list[str] = []
        self.pauses = False
        self.news = asyncio.Event()

    def tunnel_data(self, data: bytes, *, from_downstream: bool) -> None:
        assert not from_downstream
        self.got += data
        if self.pauses:
            self.upstream.read(paused=True)
        self.news.set()

    def fin(self, *, from_downstream: bool) -> None:
        assert not from_downstream
        self._say("fin")

    def upstream_lost(self, *, broken: bool) -> None:
        self._say("broken" if broken else "lost")

    def upstream_full(self) -> None:
        self._say("full")

    def upstream_taken(self) -> None:
        self._say("taken")

    def read_upstream(self) -> None:
        raise AssertionError("a tunnel has no messages")

    def _say(self, word: str) -> None:
        self.said.append(word)
        self.news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.news.clear()
            await self.news.wait()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Path:
    return authority.certificate("good")


Play = Callable[[Holder, asyncio.Event], Awaitable[None]]


def run(
    authority: Authority, certificate: Path, serve: Callable[[ssl.SSLSocket], None], play: Play
) -> None:
    """Have `play` hold a connection to `serve`, and know when that is done.

    To `serve` an end without close_notify is an error.
    """

    async def bounded(door: socket.socket) -> None:
        address = Address("localhost", door.getsockname()[1], tls=True)
        tls = TlsSpec(ca_file=str(authority.file))
        spec = EndpointSpec(address)
        secure = Secure()
        secure.prepare([PoolSpec("app", (spec,), tls=tls)])
        endpoint = Endpoint(spec, EjectionPolicy(), tls)
        upstream = Upstream(endpoint, Limits(), Keepalive(Wheel()))
        holder, served, loop = Holder(), asyncio.Event(), asyncio.get_running_loop()
        holder.upstream = upstream

        def work() -> None:
            line, _ = door.accept()
            line.settimeout(WITHIN_S)
            context = authority.server(certificate)
            with context.wrap_socket(line, server_side=True, suppress_ragged_eofs=False) as secured:
                secured.recv(1)  # What comes before somebody holds it makes it useless.
                serve(secured)
            loop.call_soon_threadsafe(served.set)

        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(WITHIN_S):
            await loop.create_connection(
                lambda: upstream, address.host, address.port, **secure.towards(endpoint)
            )
            upstream.hold(holder, b"GET")
            upstream.tunnel = True
            upstream.transport.write(b"!")
            await play(holder, served)
        upstream.close()
        await asyncio.to_thread(thread.join, WITHIN_S)
        assert not thread.is_alive()

    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(bounded(door))


@pytest.mark.parametrize("announced", [True, False])
def test_what_came_before_the_end_is_read_after_a_pause(
    authority: Authority, certificate: Path, announced: bool
) -> None:
    """uvloop reads on while we do not, and drops what it has when it reads the end."""
    started = threading.Event()

    def serve(line: ssl.SSLSocket) -> None:
        line.sendall(b"a")
        assert started.wait(WITHIN_S)
        line.sendall(b"b" * 100_000)
        if announced:
            line.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                line.unwrap()  # It says so, and does not wait for the answer.

    async def play(holder: Holder, served: asyncio.Event) -> None:
        holder.pauses = True
        await holder.until(lambda: bool(holder.got))
        started.set()
        await served.wait()
        for _ in range(5):  # The loop has seen whatever it wants to see of the end.
            await asyncio.to_thread(lambda: None)
        assert (bytes(holder.got), holder.said) == (b"a", [])
        holder.pauses = False
        holder.upstream.read(paused=False)
        await holder.until(lambda: bool({"lost", "broken"} & set(holder.said)))
        assert bytes(holder.got) == b"a" + b"b" * 100_000
        assert holder.said == (["fin", "lost"] if announced else ["broken"])

    run(authority, certificate, serve, play)


def test_pausing_and_reading_on_go_through_records_of_any_size(
    authority: Authority, certificate: Path
) -> None:
    """The limit that holds the end back must not hold back the rest of a record."""
    data = bytes(range(256)) * 4096

    def serve(line: ssl.SSLSocket) -> None:
        for at in range(0, len(data), 50_001):
            line.sendall(data[at : at + 50_001])

    async def play(holder: Holder, _served: asyncio.Event) -> None:
        holder.pauses = True
        while len(holder.got) < len(data):
            before = len(holder.got)
            await holder.until(lambda: len(holder.got) > before)  # noqa: B023 # used at once
            holder.upstream.read(paused=False)
        assert bytes(holder.got) == data

    run(authority, certificate, serve, play)


def test_full_is_told_once_and_taken_when_all_is(authority: Authority, certificate: Path) -> None:
    data = b"w" * (8 << 20)
    reading = threading.Event()

    def serve(line: ssl.SSLSocket) -> None:
        line.sendall(b"!")
        assert reading.wait(WITHIN_S)
        left = len(data)
        while left:
            left -= len(line.recv(1 << 16))

    async def play(holder: Holder, served: asyncio.Event) -> None:
        await holder.until(lambda: bool(holder.got))
        assert holder.said == []
        holder.upstream.transport.write(data[: 7 << 20])
        assert holder.said == []  # The TCP below took it, which we cannot see.
        holder.upstream.transport.write(data[7 << 20 :])
        assert holder.said == ["full"]
        reading.set()
        await served.wait()
        await holder.until(lambda: "taken" in holder.said)
        assert holder.said[:2] == ["full", "taken"]

    run(authority, certificate, serve, play)


def test_idle_connection_is_closed_with_a_word(authority: Authority, certificate: Path) -> None:
    """RFC 9112 §9.8; the server would take it for an attack."""

    def serve(line: ssl.SSLSocket) -> None:
        assert line.recv(1) == b""

    async def play(holder: Holder, served: asyncio.Event) -> None:
        holder.upstream.driver = None
        holder.upstream.close()
        await served.wait()

    run(authority, certificate, serve, play)


@pytest.mark.parametrize("polite", [True, False])
def test_saying_no_more_closes_in_order_after_what_was_said(
    authority: Authority, certificate: Path, polite: bool
) -> None:
    heard: list[bytes] = []

    def serve(line: ssl.SSLSocket) -> None:
        while data := line.recv(1 << 16):
            heard.append(data)
        if polite:
            line.unwrap()

    async def play(holder: Holder, served: asyncio.Event) -> None:
        holder.upstream.transport.write(b"last words")
        holder.upstream.write_eof()
        await served.wait()
        await holder.until(lambda: bool({"lost", "broken"} & set(holder.said)))
        assert holder.said[0] == "fin"  # Then the tunnel is over, and nobody's fault.

    run(authority, certificate, serve, play)
    assert b"".join(heard) == b"last words"

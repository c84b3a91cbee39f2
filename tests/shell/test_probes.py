"""Active health checks against a real server on loopback: rise, fall, and what counts as bad."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec
from loomproxy.core.pool import PoolSpec, ProbeSpec
from loomproxy.core.world import World
from loomproxy.worker.probes import Probes, _probe
from loomproxy.worker.secure import Secure
from loomproxy.worker.services import Services
from tests.core.exchange.scenery import house
from tests.shell.stage import Notes, run
from tests.support.places import free_port

SPEC = ProbeSpec(path=b"/well", interval_s=0.0, timeout_s=5.0, rise=2, fall=3)


class Server:
    """Answers each request with what it is told; `asked` is told of each."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 204 Fine\r\n\r\n"
        self.requests: list[bytes] = []
        self._news = asyncio.Event()
        self._address: tuple[str, int] = ("", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            self._news.set()
            if self.answer:
                writer.write(self.answer)
            if not self.answer or not self.answer.endswith(b"\r\n\r\n"):
                writer.write_eof()
            if self.answer == b"":
                return
            await reader.read()  # until the probe has heard enough
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def asked(self) -> bytes:
        """The next request."""
        self._news.clear()
        await self._news.wait()
        return self.requests[-1]


@asynccontextmanager
async def server(path: Path | None = None) -> AsyncIterator[tuple[Server, Address]]:
    it = Server()
    if path is None:
        listening: Any = await asyncio.start_server(it.serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", listening.sockets[0].getsockname()[1])
    else:
        listening = await asyncio.start_unix_server(it.serve, path)
        address = Address(path=str(path))
    async with listening:
        yield it, address


@asynccontextmanager
async def probing(
    address: Address, probe: ProbeSpec | None = SPEC
) -> AsyncIterator[tuple[Probes, World]]:
    snapshot = house(1).snapshot
    snapshot.pools["web"] = PoolSpec("web", (EndpointSpec(address),), probe=probe)
    world = World(snapshot)
    async with asyncio.TaskGroup() as group:
        probes = Probes(Services(world, group, Notes(), lambda _ask, _path: None))
        probes.follow(world)
        yield probes, world
        probes.stop()


async def probe(address: Address, spec: ProbeSpec = SPEC) -> str:
    """Ask once, and say what is wrong."""
    return await _probe(Endpoint(EndpointSpec(address), EjectionPolicy()), spec, Secure())


def endpoint_of(world: World) -> Endpoint:
    return world.pools["web"].endpoints[0]


async def until_asked(it: Server, *, healthy: bool, world: World) -> int:
    """Let it be probed until it is found so; how many probes that took, the one under way too."""
    before = len(it.requests)
    while endpoint_of(world).healthy is not healthy:
        await it.asked()
    return len(it.requests) - before


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ""),
        (b"HTTP/1.1 399 Odd\r\n\r\n", ""),
        (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 503 No\r\n\r\n", "status 503"),
        (b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "status 101"),
        (b"", "the upstream closed before it answered"),
        (b"HTTP/1.1 20", "the upstream closed before its response head was complete"),
    ],
)
def test_one_probe_and_what_it_says(answer: bytes, trouble: str) -> None:
    async def play() -> None:
        async with server() as (it, address):
            it.answer = answer
            assert await probe(address) == trouble
            assert it.requests[0].startswith(
                b"GET /well HTTP/1.1\r\nHost: %s\r\n" % address.authority
            )

    run(play)


def test_answer_that_is_no_http_is_trouble() -> None:
    async def play() -> None:
        async with server() as (it, address):
            it.answer = b"SSH-2.0-OpenSSH_9.6\r\n\r\n"
            assert await probe(address) != ""

    run(play)


def test_silence_is_trouble_after_the_timeout() -> None:
    async def play() -> None:
        async with server() as (it, address):
            it.answer = b"HTTP/1.1 103 Wait\r\n\r\n"  # and nothing more
            patience = ProbeSpec(timeout_s=0.05)
            assert await probe(address, patience) == "no answer within 0.05 s"

    run(play)


def test_nobody_there_is_trouble_and_so_is_a_name_that_cannot_be(tmp_path: Path) -> None:
    async def play() -> None:
        address = Address("127.0.0.1", free_port())
        assert "Errno 111" in await probe(address)
        assert await probe(Address(path=str(tmp_path / "none.sock"))) != ""
        assert await probe(Address("a" * 70 + ".example", 80)) != ""

    run(play)


def test_configured_host_is_asked_for_and_unix_sockets_too(tmp_path: Path) -> None:
    async def play() -> None:
        async with server(tmp_path / "it.sock") as (it, address):
            assert await probe(address, ProbeSpec(host=b"b.example")) == ""
            assert b"\r\nHost: b.example\r\n" in it.requests[0]

    run(play)


def test_fall_and_rise() -> None:
    async def play() -> None:
        async with server() as (it, address), probing(address) as (_, world):
            await it.asked()
            assert endpoint_of(world).healthy
            it.answer = b"HTTP/1.1 500 No\r\n\r\n"
            assert await until_asked(it, healthy=False, world=world) >= SPEC.fall
            it.answer = b"HTTP/1.1 200 Fine\r\n\r\n"
            assert await until_asked(it, healthy=True, world=world) >= SPEC.rise

    run(play)


def test_reload_probes_what_is_asked_for_now_and_nothing_else() -> None:
    async def play() -> None:
        async with (
            server() as (old, first),
            server() as (new, second),
            probing(first) as (probes, world),
        ):
            await old.asked()
            tasks = asyncio.all_tasks()
            probes.follow(world)
            assert asyncio.all_tasks() == tasks  # nothing changed
            snapshot = house(1).snapshot
            specs = (EndpointSpec(first, enabled=False), EndpointSpec(second))
            snapshot.pools["web"] = PoolSpec("web", specs, probe=SPEC)
            world.publish(snapshot)
            probes.follow(world)
            await new.asked()
            seen = len(old.requests)
            for _ in range(5):
                await new.asked()
            assert len(old.requests) <= seen + 1  # one may have been on its way
            world.publish(house(1).snapshot)
            probes.follow(world)
            assert probes._running == {}

    run(play)


def test_probes_leave_no_descriptor_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def play() -> None:
        async with server() as (it, address):
            it.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
            await probe(address)
            before = descriptors()
            for _ in range(20):
                await probe(address)
            assert descriptors() <= before + 2  # the last ones close at the next turn

    run(play)

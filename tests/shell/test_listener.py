"""Accepting on real sockets: bounds, pauses, and stopping without losing anybody."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from loomproxy.config.model import Listener
from loomproxy.core.gate import CONNECTIONS_MOST
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.worker import listener as module
from loomproxy.worker.downstream import HURRY_S
from loomproxy.worker.listener import ListenerAt
from loomproxy.worker.services import Services
from tests.core.exchange.scenery import house
from tests.shell.stage import FIXED, WITHIN_S, Notes
from tests.shell.stage import run as run_on_asyncio


def run(play: Callable[[], Awaitable[None]]) -> None:
    """On the loop of the worker."""

    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await play()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


class Caller:
    """A client on a real connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self) -> bytes:
        self.writer.write(FIXED)
        return await self.answer()

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head + await self.reader.readuntil(b"fixed\n")

    def leave(self) -> None:
        self.writer.transport.abort()


class Stage:
    def __init__(self, listener: ListenerAt, place: Any) -> None:
        self.listener = listener
        self._place = place
        self.callers: list[Caller] = []

    async def call(self, **how: Any) -> Caller:
        if isinstance(self._place, str):
            caller = Caller(*await asyncio.open_unix_connection(self._place))
        else:
            caller = Caller(*await asyncio.open_connection(*self._place, **how))
        self.callers.append(caller)
        return caller


@asynccontextmanager
async def stage(
    *, path: Path | None = None, worker_max: int = CONNECTIONS_MOST, **settings: Any
) -> AsyncIterator[Stage]:
    """A listener that does not accept yet."""
    if path is None:
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        place: Any = sock.getsockname()
    else:
        sock, place = socket.socket(socket.AF_UNIX), str(path)
        sock.bind(place)
        sock.listen(128)
    held = sock.dup()  # as the node holds it
    async with asyncio.TaskGroup() as group:
        services = Services(
            house(1), group, Notes(), lambda _ask, _path: None, connections_max=worker_max
        )
        it = Stage(ListenerAt(Listener("public", "x", **settings), sock, services), place)
        try:
            yield it
        finally:  # Whatever happened: uvloop waits for ever for what is not closed.
            for caller in it.callers:
                caller.leave()
            if not it.listener._draining:
                await it.listener.stop()
            it.listener.abandon()
            await services.empty.wait()
            held.close()
        assert it.listener.connections == set()


def test_more_connections_than_allowed_wait_in_the_kernel_for_their_turn() -> None:
    async def play() -> None:
        async with stage(connections_max=2) as it:
            callers = [await it.call() for _ in range(6)]
            for caller in callers:
                caller.writer.write(FIXED)
            # All six are in the kernel's queue when accepting begins.
            await it.listener.start()
            for caller in callers[:2]:
                assert (await caller.answer()).startswith(b"HTTP/1.1 200 ")
            assert len(it.listener.connections) == 2
            for gone, next_ in zip(callers, callers[2:], strict=False):
                gone.leave()
                assert (await next_.answer()).startswith(b"HTTP/1.1 200 ")
                assert len(it.listener.connections) <= 2

    run(play)


def test_being_full_is_told_once_and_not_with_each_connection(
    said: Callable[[], str],
) -> None:
    lines: list[str] = []

    def told() -> int:
        lines.extend(said().splitlines())
        return sum(' event="listener full" ' in line for line in lines)

    async def play() -> None:
        async with stage(connections_max=5) as it:
            await it.listener.start()
            callers = [await it.call() for _ in range(5)]
            for caller in callers:
                await caller.ask()
            for _ in range(5):
                callers.pop().leave()
                callers.append(await it.call())
                await callers[-1].ask()
            assert told() == 1
            for caller in callers:
                caller.leave()
            await it.listener.services.empty.wait()
            for _ in range(5):
                await (await it.call()).ask()
            assert told() == 2

    run(play)


def test_stopping_serves_everybody_whom_the_kernel_has_accepted() -> None:
    async def play() -> None:
        async with stage(connections_max=3) as it:
            await it.listener.start()
            callers = [await it.call() for _ in range(20)]
            await asyncio.gather(*(caller.ask() for caller in callers[:3]))
            await it.listener.stop()
            answers = await asyncio.gather(*(caller.ask() for caller in callers))
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
            assert len(it.listener.connections) == 20

    run(play)


def test_stopping_before_starting_and_stopping_a_full_one_both_end_accepting() -> None:
    async def play() -> None:
        async with stage(connections_max=1) as it:
            await it.listener.start()
            caller = await it.call()
            await caller.ask()
            caller.leave()
            await it.listener.stop()
            await it.listener.start()
            assert it.listener._server is None

    run(play)


@pytest.mark.parametrize("how", ["pause", "stop"])
def test_file_of_a_unix_socket_is_the_nodes(tmp_path: Path, how: str) -> None:
    path = tmp_path / "it.sock"

    async def play() -> None:
        async with stage(path=path, connections_max=1) as it:
            await it.listener.start()
            caller = await it.call()
            assert (await caller.ask()).startswith(b"HTTP/1.1 200 ")
            (downstream,) = it.listener.connections
            assert downstream.peer == it.listener.nobody
            if how == "pause":
                caller.leave()
                caller = await it.call()
                assert (await caller.ask()).startswith(b"HTTP/1.1 200 ")
            await it.listener.stop()

    run(play)
    assert path.exists()


def test_peer_is_who_the_kernel_says() -> None:
    async def play() -> None:
        async with stage() as it:
            await it.listener.start()
            caller = await it.call()
            await caller.ask()
            (downstream,) = it.listener.connections
            ours = caller.writer.get_extra_info("sockname")
            theirs = caller.writer.get_extra_info("peername")
            peer = downstream.peer
            assert (peer.ip, peer.port) == (ours[0].encode(), ours[1])
            assert (peer.local_port, peer.listener, peer.trusted) == (theirs[1], "public", False)

    run(play)


def test_what_is_abandoned_is_reset() -> None:
    async def play() -> None:
        async with stage() as it:
            await it.listener.start()
            caller = await it.call()
            await caller.ask()
            it.listener.abandon()
            with pytest.raises(ConnectionResetError):
                await caller.reader.read(1)

    run(play)


def test_lack_of_descriptors_is_survived(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)

    async def play() -> None:
        async with stage(connections_max=1) as it:
            await it.listener.start()
            first = await it.call()
            await first.ask()
            serve, troubles = it.listener._serve, [OSError(24, "Too many open files")] * 3

            async def failing(sock: socket.socket) -> Any:
                if troubles:
                    sock.close()
                    raise troubles.pop()
                return await serve(sock)

            monkeypatch.setattr(it.listener, "_serve", failing)
            first.leave()
            assert (await (await it.call()).ask()).startswith(b"HTTP/1.1 200 ")
            assert troubles == []

    run(play)
    assert "Too many open files" in said()


def test_many_that_leave_at_once_open_one_listener_only() -> None:
    """On asyncio's own loop, where opening a listener takes more than one turn."""

    async def play() -> None:
        async with stage(connections_max=3) as it:
            opened = 0
            serve = it.listener._serve

            async def counting(sock: socket.socket) -> Any:
                nonlocal opened
                opened += 1
                return await serve(sock)

            it.listener._serve = counting  # type: ignore[method-assign] # to count
            await it.listener.start()
            callers = [await it.call() for _ in range(3)]
            for caller in callers:
                await caller.ask()
            assert opened == 1
            for caller in callers:
                caller.leave()
            await it.listener.services.empty.wait()
            assert (await (await it.call()).ask()).startswith(b"HTTP/1.1 200 ")
            assert opened == 2

    run_on_asyncio(play)


@pytest.mark.parametrize("unix", [False, True])
def test_who_is_trusted_is_decided_by_the_policy_when_a_connection_comes(
    tmp_path: Path, unix: bool
) -> None:
    async def play() -> None:
        async with stage(path=tmp_path / "socket" if unix else None) as it:
            await it.listener.start()
            world, trusted = it.listener.services.world, []
            networks = (ip_network("127.0.0.0/8"),)
            for policy in (
                ForwardPolicy(),
                ForwardPolicy(trusts_unix=True),
                ForwardPolicy(trusted=networks),
            ):
                world.snapshot = msgspec.structs.replace(world.snapshot, policy=policy)
                caller = await it.call()
                await caller.ask()
                (here,) = it.listener.connections
                trusted.append(here.peer.trusted)
                caller.leave()
                await it.listener.services.empty.wait()
            assert trusted == ([False, True, False] if unix else [False, False, True])

    run(play)


def limits(it: Stage) -> dict[str, int]:
    """What was counted, by reason."""
    counted = it.listener.services.tally.limits
    assert {listener for listener, _ in counted} <= {"public"}
    return {reason: times for (_, reason), times in counted.items()}


async def is_reset(caller: Caller) -> bool:
    try:
        return await caller.reader.read(1) == b"never said"
    except ConnectionResetError:
        return True


def test_one_client_has_so_many_connections_and_another_still_gets_in(
    said: Callable[[], str],
) -> None:
    async def play() -> None:
        async with stage(connections_per_client_max=3) as it:
            await it.listener.start()
            callers = [await it.call() for _ in range(3)]
            for caller in callers:
                await caller.ask()
            for _ in range(4):
                assert await is_reset(await it.call())
            assert len(it.listener.connections) == len(it.listener.services.tellers) == 3
            assert limits(it) == {"client_full": 4}
            other = await it.call(local_addr=("127.0.0.2", 0))
            assert (await other.ask()).startswith(b"HTTP/1.1 200 ")
            for caller in (*callers, other):
                caller.leave()
            await it.listener.services.empty.wait()
            assert (await (await it.call()).ask()).startswith(b"HTTP/1.1 200 ")

    run(play)
    assert "client has too many connections" in said()


@pytest.mark.parametrize("unix", [False, True])
def test_trusted_proxies_and_unix_sockets_speak_for_many_clients(
    tmp_path: Path, unix: bool
) -> None:
    async def play() -> None:
        path = tmp_path / "socket" if unix else None
        async with stage(path=path, connections_per_client_max=1) as it:
            await it.listener.start()
            world = it.listener.services.world
            policy = ForwardPolicy(trusted=() if unix else (ip_network("127.0.0.0/8"),))
            world.snapshot = msgspec.structs.replace(world.snapshot, policy=policy)
            for _ in range(3):
                assert (await (await it.call()).ask()).startswith(b"HTTP/1.1 200 ")
            assert limits(it) == {}

    run(play)


@asynccontextmanager
async def beside(it: Stage) -> AsyncIterator[Stage]:
    """A second listener of the same worker, not accepting yet."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener = ListenerAt(Listener("public", "x"), sock, it.listener.services)
    second = Stage(listener, sock.getsockname())
    try:
        yield second
    finally:
        it.callers += second.callers
        await listener.stop()


def test_all_listeners_of_a_worker_together_have_so_many_connections(
    said: Callable[[], str],
) -> None:
    async def play() -> None:
        async with stage(worker_max=4) as it, beside(it) as second:
            tellers = it.listener.services.tellers
            await it.listener.start()
            await second.listener.start()
            callers = [await at.call() for at in (it, second) for _ in range(2)]
            for caller in callers:
                await caller.ask()
            waiting = [await at.call() for at in (it, second)]
            for caller in waiting:
                caller.writer.write(FIXED)
            assert len(tellers) == 4
            assert limits(it) == {"worker_full": 1}
            for gone, next_ in zip(callers, waiting, strict=False):
                gone.leave()
                assert (await next_.answer()).startswith(b"HTTP/1.1 200 ")
                assert len(tellers) <= 4 + 1  # Both listeners may take one for the same place.

    run(play)
    assert said().count("worker full") in {1, 2}  # once for each listener that met it


def test_listener_that_starts_in_a_full_worker_waits_for_room() -> None:
    async def play() -> None:
        async with stage(worker_max=1) as it, beside(it) as second:
            await it.listener.start()
            first = await it.call()
            await first.ask()
            await second.listener.start()
            waiting = await second.call()
            waiting.writer.write(FIXED)
            assert second.listener._server is None
            first.leave()
            assert (await waiting.answer()).startswith(b"HTTP/1.1 200 ")

    run(play)


def test_who_only_waits_makes_room_where_there_is_none_but_not_each_time() -> None:
    async def play() -> None:
        async with stage(connections_max=2, idle_timeout_s=300.0) as it:
            services = it.listener.services

            def patience_s() -> list[float]:
                now = services.now()
                return sorted(each.deadline_at - now for each in it.listener.connections)

            await it.listener.start()
            first = await it.call()
            await first.ask()
            assert patience_s()[0] > 200.0
            second = await it.call()
            await second.ask()
            assert patience_s()[0] <= HURRY_S
            first.leave()
            third = await it.call()
            await third.ask()
            assert len(it.listener.connections) == 2
            assert patience_s()[0] > 200.0

    run(play)

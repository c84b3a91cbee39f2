"""What node and workers say to one another, over a real socket pair."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_args

import pytest
import uvloop

from loomproxy import channel as module
from loomproxy.channel import (
    AccessLogTrouble,
    Channel,
    Drain,
    Drained,
    EndpointStatus,
    Force,
    ListenerSocket,
    Ping,
    Pong,
    PoolStatus,
    Publish,
    Published,
    Ready,
    Refused,
    ReopenLogs,
    ServiceAnswer,
    ServiceAsk,
    Start,
    Stats,
    StatsPlease,
    ToNode,
    ToWorker,
    node_end,
    peer_pid,
    worker_end,
)
from loomproxy.config.model import Config, Dynamic, Endpoint, Listener, Pool, Static
from loomproxy.core.frame import frame
from loomproxy.core.tally import Series, Tally

DEADLINE_S = 30.0
CONFIG = Config(
    Static(listeners=(Listener("public", "127.0.0.1:8080"),)),
    Dynamic(pools={"app": Pool(endpoints=(Endpoint("http://127.0.0.1:9000"),))}),
)
TALLY = Tally(series={("route", "app"): Series(requests=[0, 0, 7, 0, 0, 0])})
POOL = PoolStatus("app", 1, (EndpointStatus("unix:/a", 1, True, False, 2.5, 3, 4),))
TO_WORKER = [
    Start(1, (ListenerSocket("public", 7),), CONFIG, 1),
    Publish(CONFIG.dynamic, 2),
    Drain(30.0),
    Force(),
    Ping(1),
    StatsPlease(2),
    ReopenLogs(),
    ServiceAnswer(1, 200, b"text/plain", b"\x00body"),
]
TO_NODE = [
    Ready(1, 4711),
    Published(2),
    Refused(3, "no"),
    Pong(1, 0.5, TALLY, 2, 1),
    Stats(2, 2, (POOL,)),
    ServiceAsk(1, b"/health"),
    Drained(),
    AccessLogTrouble("full", 3),
]


class Ends:
    """Both ends, what each heard, and how each ended."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.told = asyncio.Event()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(self, message: Any) -> None:
        self.heard.append(message)
        self.told.set()

    async def until(self, count: int) -> None:
        while len(self.heard) < count:
            self.told.clear()
            await self.told.wait()


def run(
    play: Callable[[socket.socket, socket.socket], Awaitable[None]], runner: Any = asyncio.run
) -> None:
    async def whole() -> None:
        one, other = socket.socketpair()
        one.setblocking(False)
        other.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await play(one, other)

    runner(whole())


RUNNERS: list[Callable[[Coroutine[Any, Any, None]], None]] = [asyncio.run, uvloop.run]


@pytest.mark.parametrize("runner", RUNNERS, ids=["asyncio", "uvloop"])
def test_every_message_arrives_as_it_was_said(
    runner: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    assert {type(message) for message in TO_WORKER} == set(get_args(ToWorker))
    assert {type(message) for message in TO_NODE} == set(get_args(ToNode))

    async def play(one: socket.socket, other: socket.socket) -> None:
        node, worker = Ends(), Ends()
        at_node = await node_end(one, node.hear, node.over.set_result)
        at_worker = await worker_end(other, worker.hear, worker.over.set_result)
        for message in TO_WORKER:
            at_node.send(message)
        for message in TO_NODE:
            at_worker.send(message)
        await worker.until(len(TO_WORKER))
        await node.until(len(TO_NODE))
        assert worker.heard == TO_WORKER
        assert node.heard == TO_NODE
        at_worker.close()
        assert await node.over == ""
        assert await worker.over == ""
        at_node.send(Ping(9))  # nobody hears it, and nothing happens
        at_node.close()

    run(play, runner)


def test_peer_that_cannot_be_understood_ends_the_channel() -> None:
    async def play(one: socket.socket, other: socket.socket) -> None:
        node = Ends()
        await node_end(one, node.hear, node.over.set_result)
        with other:
            other.send(frame(b"\xc1 is no msgpack"))
            assert "cannot be understood" in await node.over
        assert node.heard == []

    run(play)


def test_peer_that_dies_in_the_middle_of_a_message_is_noticed() -> None:
    async def play(one: socket.socket, other: socket.socket) -> None:
        node = Ends()
        await node_end(one, node.hear, node.over.set_result)
        other.send(b"\x00\x00")
        other.close()
        assert "in the middle of a message" in await node.over

    run(play)


def test_peer_that_does_not_read_costs_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNSENT_BYTES_MAX", 1 << 20)

    async def play(one: socket.socket, other: socket.socket) -> None:
        node = Ends()
        at_node: Channel[Any] = await node_end(one, node.hear, node.over.set_result)
        page = ServiceAnswer(1, 200, b"text/plain", bytes(1 << 16))
        for _ in range(100):
            at_node.send(page)
        assert await node.over == "the peer does not read"
        other.close()

    run(play)


def test_worker_knows_which_process_started_it() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_pid(other) == os.getpid()

"""A client that takes its answer slowly has time, and one that takes nothing has not."""

import socket

import pytest

from loomproxy.worker.downstream import TAKE_S, Downstream
from tests.core.exchange.scenery import SEND_S, TUNNEL_S
from tests.shell.fakes import Transport
from tests.shell.stage import GET, HEAD_S, Client, Stage, run, stage

BODY = b"x" * 1000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


async def slow(it: Stage, *, ended: bool) -> tuple[Client, Transport]:
    """A client whose kernel takes nothing yet of an answer that is there, whole or not."""
    client = it.client()
    client.send(GET)
    upstream = await it.accept()
    client.transport.kernel = 0
    upstream.feed(HEAD % (len(BODY) + (not ended)) + BODY)
    return client, upstream


@pytest.mark.parametrize("ended", [False, True])
def test_client_that_takes_slowly_is_waited_for(ended: bool) -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await slow(it, ended=ended)
            for _ in range(10):
                await it.later(SEND_S / 2)
                client.transport.take(50)
                await it.later(SEND_S / 2 + 0.2)
                assert not client.transport.closing
            client.transport.take()
            if not ended:
                upstream.feed(b"x")
            assert client.answers().endswith(BODY + b"x" * (not ended))
            assert it.terminations == ["--"]

    run(play)


@pytest.mark.parametrize("ended", [False, True])
def test_client_that_takes_no_more_is_cut(ended: bool) -> None:
    async def play() -> None:
        async with stage() as it:
            client, _upstream = await slow(it, ended=ended)
            client.transport.take(50)
            await it.later(SEND_S + 0.2)
            assert not client.transport.closing
            await it.later(SEND_S + 0.2)
            assert client.transport.was_reset
            assert it.terminations == ["cL" if ended else "cD"]

    run(play)


def test_what_is_left_of_a_tunnel_may_be_taken_slowly_too() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(UPGRADE)
            upstream = await it.accept()
            upstream.feed(SWITCHED)
            client.transport.kernel = 0
            upstream.feed(BODY)
            await it.later(TUNNEL_S + 0.2)
            assert it.terminations == ["lT"]
            for _ in range(5):
                client.transport.take(50)
                await it.later(TAKE_S + 0.2)
                assert not client.transport.lost
            await it.later(TAKE_S + 0.2)
            assert client.transport.lost

    run(play)


def test_what_the_kernel_holds_has_not_been_taken() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                client.transport.socket.descriptor = ours.fileno()
                downstream = client.downstream
                assert isinstance(downstream, Downstream)
                assert downstream._untaken() == 0
                ours.send(BODY)
                assert downstream._untaken() > 0
                theirs.recv(len(BODY))
                assert downstream._untaken() == 0

    run(play)


def test_rest_of_a_head_that_comes_after_its_408_is_not_heard() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.transport.kernel = 10  # The answer is not taken whole, so its exchange goes on.
            client.send(b"GET /x HTTP/1.1\r\n")
            await it.later(HEAD_S + 1)
            assert client.exchange is not None
            client.send(b"Host: a.example\r\n\r\n")
            client.transport.take()
            await it.turn()
            assert client.statuses() == [408]
            assert it.network.calls == []

    run(play)

"""A client that is held back and leaves is noticed, though nobody reads what it sends."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from loomproxy.worker.downstream import PIPELINED_BYTES_MAX, RESET
from loomproxy.worker.services import NOTICE_S
from tests.shell.stage import GET, OK, Client, Stage, run, stage

SERVE = {"client_half_close": "serve"}
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        theirs = socket.create_connection(door.getsockname())
        ours, _ = door.accept()
    with ours, theirs:
        yield ours, theirs


async def held_back(it: Stage, ours: socket.socket) -> Client:
    """A client that sent too far ahead of its answer."""
    client = it.client()
    client.transport.socket.descriptor = ours.fileno()
    client.send(GET)
    await it.accept()
    client.send(GET * (PIPELINED_BYTES_MAX // len(GET) + 1))
    assert not client.transport.reading
    return client


async def look(it: Stage) -> None:
    it.clock.now += NOTICE_S
    it.services.notice()
    await it.turn()


def leave(theirs: socket.socket, how: str) -> None:
    if how == "reset":
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    theirs.close()


@pytest.mark.parametrize(
    ("how", "listener", "gone"),
    [("reset", {}, True), ("fin", {}, True), ("reset", SERVE, True), ("fin", SERVE, False)],
)
def test_client_that_leaves_while_it_is_held_back_is_noticed(
    how: str, listener: dict[str, str], gone: bool
) -> None:
    async def play() -> None:
        async with stage(listener=listener) as it:
            with pair() as (ours, theirs):
                client = await held_back(it, ours)
                await look(it)
                assert not client.transport.closing
                leave(theirs, how)
                await look(it)
                assert client.transport.lost is gone
                assert it.terminations == (["CH"] if gone else [])
                assert bool(it.services.unread) is not gone

    run(play)


def test_fin_within_a_tunnel_is_no_goodbye() -> None:
    async def play() -> None:
        async with stage() as it:
            with pair() as (ours, theirs):
                client = it.client()
                client.transport.socket.descriptor = ours.fileno()
                client.send(UPGRADE)
                upstream = await it.accept()
                upstream.feed(SWITCHED)
                upstream.kernel = 0
                client.send(b"more than it takes")
                assert not client.transport.reading
                leave(theirs, "fin")
                await look(it)
                assert not client.transport.closing
                upstream.take()
                assert not it.services.unread

    run(play)


def test_client_that_is_read_again_is_looked_at_no_more_and_nobody_too_often() -> None:
    async def play() -> None:
        async with stage() as it:
            with pair() as (ours, theirs):
                client = await held_back(it, ours)
                await look(it)
                leave(theirs, "reset")
                it.services.notice()
                await it.turn()
                assert not client.transport.closing
                upstream = it.network.calls[0].transport
                while not client.transport.reading:
                    upstream.feed(OK)
                assert not it.services.unread

    run(play)


def test_client_that_is_ending_already_is_left_alone() -> None:
    async def play() -> None:
        async with stage() as it:
            with pair() as (ours, _theirs):
                client = await held_back(it, ours)
                client.transport.abort()
                it.clock.now += NOTICE_S
                it.services.notice()
                await it.turn()
                assert it.terminations == ["CH"]

    run(play)

"""Clients that leave, by halves and at once, and answers that are cut."""

import socket

import pytest

from loomproxy.worker.downstream import RESET
from tests.shell.stage import FIXED, GET, OK, run, stage

POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n"
SERVE = {"client_half_close": "serve"}


def test_client_that_sends_no_more_while_idle_is_closed() -> None:
    async def play() -> None:
        async with stage() as it:
            fresh, half, served = it.client(), it.client(), it.client()
            half.send(b"GET")
            served.send(FIXED)
            served.answers()
            for client in (fresh, half, served):
                client.transport.feed_eof()
            await it.turn()
            assert it.door.here == []
            assert fresh.answers() + half.answers() + served.answers() == b""

    run(play)


def test_half_close_frees_the_upstream_where_it_means_gone() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            client.transport.feed_eof()
            await it.turn()
            assert upstream.lost
            assert client.transport.lost
            assert it.terminations == ["CH"]

    run(play)


def test_half_close_is_answered_where_it_means_no_more_requests() -> None:
    async def play() -> None:
        async with stage(listener=SERVE) as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            client.transport.feed_eof()
            assert not client.transport.closing
            upstream.feed(OK)
            assert b"Connection: close" in client.answers()
            await it.turn()
            assert client.transport.lost
            assert not client.transport.was_reset
            assert it.terminations == ["--"]

    run(play)


@pytest.mark.parametrize("answered", [False, True])
def test_half_close_within_a_body_is_a_client_that_left(answered: bool) -> None:
    async def play() -> None:
        async with stage(listener=SERVE) as it:
            client = it.client()
            client.send(POST % 10 + b"abc")
            upstream = await it.accept()
            if answered:
                upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            client.answers()
            client.transport.feed_eof()
            await it.turn()
            assert client.answers() == b""
            assert client.transport.lost
            assert upstream.lost
            assert it.terminations == ["CD" if answered else "CH"]
            assert it.outcomes[0].fault == "client_left"

    run(play)


def test_client_that_vanishes_takes_everything_with_it() -> None:
    async def play() -> None:
        async with stage() as it:
            connecting, waiting, reading = it.client(), it.client(), it.client()
            waiting.send(GET)
            await it.accept()
            reading.send(GET)
            (await it.accept()).feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            connecting.send(GET)
            call = await it.call()
            for client in (connecting, waiting, reading):
                client.transport.lose(ConnectionResetError())
            await it.turn()
            assert call.cancelled
            assert it.terminations == ["CC", "CH", "CD"]
            it.hold_nothing()

    run(play)


def test_cut_answer_ends_in_a_reset() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            upstream.feed_eof()
            await it.turn()
            assert client.transport.was_reset
            assert client.transport.socket.options == [(socket.SOL_SOCKET, socket.SO_LINGER, RESET)]
            assert it.terminations == ["UD"]

    run(play)


def test_unix_client_has_no_reset_but_ends() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.transport.socket.family = socket.AF_UNIX
            client.downstream.reset()
            await it.turn()
            assert client.transport.socket.options == []
            assert client.transport.lost

    run(play)

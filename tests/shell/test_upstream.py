"""A connection to an endpoint: whoever holds it hears everything, and idle it must keep still."""

import asyncio
import os
from typing import Any

import pytest

from loomproxy.core.endpoint import KeepaliveSpec
from loomproxy.core.units import NEVER
from loomproxy.worker.upstream import NO_TRANSPORT
from tests.shell.fakes import Transport
from tests.shell.stage import GET, OK, Client, Stage, run, stage

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nab"


async def idle(it: Stage) -> tuple[Client, Transport]:
    """A connection that has carried an exchange and rests."""
    client = it.client()
    client.send(GET)
    upstream = await it.accept()
    upstream.feed(OK)
    assert client.statuses() == [200]
    assert kept(it) == 1
    return client, upstream


def kept(it: Stage) -> int:
    return it.services.keepalive.count(it.pool.endpoints[0])


async def asked(it: Stage) -> tuple[Client, Transport]:
    client = it.client()
    client.send(GET)
    return client, await it.accept()


@pytest.mark.parametrize("how", ["speaks", "ends", "breaks", "is told bad things", "grows old"])
def test_idle_connection_that_does_anything_is_thrown_away(how: str) -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await idle(it)
            if how == "speaks":
                upstream.feed(b"HTTP/1.1 408 Too late\r\n\r\n")
            elif how == "ends":
                upstream.feed_eof()
            elif how == "breaks":
                upstream.lose(ConnectionResetError())
                await it.turn()
            elif how == "grows old":
                await it.later(KeepaliveSpec().idle_timeout_s + 0.2)
            else:
                upstream.protocol.close()
                await it.turn()
            assert kept(it) == 0
            await it.turn()
            assert upstream.lost
            client.send(GET)
            (await it.accept()).feed(OK)
            assert client.statuses() == [200]
            assert len(it.network.calls) == 2

    run(play)


def test_held_connection_has_no_deadline_of_its_own() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await idle(it)
            client.send(GET)
            assert upstream.protocol.deadline_at == NEVER
            await it.later(KeepaliveSpec().idle_timeout_s + 1)
            assert not upstream.closing
            upstream.feed(OK)
            assert client.statuses() == [200]

    run(play)


def test_reused_connection_that_ends_before_any_answer_is_a_race_lost() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await idle(it)
            client.send(GET)
            upstream.feed_eof()
            (await it.accept()).feed(OK)
            assert client.statuses() == [200]
            outcome = it.outcomes[-1]
            assert (outcome.attempts, outcome.termination) == (2, "--")

    run(play)


def test_attempt_after_a_lost_race_that_cannot_connect_tells_no_old_times() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await idle(it)
            it.clock.now += 1
            client.send(GET)
            it.clock.now += 1
            upstream.feed_eof()
            while client.exchange is not None:
                (await it.call()).refuse()
                await it.turn()
            outcome = it.outcomes[-1]
            assert outcome.fault == "connect_failed"
            assert outcome.opened_at == 0.0
            assert not outcome.reused

    run(play)


def test_answer_that_lasts_until_the_close_is_whole_only_after_an_orderly_one() -> None:
    async def play() -> None:
        async with stage() as it:
            whole, whole_upstream = await asked(it)
            whole_upstream.feed(UNTIL_CLOSE)
            whole_upstream.feed_eof()
            assert whole.answers().endswith(b"2\r\nab\r\n0\r\n\r\n")
            cut, cut_upstream = await asked(it)
            cut_upstream.feed(UNTIL_CLOSE)
            cut_upstream.lose(ConnectionResetError())
            await it.turn()
            assert cut.answers().endswith(b"2\r\nab\r\n")
            assert cut.transport.was_reset
            assert it.terminations == ["--", "UD"]

    run(play)


@pytest.mark.parametrize(
    ("sent", "termination", "status"),
    [
        (b"", "UH", [502]),
        (b"HTTP/1.1 20", "UH", [502]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "UD", [200]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "UD", [200]),
        (b"NONSENSE\r\n\r\n", "UH", [502]),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_upstream_that_leaves_too_early(
    sent: bytes, termination: str, status: list[int], broken: bool
) -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await asked(it)
            if sent:
                upstream.feed(sent)
            if upstream.reading:
                if broken:
                    upstream.lose(ConnectionResetError())
                else:
                    upstream.feed_eof()
            await it.turn()
            assert client.statuses() == status
            assert it.terminations == [termination]
            assert upstream.lost

    run(play)


@pytest.mark.parametrize(
    ("waiting", "status", "termination"),
    [
        (b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno", 413, "--"),
        (b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nno", 413, "UD"),
        (b"", 502, "UH"),
    ],
)
def test_answer_that_waits_in_the_kernel_is_heard_though_a_write_failed(
    waiting: bytes, status: int, termination: str
) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nsome")
            upstream = await it.accept()
            reader, writer = os.pipe()
            try:
                os.write(writer, waiting)
                os.set_blocking(reader, False)
                upstream.socket.descriptor = reader
                upstream.lose(ConnectionResetError())
                await it.turn()
            finally:
                os.close(reader)
                os.close(writer)
            assert client.statuses() == [status]
            assert it.terminations == [termination]

    run(play)


def test_pausing_twice_asks_once() -> None:
    class Counting(Transport):
        count = 0

        def pause_reading(self) -> None:
            self.count += 1
            super().pause_reading()

    async def play() -> None:
        async with stage() as it:
            _client, upstream = await asked(it)
            counting = Counting()
            protocol: Any = upstream.protocol
            protocol.transport = counting
            protocol.read(paused=True)
            protocol.read(paused=True)
            protocol.transport = upstream
            assert counting.count == 1

    run(play)


def test_no_transport_can_be_ended_and_takes_nothing() -> None:
    NO_TRANSPORT.abort()
    assert NO_TRANSPORT.is_closing()
    assert isinstance(NO_TRANSPORT, asyncio.Transport)

"""Tunnels: bytes that are not HTTP any more, both ways, to the end of each."""

from loomproxy.worker import downstream as module
from loomproxy.worker.downstream import TAKE_S
from tests.shell.fakes import Transport
from tests.shell.stage import Client, Stage, run, stage

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SERVE = {"client_half_close": "serve"}


async def tunnelling(it: Stage) -> tuple[Client, Transport]:
    client = it.client()
    client.send(UPGRADE)
    upstream = await it.accept()
    upstream.answers()
    upstream.feed(SWITCHED)
    assert client.answers().startswith(b"HTTP/1.1 101 ")
    return client, upstream


def test_tunnel_begun_with_too_much_sent_ahead_is_read_again() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(UPGRADE)
            upstream = await it.accept()
            upstream.answers()
            ahead = b"x" * (module.PIPELINED_BYTES_MAX + 1)
            client.send(ahead)
            assert not client.transport.reading
            upstream.feed(SWITCHED + b"hello")
            assert client.answers().endswith(b"\r\n\r\nhello")
            assert upstream.answers() == ahead
            assert client.transport.reading
            client.send(b"more")
            assert upstream.answers() == b"more"
            client.transport.feed_eof()
            assert upstream.fin
            upstream.feed_eof()
            await it.turn()
            assert client.transport.lost
            assert not client.transport.was_reset

    run(play)


def test_end_that_came_before_the_tunnel_is_passed_on() -> None:
    async def play() -> None:
        async with stage(listener=SERVE) as it:
            client = it.client()
            client.send(UPGRADE)
            upstream = await it.accept()
            client.send(b"last words")
            client.transport.feed_eof()
            upstream.answers()
            upstream.feed(SWITCHED)
            assert upstream.answers() == b"last words"
            assert upstream.fin

    run(play)


def test_tunnel_of_a_client_that_takes_nothing_does_not_stay() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await tunnelling(it)
            client.transport.kernel = 0
            upstream.feed(b"nobody reads this")
            await it.later(301)
            assert it.terminations == ["lT"]
            assert upstream.lost
            assert client.transport.closing
            assert not client.transport.lost
            await it.later(TAKE_S + 1)
            assert client.transport.lost

    run(play)


def test_tunnel_of_a_slow_client_ends_when_it_has_all() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await tunnelling(it)
            client.transport.kernel = 3
            upstream.feed(b"abcdef")
            client.transport.feed_eof()
            await it.turn()
            client.transport.take(1)
            assert not upstream.reading
            client.transport.take()
            upstream.feed_eof()
            await it.turn()
            assert client.answers() == b"abcdef"
            assert client.transport.fin
            assert it.terminations == ["--"]

    run(play)


def test_broken_tunnel_breaks_the_client() -> None:
    async def play() -> None:
        async with stage() as it:
            client, upstream = await tunnelling(it)
            upstream.lose(ConnectionResetError())
            await it.turn()
            assert client.transport.was_reset
            assert it.terminations == ["UT"]

    run(play)


def test_bytes_that_came_early_cross_the_tunnel_first_in_both_directions() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(UPGRADE + b"early up ")
            upstream = await it.accept()
            upstream.answers()
            upstream.feed(SWITCHED + b"early down ")
            client.send(b"up")
            upstream.feed(b"down")
            assert client.answers().endswith(b"\r\n\r\nearly down down")
            assert upstream.answers() == b"early up up"
            upstream.feed_eof()
            assert client.transport.fin
            client.send(b" on")
            assert upstream.answers() == b" on"
            client.transport.feed_eof()
            await it.turn()
            assert client.transport.lost
            assert upstream.lost
            outcome = it.outcomes[0]
            assert (outcome.request_bytes, outcome.response_bytes) == (14, 15)

    run(play)


def test_tunnel_pauses_each_side_for_the_other() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(UPGRADE)
            upstream = await it.accept()
            upstream.feed(SWITCHED)
            upstream.kernel = 0
            client.send(b"abc")
            assert not client.transport.reading
            upstream.take()
            assert client.transport.reading
            client.transport.kernel = 0
            upstream.feed(b"def")
            assert not upstream.reading
            client.transport.take()
            assert upstream.reading

    run(play)

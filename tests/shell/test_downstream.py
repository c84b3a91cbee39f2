"""A connection from a client: its patience, its order, its end."""

import pytest
from msgspec import structs

from loomproxy.core import fault as faults
from loomproxy.core.http1.limits import Limits
from loomproxy.core.units import NEVER
from loomproxy.worker import downstream as module
from loomproxy.worker.downstream import HURRY_S, LINGER_BYTES_MAX, LINGER_S
from tests.shell.stage import FIXED, GET, HEAD_S, IDLE_S, OK, run, stage

POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
SERVE = {"client_half_close": "serve"}


# --- patience -------------------------------------------------------------------------------------


def test_client_that_never_speaks_is_closed_without_a_word() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            await it.later(HEAD_S - 1)
            assert not client.transport.closing
            await it.later(1.5)
            assert client.transport.lost
            assert client.answers() == b""
            assert it.outcomes == []

    run(play)


def test_head_that_does_not_end_is_told_408_whatever_drips_in() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            await it.later(5)
            client.send(b"GET / HT")  # the time of the head begins here
            await it.later(HEAD_S - 1)
            client.send(b"TP/1.1\r\n")
            assert not client.transport.closing
            await it.later(1.5)
            assert client.statuses() == [408]
            assert client.transport.fin
            assert it.terminations == ["cR"]
            client.transport.feed_eof()
            await it.turn()
            assert client.transport.lost

    run(play)


def test_idle_client_waits_longer_than_one_within_a_head() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(FIXED)
            assert client.statuses() == [200]
            await it.later(IDLE_S - 1)
            client.send(FIXED)
            assert client.statuses() == [200]
            await it.later(IDLE_S - 1)
            assert not client.transport.closing
            await it.later(1.5)
            assert client.transport.lost
            assert client.answers() == b""

    run(play)


@pytest.mark.parametrize("how", ["alone", "behind a request", "behind a body", "while answering"])
def test_half_a_head_has_the_time_of_a_head_wherever_it_came(how: str) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(FIXED)
            if how == "alone":
                client.send(b"GET /fix")
            elif how == "behind a request":
                client.send(FIXED + b"GET /fix")
            elif how == "behind a body":
                post = POST.replace(b"/x", b"/fixed") % 4
                client.send(post + b"ab")
                client.send(b"cdGET /fix")
            else:
                client.send(GET)
                upstream = await it.accept()
                client.send(b"GET /fix")
                upstream.feed(OK)
            client.answers()
            assert client.exchange is None or how == "behind a body"
            await it.later(HEAD_S + 1)
            if how == "behind a body":  # answered before its body came, so it closes
                assert client.transport.closing
            else:
                assert client.statuses() == [408]

    run(play)


def test_idle_connection_has_one_deadline_and_a_lost_one_none() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            for _ in range(5):
                client.send(FIXED)
            assert client.downstream.deadline_at == it.clock.now + IDLE_S
            assert len(it.services.wheel) == 1
            client.transport.lose()
            await it.turn()
            assert client.downstream.deadline_at == NEVER
            assert len(it.services.wheel) == 0

    run(play)


def test_draining_worker_gives_an_idle_client_a_moment() -> None:
    async def play() -> None:
        async with stage() as it:
            idle, late, half, busy = it.client(), it.client(), it.client(), it.client()
            for client in (idle, late):
                client.send(FIXED)
                client.answers()
            half.send(b"GET /fix")
            busy.send(GET)
            upstream = await it.accept()
            it.world.draining = True
            for client in (idle, late, half, busy):
                client.downstream.hurry()
            late.send(FIXED)
            assert b"Connection: close" in late.answers()
            await it.later(HURRY_S + 0.5)
            assert idle.transport.lost
            assert late.transport.lost
            half.send(b"ed HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert b"Connection: close" in half.answers()
            upstream.feed(OK)
            assert b"Connection: close" in busy.answers()
            await it.turn()
            assert it.door.here == []

    run(play)


def test_answer_begun_before_the_drain_leaves_only_a_moment_for_the_next_request() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
            it.world.draining = True
            upstream.feed(b"i")
            assert b"Connection: close" not in client.answers()
            assert client.downstream.deadline_at == it.clock.now + HURRY_S

    run(play)


# --- order ----------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET + FIXED + GET[:10])
            first = await it.accept()
            assert len(it.network.calls) == 1
            client.send(GET[10:])
            first.feed(OK)
            assert client.statuses() == [200, 200]
            # The third takes the connection that the first gave back.
            assert len(first.writes) == 2
            first.feed(OK)
            assert client.statuses() == [200]
            assert it.terminations == ["--"] * 3

    run(play)


def test_thousand_pipelined_requests_do_not_nest_and_leave_turns_to_others() -> None:
    async def play() -> None:
        async with stage() as it:
            client, other = it.client(), it.client()
            client.send(FIXED * 1000)
            got = client.statuses()
            assert got == [200] * module.REQUESTS_PER_TURN_MAX
            assert not client.transport.reading
            other.send(FIXED)
            assert other.statuses() == [200]
            while not client.transport.reading:
                await it.turn()
                got += client.statuses()
            assert got == [200] * 1000

    run(play)


def test_client_that_goes_while_its_requests_wait_for_their_turn_is_forgotten() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(FIXED * 1000)
            client.transport.lose()
            await it.turn()
            assert len(it.outcomes) < 1000

    run(play)


def test_client_that_sends_far_ahead_is_not_read_until_its_answers_are_out() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            many = module.PIPELINED_BYTES_MAX // len(FIXED)
            client.send(FIXED * many)
            assert client.transport.reading
            client.send(FIXED)
            assert not client.transport.reading
            upstream.feed(OK)
            got = client.statuses()
            while not client.transport.reading:
                await it.turn()
                got += client.statuses()
            assert got == [200] * (many + 2)

    run(play)


def test_answer_frees_no_more_than_its_request_took() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            client.send(GET * (2 * module.PIPELINED_BYTES_MAX // len(GET)))
            for _ in range(10):
                assert not client.transport.reading
                upstream.feed(OK)
            assert client.statuses() == [200] * 10

    run(play)


def test_trailers_are_read_to_their_bound_however_far_that_is() -> None:
    async def play() -> None:
        limits = Limits(head_bytes_max=4 * module.PIPELINED_BYTES_MAX)
        async with stage() as it:
            it.world.snapshot = structs.replace(it.world.snapshot, limits=limits)
            client = it.client()
            client.send(CHUNKED + b"0\r\n")
            upstream = await it.accept()
            line = b"X-Sum: %s\r\n" % (b"s" * 8000)
            for _ in range(2 * module.PIPELINED_BYTES_MAX // len(line)):
                client.send(line)
            client.send(b"\r\n")
            assert upstream.answers().endswith(b"s\r\n\r\n")
            upstream.feed(OK)
            assert client.statuses() == [200]

    run(play)


def test_last_request_of_a_connection_is_told_so() -> None:
    async def play() -> None:
        async with stage(listener={"keepalive_requests_max": 2}) as it:
            client = it.client()
            client.send(FIXED)
            assert b"Connection: close" not in client.answers()
            client.send(FIXED)
            assert b"Connection: close" in client.answers()
            await it.turn()
            assert client.transport.lost

    run(play)


# --- what cannot be read --------------------------------------------------------------------------


def test_bad_bytes_are_answered_and_the_client_can_read_it() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(b"NONSENSE\r\n\r\nmore")
            assert client.statuses() == [400]
            assert [each.fault for each in it.door.refusals] == [faults.REQUEST_MALFORMED]
            assert client.transport.fin
            assert not client.transport.closing  # a close now could reset what it has not read
            client.send(b"and more" * 1000)
            assert client.answers() == b""
            await it.later(LINGER_S + 0.5)
            assert client.transport.lost
            assert it.terminations == ["LR"]
            assert len(it.outcomes) == 1

    run(play)


def test_lingering_takes_only_so_much() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(b"NONSENSE\r\n\r\n")
            client.send(bytes(LINGER_BYTES_MAX))
            assert not client.transport.closing
            client.send(b"x")
            await it.turn()
            assert client.transport.lost

    run(play)


def test_bad_chunk_is_refused_while_nothing_was_answered_and_cut_after() -> None:
    async def play() -> None:
        async with stage() as it:
            chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            early, late = it.client(), it.client()
            early.send(chunked)
            await it.accept()
            early.send(b"zz\r\n")
            assert early.statuses() == [400]
            late.send(chunked)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
            late.send(b"zz\r\n")
            await it.turn()
            assert late.transport.was_reset
            assert it.terminations == ["LH", "LD"]

    run(play)


def test_answer_before_the_end_of_the_body_closes_so_that_the_client_can_read_it() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(POST.replace(b"/x", b"/fixed") % 100_000)
            assert b"Connection: close" in client.answers()
            assert client.transport.fin
            client.send(b"x" * 50_000)
            client.transport.feed_eof()
            await it.turn()
            assert client.transport.lost
            assert not client.transport.was_reset

    run(play)


# --- slow clients ---------------------------------------------------------------------------------


def test_slow_client_is_waited_for_and_then_kept() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.transport.kernel = 10
            client.send(GET)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            assert not upstream.reading
            assert client.exchange is not None
            client.transport.take()
            assert upstream.reading
            client.transport.kernel = 0
            upstream.feed(b"cd")
            assert client.exchange is not None  # its last bytes are ours yet
            client.transport.take()
            assert client.exchange is None
            assert client.answers().endswith(b"abcd")
            client.send(FIXED)
            assert client.statuses() == [200]

    run(play)


def test_client_that_never_takes_the_end_is_reset() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.transport.kernel = 10
            client.send(FIXED)
            await it.later(31)
            assert client.transport.was_reset
            assert it.terminations == ["cL"]

    run(play)

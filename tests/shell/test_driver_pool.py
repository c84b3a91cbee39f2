"""Slots and connections between a driver and its pool: taken in turn, given back, kept or not."""

from typing import Any

import msgspec
import pytest

from loomproxy.core.endpoint import KeepaliveSpec
from loomproxy.core.exchange import Phase
from tests.core.exchange.scenery import FIRST, HOUSE_ROUTES, endpoint, house, route
from tests.shell.stage import GET, OK, Client, Stage, run, stage

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(size: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size


async def exchange(it: Stage, client: Client, upstream: Any = None) -> Any:
    """One whole exchange; the upstream connection that carried it."""
    client.send(GET)
    if upstream is None:
        upstream = await it.accept()
    upstream.feed(OK)
    assert client.statuses() == [200]
    return upstream


# --- the pool -------------------------------------------------------------------------------------


def test_slot_that_one_gives_back_wakes_another_within_the_same_turn() -> None:
    async def play() -> None:
        async with stage(in_flight_max=1) as it:
            first, second, third = it.client(), it.client(), it.client()
            for client in (first, second, third):
                client.send(GET)
            upstream = await it.accept()
            assert len(it.network.calls) == 1
            upstream.feed(OK)
            assert first.statuses() == [200]
            # The connection went on to the second in line, at once.
            assert second.exchange.phase is Phase.HEAD
            assert third.exchange.phase is Phase.QUEUE
            upstream.feed(OK)
            upstream.feed(OK)
            assert second.statuses() + third.statuses() == [200, 200]
            assert len(it.network.calls) == 1

    run(play)


def test_waiter_whose_turn_came_at_its_last_moment_is_not_timed_out() -> None:
    """One deadline passes, the other's holder is woken by it in the same tick."""

    async def play() -> None:
        async with stage(in_flight_max=1) as it:
            holder = it.client()
            holder.send(GET)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
            await it.later(35)  # of the 40 that a body may rest
            waiter = it.client()
            waiter.send(GET)  # waits 5: both deadlines pass in one tick
            assert waiter.exchange.phase is Phase.QUEUE
            await it.later(5.2)
            assert holder.transport.was_reset
            assert waiter.exchange.phase is Phase.CONNECT
            (await it.accept()).feed(OK)
            assert waiter.statuses() == [200]
            assert it.outcomes[-1].attempts == 1

    run(play)


def test_waiting_client_that_leaves_keeps_nobody_from_their_turn() -> None:
    async def play() -> None:
        async with stage(in_flight_max=1) as it:
            first, second, third = it.client(), it.client(), it.client()
            for client in (first, second, third):
                client.send(GET)
            upstream = await it.accept()
            second.transport.lose()
            await it.turn()
            upstream.feed(OK)
            upstream.feed(OK)
            assert first.statuses() + third.statuses() == [200, 200]
            assert it.terminations == ["CQ", "--", "--"]

    run(play)


# --- giving back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (OK, True),
        (CHUNKED + b"0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"more than was promised", False),
    ],
)
def test_connection_is_kept_only_when_it_is_clean(answer: bytes, kept: bool) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            upstream.feed(answer)
            assert client.statuses() == [200]
            await it.turn()
            assert upstream.lost is not kept
            assert it.services.keepalive.count(it.pool.endpoints[0]) == kept

    run(play)


def test_answer_before_the_request_was_sent_whole_closes_both() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(post(10) + b"abc")
            upstream = await it.accept()
            upstream.feed(OK)
            await it.turn()
            assert client.statuses() == [200]
            assert upstream.lost
            assert client.transport.fin

    run(play)


def test_connection_with_request_bytes_still_in_our_hands_is_not_kept() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(post(4))
            upstream = await it.accept()
            upstream.kernel = 0
            client.send(b"abcd")
            upstream.feed(OK)  # it does not read, and answers
            await it.turn()
            assert client.statuses() == [200]
            assert upstream.lost

    run(play)


def test_pool_that_a_reload_removed_takes_no_connection_back() -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            gone = endpoint(it.world, FIRST)
            alone = house(1, routes=(route("/fixed", HOUSE_ROUTES[1].action),)).snapshot
            without = msgspec.structs.replace(alone, pools={})
            it.services.keepalive.close(it.world.publish(without))
            upstream.feed(OK)
            await it.turn()
            assert client.statuses() == [200]
            assert upstream.lost
            assert gone.in_flight == 0
            assert it.services.keepalive.count(gone) == 0
            # Nothing may be left of the removed pool for the stage's last look.
            it.world.publish(house(1).snapshot)

    run(play)


def test_endpoint_that_a_reload_removed_keeps_no_connections() -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            first, second = it.client(), it.client()
            first.send(GET)
            one = await it.accept()
            second.send(GET)
            two = await it.accept()
            one.feed(OK)
            removed = it.world.publish(house(1).snapshot)
            assert [each.name for each in removed] == ["http://10.0.0.2:80"]
            it.services.keepalive.close(removed)
            two.feed(OK)
            await it.turn()
            assert first.statuses() + second.statuses() == [200, 200]
            assert not one.closing
            assert two.lost

    run(play)


def test_paused_connection_is_read_again_once_it_is_idle() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.transport.kernel = 10
            client.send(GET)
            upstream = await it.accept()
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            assert not upstream.reading
            # What it had sent by then is heard only when it is read again.
            client.transport.take()
            upstream.feed(b"hi")
            assert client.exchange is None
            assert upstream.reading
            upstream.feed_eof()
            await it.turn()
            assert it.services.keepalive.count(it.pool.endpoints[0]) == 0

    run(play)


def test_keepalive_of_a_pool_bounds_what_is_kept() -> None:
    async def play() -> None:
        async with stage(keepalive=KeepaliveSpec(idle_max=1, requests_max=2)) as it:
            first, second = it.client(), it.client()
            first.send(GET)
            one = await it.accept()
            second.send(GET)
            two = await it.accept()
            one.feed(OK)
            two.feed(OK)
            await it.turn()
            assert first.statuses() + second.statuses() == [200, 200]
            assert (one.closing, two.lost) == (False, True)
            await exchange(it, first, one)
            await it.turn()
            assert one.lost  # it has served twice

    run(play)

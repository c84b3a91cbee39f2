"""A request body at the pace of who sends it: slow ones end, held back ones do not."""

import pytest

from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamTaken,
    RequestPart,
    ResponsePart,
    UpstreamFull,
    UpstreamGone,
    UpstreamTaken,
)
from loomproxy.core.fault import UPSTREAM_CLOSED
from loomproxy.core.route import Timeouts, ToPool
from tests.commands import Fate, PauseDown, PauseUp, Release, ResumeDown, ResumeUp
from tests.core.exchange.scenery import (
    BODY_RATE,
    CONNECT_S,
    IDLE_S,
    NEVER_FROM_NOW,
    RESPONSE_S,
    SECOND,
    SEND_S,
    answering,
    chunked,
    house,
    post,
    put,
    route,
    waiting,
    with_length,
)
from tests.playbook import Later, Play, deadline, finish, head_down, opened, opens, sends_up

FOUR = RequestPart(b"0123", ended=False)  # bytes, good for two seconds
assert len(FOUR.data) == 2 * BODY_RATE
LAST = RequestPart(b"the end.", ended=True)


def trickling(body_bytes: int = 100) -> Play:
    """A play up to the first part of a body."""
    it = waiting(post(body_bytes))
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    return it


def test_a_body_that_trickles_is_answered_408_before_its_end() -> None:
    assert (
        trickling()
        >> Later(30)
        >> FOUR
        << sends_up(b"0123")
        << deadline(IDLE_S - 30 + 2)
        >> Later(11)
        >> FOUR
        << sends_up(b"0123")
        << deadline(1 + 2)
        >> Later(3)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(408, b"Connection: close\r\n", b"The request body arrived too slowly.")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "cH", status=408, fault="client_body_slow")
    )


def test_a_body_that_stops_is_told_from_one_that_trickles() -> None:
    assert (
        trickling()
        >> Later(IDLE_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(408, b"The request body stopped arriving.")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "cH", fault="client_body_timeout")
    )


def test_a_slow_body_that_is_fast_enough_comes_to_its_end() -> None:
    it = trickling()
    for _ in range(20):
        assert it >> Later(2) >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    assert it >> LAST << sends_up(b"the end.") << deadline(RESPONSE_S)


def test_a_route_may_let_bodies_come_at_any_speed() -> None:
    timeouts = Timeouts(connect_s=CONNECT_S, idle_s=IDLE_S, body_bytes_min_per_s=0)
    it = waiting(post(100), house(routes=(route("*", ToPool("web"), timeouts=timeouts),)))
    for _ in range(20):
        assert it >> Later(IDLE_S - 1) >> FOUR << sends_up(b"0123") << deadline(IDLE_S)


def test_time_in_which_the_upstream_takes_nothing_is_not_the_clients() -> None:
    it = trickling()
    assert it >> Later(30) >> FOUR << sends_up(b"0123") << deadline(12)
    assert it >> UpstreamFull() << deadline(IDLE_S) << PauseDown()
    assert it >> Later(IDLE_S - 1) >> UpstreamTaken() << ResumeDown() << deadline(12)
    assert it >> Later(10) >> FOUR << sends_up(b"0123") << deadline(4)


def test_parts_that_were_read_before_the_client_was_held_back_count_for_it() -> None:
    it = waiting(post(100))
    assert it >> UpstreamFull() << PauseDown()
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    assert it >> Later(30) >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    assert it >> UpstreamTaken() << ResumeDown() << deadline(IDLE_S)


def test_another_attempt_begins_with_all_the_patience() -> None:
    it = waiting(put(100), reused=True)
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    assert it >> Later(30) >> FOUR << sends_up(b"0123") << deadline(12)
    assert (
        it
        >> UpstreamGone(UPSTREAM_CLOSED)
        << Release(reusable=False)
        << opens(SECOND, fresh=True)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(IDLE_S)
        << sends_up(b"PUT", end=b"01230123")
        >> Later(30)
        >> FOUR
        << sends_up(b"0123")
        << deadline(IDLE_S)
    )


def test_a_stream_both_ways_may_be_slow_in_one_while_the_other_moves() -> None:
    it = answering(post(100), chunked())
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    for _ in range(5):
        assert it >> Later(30) >> FOUR << sends_up(b"0123") << deadline(12)
        assert it >> ResponsePart(b"echo", ended=False) << ... << deadline(IDLE_S)
        assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_trickles_under_a_silent_answer_is_cut(framing: str) -> None:
    it = answering(post(100), with_length(10) if framing == "length" else chunked())
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S)
    assert it >> Later(39) >> FOUR << sends_up(b"0123") << deadline(3)
    assert (
        it
        >> Later(3)
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "cD", fault="client_body_slow")
    )


def test_a_client_cannot_put_off_the_taking_of_its_answer_by_sending() -> None:
    it = answering(post(100), chunked())
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> Later(SEND_S - 1) >> FOUR << sends_up(b"0123")
    assert it >> Later(5) >> FOUR << sends_up(b"0123")
    assert it >> DownstreamTaken() << ResumeUp() << deadline(IDLE_S - 5 + 2)
    assert it >> FOUR << sends_up(b"0123") << deadline(IDLE_S - 1)

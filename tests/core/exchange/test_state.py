"""The moves that every phase shares, and the table as a whole."""

import pytest

from loomproxy.core import event as events
from loomproxy.core import fault as faults
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamGone,
    DownstreamTaken,
    DownstreamTaking,
    DrainExpired,
    RequestPart,
    ResponsePart,
    UpstreamGone,
)
from loomproxy.core.exchange import CHAT_TABLE, IGNORED, TABLE, Phase
from tests.commands import Fate, PauseDown, PauseUp, Release
from tests.core.exchange import chats
from tests.core.exchange.scenery import (
    IDLE_S,
    NEVER_FROM_NOW,
    RESPONSE_S,
    SEND_S,
    UNROUTED,
    answering,
    connecting,
    get,
    house,
    play,
    post,
    post_chunked,
    queueing,
    request,
    waiting,
    with_length,
)
from tests.playbook import Later, deadline, finish, head_down, opened, wakes


def test_an_answer_of_ours_to_head_has_no_body() -> None:
    it = play(house(routes=()))
    assert (
        it
        >> request("HEAD", "/")
        << ...
        << head_down(404, end=b"\r\n\r\n")
        << deadline(UNROUTED.send_s)
    )
    assert it >> DownstreamTaken() << ... << finish(Fate.KEEP, "LP", response_bytes=0)


def test_what_is_no_chat_has_nothing_to_forget_of_one() -> None:
    it = play()
    it.exchange.forget_chat()
    assert it.exchange.world.chat_bytes == 0
    assert it >> get("/empty") << ...


def test_the_log_counts_only_body_bytes_that_were_sent() -> None:
    it = play()
    assert it >> get("/empty") << ... << head_down(204, end=b"\r\n\r\n") << deadline(SEND_S)
    assert it >> DownstreamTaken() << ... << finish(Fate.KEEP, response_bytes=0)


def test_while_draining_our_own_answers_say_close() -> None:
    world = house()
    world.draining = True
    it = play(world)
    assert it >> get("/fixed") << ... << head_down(200, b"Connection: close") << deadline(SEND_S)
    assert it >> DownstreamTaken() << ... << finish(Fate.CLOSE)


def test_what_failed_first_is_what_is_logged() -> None:
    it = connecting(get(), house(endpoints=1, retries_min_per_s=0.0, retry_budget_ratio=0.0))
    assert it >> DeadlineExpired() << ... << head_down(504) << deadline(SEND_S)
    assert it >> DownstreamGone() << ... << finish(Fate.ABORT, "uC", fault="connect_timeout")


def test_a_large_request_is_forgotten_and_its_client_read_once_we_answer() -> None:
    it = connecting(post_chunked("/unheld"), house(endpoints=1, retries_min_per_s=0.0))
    assert it >> RequestPart(b"12345", ended=False) << PauseDown()
    assert it.exchange.client_paused
    assert it >> DeadlineExpired() << ... << head_down(504) << ...
    assert not it.exchange.client_paused
    assert it.exchange.replay is None


def test_the_slot_of_a_finished_attempt_goes_to_who_waits() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, other = queueing(get(), world)
    assert (
        other
        >> DownstreamGone()
        << Release(reusable=False)
        << wakes(it.exchange)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CC")
    )
    assert it.exchange.phase is Phase.QUEUE


def test_an_exchange_keeps_the_snapshot_that_it_was_born_with() -> None:
    world = house()
    it = connecting(get(), world)
    born = world.snapshot
    world.publish(house(endpoints=1).snapshot)
    assert it.exchange.snapshot is born
    assert it >> opened() << ... >> with_length(0) << ...


@pytest.mark.parametrize("kind", sorted(IGNORED, key=lambda kind: kind.__name__))
def test_what_comes_late_means_nothing(kind: type) -> None:
    fields = {"ask": -1, "fault": faults.CONNECT_FAILED, "from_downstream": True}
    fields |= {"status": 200, "content_type": b"", "body": b""}
    event = kind(**{name: fields[name] for name in kind.__struct_fields__})
    it = waiting(get())
    assert it >> DownstreamGone() << ...
    assert it >> event


@pytest.mark.parametrize(
    ("it", "event"),
    [
        (connecting(get()), UpstreamGone(faults.UPSTREAM_CLOSED)),
        (connecting(get()), with_length(0)),
        (waiting(get()), ResponsePart(b"", ended=True)),
        (waiting(get()), get()),
        (answering(get(), with_length(5)), with_length(5)),
        (play(), RequestPart(b"", ended=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_in_the_table_is_a_bug_of_ours(it: object, event: events.Event) -> None:
    it = it.exchange
    with pytest.raises(AssertionError, match="in phase"):
        it.handle(event, 1000.0)


def test_the_table_is_whole() -> None:
    known = set(events.Event.__args__)
    assert set(TABLE) == set(Phase)
    assert TABLE[Phase.DONE] == {}
    for phase, steps in TABLE.items():
        assert set(steps) <= known
        if phase not in (Phase.REQUEST, Phase.DONE):
            assert {DeadlineExpired, DownstreamGone, events.DrainExpired} <= set(steps), phase
    heard = {kind for steps in TABLE.values() for kind in steps}
    assert heard == known, "an event that no phase hears"


def test_the_client_is_read_again_for_its_next_request() -> None:
    it = connecting(post(5, "/unheld"))
    assert it >> RequestPart(b"12345", ended=True) << PauseDown()
    assert it.exchange.client_paused
    assert it >> DownstreamGone() << ...
    assert not it.exchange.client_paused


def test_who_owes_the_next_move_decides_how_long_it_may_take() -> None:
    whole, owing = waiting(get()), waiting(post())
    assert whole.exchange.patience_s(Phase.HEAD) == RESPONSE_S
    assert owing.exchange.patience_s(Phase.HEAD) == IDLE_S
    assert owing.exchange.patience_s(Phase.DATA) == IDLE_S
    assert whole >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert whole.exchange.patience_s(Phase.HEAD) == SEND_S


def test_a_client_that_is_behind_with_its_body_may_not_wait_as_long() -> None:
    it = waiting(post(20))
    assert it >> RequestPart(b"01234", ended=False) << ... >> Later(IDLE_S / 2)
    assert it.exchange.owed_at(it.now) == it.now + IDLE_S / 2
    it.exchange.pace = None
    assert it.exchange.owed_at(it.now) == it.now + IDLE_S


def test_a_fault_is_written_down_with_the_listener_of_its_client() -> None:
    it = waiting(get())
    assert it >> DownstreamGone() << ... << finish(Fate.ABORT, "CH", listener="public")


def test_who_leaves_the_queue_gives_its_place_up() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, _other = queueing(get(), world)
    assert it >> DownstreamGone() << deadline(NEVER_FROM_NOW) << finish(Fate.ABORT, "CQ")
    assert world.pools["web"].waiting == 0


def test_what_cannot_be_said_any_more_is_cut() -> None:
    assert (
        answering(get(), with_length(5))
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "uD", fault="upstream_stalled")
    )


def test_an_answer_of_ours_that_is_taken_at_once_is_over_at_once() -> None:
    it = play()
    it.scribe.taken = True
    assert (
        it
        >> get("/fixed")
        << deadline(NEVER_FROM_NOW)
        << head_down(200, end=b"fixed\n")
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, status=200)
    )


def test_a_chat_is_refused_in_its_dialect_and_leaves_nothing_behind() -> None:
    world = chats.market()
    it = play(world)
    it.scribe.taken = True
    assert (
        it
        >> post_chunked(chats.CHAT)
        << deadline(IDLE_S)
        >> RequestPart(b"{", ended=False)
        << deadline(IDLE_S)
    )
    assert world.chat_bytes == 1
    assert (
        it
        >> DrainExpired()
        << head_down(503, b'{"error":{"message":"The proxy is shutting down."')
        << ...
        << finish(Fate.CLOSE, "lP", chat=None)
    )
    assert world.chat_bytes == 0


def test_a_chat_hears_what_any_exchange_hears_and_that_its_client_is_slow() -> None:
    for phase, steps in CHAT_TABLE.items():
        assert steps.keys() <= TABLE[phase].keys() | {DownstreamTaking}
    assert set(TABLE) - set(CHAT_TABLE) == {Phase.REQUEST, Phase.TUNNEL}

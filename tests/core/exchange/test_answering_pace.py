"""The answer at the pace of who takes it: slow clients and upstreams, paused and cut."""

from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamTaken,
    DownstreamTaking,
    RequestPart,
    ResponsePart,
    UpstreamFull,
    UpstreamTaken,
)
from tests.commands import (
    Fate,
    PauseDown,
    PauseUp,
    Release,
    ResumeDown,
    ResumeUp,
    SendDown,
)
from tests.core.exchange.scenery import (
    FIRST,
    IDLE_S,
    NEVER_FROM_NOW,
    RESPONSE_S,
    SEND_S,
    answering,
    chunked,
    endpoint,
    get,
    house,
    post,
    response,
    upgrade,
    waiting,
    with_length,
)
from tests.playbook import Later, deadline, finish, head_down, sends_up


def test_a_client_that_reads_slowly_slows_the_upstream() -> None:
    it = answering(get(), with_length(15))
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> DownstreamFull()
    assert (
        it >> ResponsePart(b"in a read", ended=False) << SendDown(b"in a read") << deadline(SEND_S)
    )
    assert it >> DownstreamTaken() << ResumeUp() << deadline(IDLE_S)
    assert it >> DownstreamTaken()
    assert (
        it
        >> ResponsePart(b"golden", ended=True)
        << SendDown(b"golden")
        << Release(reusable=True)
        << deadline(SEND_S)
    )


def test_a_client_that_stops_reading_is_cut_and_the_upstream_is_not_blamed() -> None:
    world = house()
    assert (
        answering(get(), with_length(5), world)
        >> DownstreamFull()
        << PauseUp()
        << deadline(SEND_S)
        >> Later(SEND_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "cD", fault="client_take_timeout")
    )
    assert endpoint(world, FIRST).failed == 0


def test_a_client_that_does_not_read_interim_answers_is_cut() -> None:
    world = house()
    it = waiting(get(), world)
    assert it >> response(103) << head_down(103)
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert (
        it
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "cH", fault="client_take_timeout", status=0)
    )
    assert endpoint(world, FIRST).failed == 0


def test_a_client_that_reads_interim_answers_late_gets_its_answer() -> None:
    it = waiting(get())
    assert it >> response(103) << head_down(103)
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> DownstreamTaken() << ResumeUp() << deadline(RESPONSE_S)


def test_a_head_that_was_read_with_the_interim_ones_waits_for_the_client() -> None:
    it = waiting(get())
    assert it >> response(103) << head_down(103)
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> with_length(5) << head_down(200) << deadline(SEND_S)


def test_an_upstream_that_reads_slowly_slows_the_client() -> None:
    it = waiting(post(15))
    assert it >> RequestPart(b"01234", ended=False) << sends_up(b"01234") << deadline(IDLE_S)
    assert it >> UpstreamFull() << PauseDown()
    assert it >> UpstreamFull()
    assert it >> RequestPart(b"56789", ended=False) << sends_up(b"56789") << deadline(IDLE_S)
    assert it >> UpstreamTaken() << ResumeDown() << deadline(IDLE_S)
    assert it >> RequestPart(b"abcde", ended=True) << sends_up(b"abcde") << deadline(RESPONSE_S)
    assert it >> UpstreamFull() << PauseDown()
    assert it >> Later(RESPONSE_S - 1) >> UpstreamTaken() << ResumeDown() << deadline(RESPONSE_S)


def test_an_upstream_that_reads_slowly_in_its_answer_slows_the_client_too() -> None:
    it = answering(post(15), chunked())
    assert it >> UpstreamFull() << PauseDown()
    assert it >> UpstreamTaken() << ResumeDown()


def test_a_client_that_does_not_take_the_end_is_cut() -> None:
    assert (
        answering(get(), with_length(2))
        >> ResponsePart(b"ok", ended=True)
        << SendDown(b"ok")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> Later(SEND_S)
        >> DeadlineExpired()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "cL", status=200, fault="client_take_timeout")
    )


def test_in_a_tunnel_a_slow_client_slows_the_upstream_and_the_deadline_stays() -> None:
    it = waiting(upgrade())
    assert it >> response(101, "Connection: upgrade", "Upgrade: websocket") << ...
    assert it >> DownstreamFull() << PauseUp()
    assert it >> DownstreamTaken() << ResumeUp()


def test_a_client_that_takes_slowly_has_as_long_again_and_one_that_takes_nothing_is_cut() -> None:
    it = answering(get(), with_length(10))
    assert (
        it
        >> ResponsePart(b"01234", ended=False)
        << ...
        >> DownstreamFull()
        << PauseUp()
        << deadline(SEND_S)
        >> Later(SEND_S)
        >> DownstreamTaking()
        << deadline(SEND_S)
        >> Later(SEND_S)
        >> DownstreamTaking()
        << deadline(SEND_S)
        >> Later(SEND_S)
        >> DeadlineExpired()
        << ...
        << finish(Fate.ABORT, "cD", fault="client_take_timeout")
    )


def test_the_last_bytes_may_be_taken_slowly_too() -> None:
    assert (
        answering(get(), with_length(5))
        >> ResponsePart(b"01234", ended=True)
        << ...
        >> Later(SEND_S)
        >> DownstreamTaking()
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "--")
    )


EXPECTS = "Expect: 100-continue"


def test_an_upstream_that_never_tells_a_waiting_client_to_go_on_is_to_blame() -> None:
    world = house()
    assert (
        waiting(post(5, "/", EXPECTS), world)
        >> Later(RESPONSE_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(504)
        << deadline(SEND_S)
    )
    assert endpoint(world, FIRST).failed == 1


def test_a_client_that_was_told_to_go_on_owes_its_body_from_then() -> None:
    it = waiting(post(5, "/", EXPECTS))
    assert it >> Later(RESPONSE_S - 1) >> response(100) << head_down(100) << deadline(IDLE_S)
    assert it >> Later(IDLE_S) >> DeadlineExpired() << ... << head_down(408) << deadline(SEND_S)


def test_a_client_that_did_not_wait_owes_the_rest_of_its_body() -> None:
    it = waiting(post(5, "/", EXPECTS))
    assert it >> RequestPart(b"012", ended=False) << sends_up(b"012") << deadline(IDLE_S)
    assert it >> Later(IDLE_S) >> DeadlineExpired() << ... << head_down(408) << deadline(SEND_S)

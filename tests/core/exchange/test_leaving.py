"""What ends an exchange from outside: the client leaves, or the proxy has to."""

from loomproxy.core.event import (
    DownstreamGone,
    DownstreamTaken,
    DrainExpired,
    HalfClosed,
    ResponsePart,
)
from tests.commands import Fate, Release, SendDown, Serve
from tests.core.exchange.scenery import (
    IDLE_S,
    NEVER_FROM_NOW,
    RESPONSE_S,
    SEND_S,
    SERVICE_S,
    answering,
    connecting,
    get,
    house,
    play,
    post,
    queueing,
    upgrade,
    waiting,
    with_length,
)
from tests.core.exchange.scenery import response as answer
from tests.playbook import deadline, finish, head_down, opened, sends_up, wakes

FIN = HalfClosed(from_downstream=True)


def test_client_leaves_while_the_house_answers() -> None:
    assert (
        play()
        >> get("/health")
        << deadline(SERVICE_S)
        << Serve(1, b"/health")
        >> DownstreamGone()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CP", status=0)
    )


def test_client_leaves_the_queue() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, _other = queueing(get(), world)
    assert it >> DownstreamGone() << deadline(NEVER_FROM_NOW) << finish(Fate.ABORT, "CQ")
    assert world.pools["web"].waiting == 0


def test_a_call_that_its_waiter_did_not_live_to_hear_goes_to_the_next() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, other = queueing(get(), world)
    third = play(world)
    assert third >> get("/third") << deadline(5)
    assert other >> DownstreamGone() << Release(reusable=False) << wakes(it.exchange) << ...
    assert it >> DownstreamGone() << wakes(third.exchange) << ... << finish(Fate.ABORT, "CQ")


def test_client_leaves_while_we_connect() -> None:
    world = house(endpoints=1)
    assert (
        connecting(get(), world)
        >> DownstreamGone()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CC", status=0, fault="client_left")
    )
    assert world.pools["web"].endpoints[0].in_flight == 0


def test_client_leaves_while_the_upstream_thinks() -> None:
    assert (
        waiting(get())
        >> DownstreamGone()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CH")
    )


def test_client_leaves_in_the_middle_of_its_answer() -> None:
    assert (
        answering(get(), with_length(5))
        >> DownstreamGone()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CD", status=200)
    )


def test_client_leaves_before_it_took_the_end() -> None:
    assert (
        waiting(get())
        >> with_length(0)
        << ...
        >> DownstreamGone()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CL", status=200)
    )


def test_client_leaves_a_tunnel() -> None:
    it = waiting(upgrade())
    assert it >> answer(101, "Connection: upgrade", "Upgrade: websocket") << ...
    assert it >> DownstreamGone() << Release(reusable=False) << ... << finish(Fate.ABORT, "CT")


def test_a_client_that_says_fin_after_its_request_gets_its_answer() -> None:
    assert (
        connecting(get())
        >> FIN
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"GET / ")
        >> with_length(2)
        << head_down(200, b"Connection: close\r\n")
        << deadline(IDLE_S)
        >> ResponsePart(b"ok", ended=True)
        << SendDown(b"ok")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> FIN
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "--")
    )


def test_a_client_that_says_fin_within_its_request_has_left() -> None:
    assert (
        connecting(post())
        >> FIN
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CC")
    )


def test_a_client_that_stops_its_upload_by_fin_still_gets_the_answer_that_is_on_its_way() -> None:
    assert (
        waiting(post())
        >> with_length(0, status=413)
        << head_down(413)
        << Release(reusable=False)
        << deadline(SEND_S)
        >> FIN
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "--", status=413)
    )


def test_the_drain_deadline_answers_503_while_that_can_be_said() -> None:
    assert (
        connecting(get())
        >> DrainExpired()
        << Release(reusable=False)
        << head_down(503, b"Connection: close")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "lC", status=503, fault="drain_deadline")
    )


def test_the_drain_deadline_in_each_phase_before_the_answer() -> None:
    world = house(endpoints=1, in_flight_max=1)
    queued, _other = queueing(get(), world)
    serving = play()
    assert serving >> get("/health") << ...
    for it, letters in ((queued, "lQ"), (serving, "lP"), (waiting(get()), "lH")):
        assert it >> DrainExpired() << ... << head_down(503) << deadline(SEND_S)
        assert it >> DownstreamTaken() << ... << finish(Fate.CLOSE, letters, status=503)


def test_the_drain_deadline_cuts_an_answer_that_is_on_its_way() -> None:
    assert (
        answering(get(), with_length(5))
        >> DrainExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "lD", status=200)
    )


def test_the_drain_deadline_does_not_wait_for_a_slow_end() -> None:
    it = waiting(get())
    assert it >> with_length(0) << ...
    assert it >> DrainExpired() << deadline(NEVER_FROM_NOW) << finish(Fate.ABORT, "lL", status=200)


def test_the_drain_deadline_ends_a_tunnel() -> None:
    it = waiting(upgrade())
    assert it >> answer(101, "Connection: upgrade", "Upgrade: websocket") << ...
    assert it >> DrainExpired() << Release(reusable=False) << ... << finish(Fate.ABORT, "lT")

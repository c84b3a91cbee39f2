"""One attempt: a slot, a connection, the request on its way, and whether to go again."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Address, EjectionPolicy, EndpointSpec
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamTaken,
    Opened,
    OpenFailed,
    RequestPart,
    SlotFreed,
    UpstreamFull,
    UpstreamGone,
)
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import HOST_OF_ENDPOINT, PathRewrite, RetryPolicy, ToPool
from loomproxy.core.world import World
from tests.commands import Fate, PauseDown, Release, ResumeDown
from tests.core.exchange import chats
from tests.core.exchange.scenery import (
    CONNECT_S,
    FIRST,
    IDLE_S,
    QUEUE_S,
    RESPONSE_S,
    SECOND,
    SEND_S,
    connecting,
    endpoint,
    get,
    house,
    play,
    post,
    post_chunked,
    put,
    queueing,
    read,
    response,
    route,
    waiting,
    with_length,
)
from tests.playbook import (
    Later,
    deadline,
    finish,
    head_down,
    open_failed,
    opened,
    opens,
    sends_up,
    slot_freed,
    wakes,
)


def test_a_small_get_goes_through_whole() -> None:
    world = house()
    assert (
        play(world)
        >> get("/path?query", "Accept: */*")
        << opens(FIRST)
        << deadline(CONNECT_S)
        >> Later(0.25)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(
            b"GET /path?query HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n",
            b"X-Forwarded-For: 192.0.2.7\r\n",
            b"X-Request-ID: id-1\r\n",
            end=b"\r\n\r\n",
        )
        >> Later(0.5)
        >> with_length(0)
        << head_down(200, b"Content-Length: 0\r\n", b"X-Request-ID: id-1\r\n", end=b"\r\n\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(float("inf"))
        << finish(
            Fate.KEEP,
            status=200,
            attempts=1,
            fault="",
            pool="web",
            endpoint=FIRST,
            route="*",
            begun_at=1000.0,
            connecting_at=1000.0,
            opened_at=1000.25,
            answered_at=1000.75,
            ended_at=1000.75,
        )
    )
    assert endpoint(world, FIRST).in_flight == 0


def test_what_came_of_the_body_meanwhile_goes_up_with_the_head() -> None:
    assert (
        connecting(post(10))
        >> RequestPart(b"01234", ended=False)
        >> RequestPart(b"56789", ended=True)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"POST / ", b"Content-Length: 10\r\n", end=b"\r\n\r\n0123456789")
    )


def test_a_route_may_rewrite_the_path_and_name_the_endpoint_as_host() -> None:
    rewrite = PathRewrite(strip_prefix=b"/api")
    world = house(routes=(route("*", ToPool("web"), rewrite=rewrite, host=HOST_OF_ENDPOINT),))
    assert (
        connecting(get("/api/x?y"), world)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"GET /x?y HTTP/1.1\r\nHost: 10.0.0.1\r\n")
    )


def test_a_request_without_host_is_given_the_one_of_its_endpoint() -> None:
    assert (
        connecting(read("GET / HTTP/1.0", "X: y"))
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nX: y\r\n")
    )


def test_an_endpoint_that_refuses_is_left_for_another() -> None:
    world = house()
    assert (
        connecting(get(), world)
        >> open_failed()
        << Release(reusable=False)
        << opens(SECOND)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"GET / ")
    )
    assert endpoint(world, FIRST).failed == 1
    assert endpoint(world, FIRST).in_flight == 0
    assert endpoint(world, SECOND).in_flight == 1


def test_an_endpoint_that_does_not_answer_the_call_is_left_for_another() -> None:
    assert (
        connecting(post())
        >> Later(CONNECT_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << opens(SECOND)
        << deadline(CONNECT_S)
    )


def test_attempts_end_somewhere() -> None:
    it = connecting(get())
    assert it >> open_failed() << ... << opens(SECOND) << ...
    assert it >> open_failed() << ... << opens(SECOND) << ...
    assert (
        it
        >> open_failed()
        << Release(reusable=False)
        << head_down(502, b"Connection: keep-alive\r\n")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(float("inf"))
        << finish(Fate.KEEP, "UC", status=502, attempts=3, fault="connect_failed")
    )


def test_a_route_may_forbid_another_attempt() -> None:
    world = house(routes=(route("*", ToPool("web"), retry=RetryPolicy(attempts_max=1)),))
    assert (
        connecting(get(), world)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(504)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "uC", status=504, fault="connect_timeout")
    )


def test_retries_cannot_become_the_outage() -> None:
    world = house(retry_budget_ratio=0.0, retries_min_per_s=0.0)
    assert connecting(get(), world) >> open_failed() << ... << head_down(502) << deadline(SEND_S)


def test_a_get_that_lost_the_race_with_an_idle_close_goes_again_on_a_fresh_connection() -> None:
    world = house(endpoints=1)
    assert (
        waiting(get(), world, reused=True)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << opens(FIRST, fresh=True)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"GET / ")
    )
    assert endpoint(world, FIRST).failed == 0, "a lost race is nobody's failure"


def test_a_put_that_lost_the_race_is_sent_again_with_its_body() -> None:
    assert (
        waiting(put(5), reused=True)
        >> RequestPart(b"hello", ended=True)
        << sends_up(b"hello")
        << deadline(RESPONSE_S)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << opens(SECOND, fresh=True)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(RESPONSE_S)
        << sends_up(b"PUT / ", end=b"\r\n\r\nhello")
    )


def test_a_post_that_lost_the_race_is_not_sent_twice() -> None:
    world = house()
    assert (
        waiting(post(0), world, reused=True)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << head_down(502)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "UH", status=502, attempts=1, reused=True)
    )
    assert endpoint(world, FIRST).failed == 0, "a lost race is nobody's failure"


def test_a_get_whose_new_connection_closed_is_not_sent_again() -> None:
    world = house()
    assert (
        waiting(get(), world)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << ...
        << head_down(502)
        << deadline(SEND_S)
    )
    assert endpoint(world, FIRST).failed == 1


def test_after_an_interim_answer_the_request_is_not_sent_again() -> None:
    assert (
        waiting(get(), reused=True)
        >> response(103)
        << head_down(103)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << head_down(502)
        << deadline(SEND_S)
    )


def test_a_request_that_outgrew_what_is_held_is_not_sent_again() -> None:
    assert (
        waiting(put(9, "/unheld"), reused=True)
        >> RequestPart(b"12345", ended=False)
        << sends_up(b"12345")
        << deadline(IDLE_S)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << head_down(502, b"Connection: close\r\n")
        << deadline(SEND_S)
    )


def test_a_large_body_waits_at_the_client_until_somebody_takes_it() -> None:
    assert (
        connecting(post_chunked("/unheld"))
        >> RequestPart(b"1234", ended=False)
        << PauseDown()
        >> RequestPart(b"5", ended=False)
        >> open_failed()
        << Release(reusable=False)
        << opens(SECOND)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(IDLE_S)
        << sends_up(b"POST /unheld ", end=b"\r\n\r\n4\r\n1234\r\n1\r\n5\r\n")
        << ResumeDown()
    )


def test_a_client_that_was_paused_for_the_last_upstream_is_read_for_the_next() -> None:
    it = waiting(put(5), house(1), reused=True)
    assert it >> UpstreamFull() << PauseDown()
    assert (
        it
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << Release(reusable=False)
        << ResumeDown()
        << opens(FIRST, fresh=True)
        << deadline(CONNECT_S)
    )


def test_moments_and_reuse_in_the_log_are_those_of_the_last_attempt() -> None:
    it = waiting(get(), house(1), reused=True)
    assert (
        it
        >> Later(1)
        >> UpstreamGone(faults.UPSTREAM_CLOSED)
        << ...
        << opens(FIRST, fresh=True)
        << ...
    )
    assert it >> Later(CONNECT_S) >> DeadlineExpired() << ... << opens(FIRST, fresh=True) << ...
    assert it >> open_failed() << ... << head_down(502) << deadline(SEND_S)
    assert (
        it
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "UC", attempts=3, opened_at=0.0, reused=False, connecting_at=1004.0)
    )


def test_who_finds_no_slot_waits_for_one() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, other = queueing(get(), world)
    assert (
        other
        >> opened()
        << ...
        >> with_length(0)
        << head_down(200)
        << Release(reusable=True)
        << wakes(it.exchange)
        << deadline(SEND_S)
    )
    assert it >> slot_freed() << opens(FIRST) << deadline(CONNECT_S)


def test_who_is_woken_too_late_waits_on_with_the_same_deadline() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, other = queueing(get(), world)
    assert other >> opened() << ... >> with_length(0) << ... << wakes(it.exchange) << ...
    connecting(get("/faster"), world)
    assert it >> slot_freed()
    assert world.pools["web"].waiting == 1
    assert it >> Later(QUEUE_S) >> DeadlineExpired() << head_down(503) << deadline(SEND_S)
    assert it >> DownstreamTaken() << ... << finish(Fate.KEEP, "rQ", fault="queue_timeout")
    assert world.pools["web"].waiting == 0


def test_a_call_for_a_wait_that_is_over_means_nothing() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, other = queueing(get(), world)
    ask = it.exchange.ask
    assert it >> DeadlineExpired() << head_down(503) << deadline(SEND_S)
    assert it >> SlotFreed(ask)
    assert other.asserted


def test_a_full_queue_is_said_at_once() -> None:
    world = house(endpoints=1, in_flight_max=1, queue_max=0)
    connecting(get("/other"), world)
    it = play(world)
    assert it >> get() << deadline(QUEUE_S) << head_down(503) << deadline(SEND_S)
    assert it >> DownstreamTaken() << ... << finish(Fate.KEEP, "RQ", fault="queue_full", attempts=0)


def test_a_pool_without_an_enabled_endpoint_is_said_at_once() -> None:
    world = house()
    spec = PoolSpec("web", (EndpointSpec(Address("10.0.0.1", 80), enabled=False),))
    world.publish(
        type(world.snapshot)(
            revision=2,
            table=world.snapshot.table,
            pools={"web": spec},
            policy=world.snapshot.policy,
            limits=world.snapshot.limits,
            timeouts=world.snapshot.timeouts,
        )
    )
    it = play(world)
    assert it >> get() << deadline(QUEUE_S) << head_down(503) << deadline(SEND_S)
    assert it >> DownstreamTaken() << ... << finish(Fate.KEEP, "RQ", fault="pool_unavailable")


@pytest.mark.parametrize("late", [Opened, OpenFailed])
def test_an_answer_to_an_abandoned_attempt_is_not_believed(late: type) -> None:
    it = connecting(get())
    ask = it.exchange.ask
    answer = Opened(ask) if late is Opened else OpenFailed(ask, faults.CONNECT_FAILED)
    assert it >> DeadlineExpired() << ... << opens(SECOND) << ...
    assert it >> answer
    assert it >> opened() << deadline(RESPONSE_S) << sends_up(b"GET / ")
    assert it >> answer


def test_failures_in_a_row_eject_an_endpoint() -> None:
    world: World = house(ejection=EjectionPolicy(failures=1, time_s=9.0))
    assert connecting(get(), world) >> open_failed() << ... << opens(SECOND) << ...
    assert endpoint(world, FIRST).ejected_until == 1009.0


def test_a_call_for_another_wait_means_nothing_to_who_waits_again() -> None:
    world = house(endpoints=1, in_flight_max=1)
    it, _other = queueing(get(), world)
    assert it >> SlotFreed(it.exchange.ask - 1)
    assert it.exchange.phase.name == "QUEUE"


def test_a_chat_goes_to_the_pool_as_it_is_now_or_nowhere() -> None:
    world = chats.market()
    it = play(world)
    data = chats.body()
    assert it >> chats.post(data) << deadline(IDLE_S)
    assert it >> chats.whole(data) << opens(chats.ACME_1) << deadline(chats.CONNECT_S)
    assert it >> opened() << deadline(chats.FIRST_BYTE_S) << sends_up(b"POST /chat/completions ")
    other = play(world)
    assert other >> chats.post(data) << deadline(IDLE_S)
    assert other >> chats.whole(data) << opens(chats.ACME_1) << deadline(chats.CONNECT_S)
    world.publish(chats.snapshot())
    assert (
        other
        >> open_failed()
        << Release(reusable=False)
        << head_down(503, b'"code":"provider_unavailable"')
        << deadline(SEND_S)
    )

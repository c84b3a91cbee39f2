"""The answer on its way down: interim heads, the final head, the body, the last bytes."""

from loomproxy.core import fault as faults
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamTaken,
    RequestPart,
    ResponsePart,
    UpstreamFull,
    UpstreamGone,
)
from loomproxy.core.exchange.answering import INTERIM_RESPONSES_MAX
from loomproxy.core.hygiene import HeaderOps
from loomproxy.core.route import ToPool
from tests.commands import (
    Fate,
    PauseDown,
    Release,
    ResumeDown,
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
    post_chunked,
    request,
    response,
    route,
    waiting,
    with_length,
)
from tests.playbook import Later, deadline, finish, head_down, sends_up


def test_a_body_of_known_length_passes_as_it_comes() -> None:
    assert (
        answering(get(), with_length(10))
        >> ResponsePart(b"01234", ended=False)
        << SendDown(b"01234")
        << deadline(IDLE_S)
        >> ResponsePart(b"56789", ended=True)
        << SendDown(b"56789")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, status=200, response_bytes=10)
    )


def test_chunks_and_trailers_pass_without_fields_that_trailers_may_not_have() -> None:
    trailers = b"X-Sum: 1\r\nContent-Length: 3\r\n"
    assert (
        answering(get(), chunked("Trailer: X-Sum"))
        >> ResponsePart(b"abc", ended=False)
        << SendDown(b"3\r\nabc\r\n")
        << deadline(IDLE_S)
        >> ResponsePart(b"", ended=False)
        << deadline(IDLE_S)
        >> ResponsePart(b"de", ended=True, trailers=trailers)
        << SendDown(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
    )


def test_a_trailer_has_no_say_in_a_field_that_the_route_removes() -> None:
    ops = HeaderOps(remove=(b"X-Inside",))
    world = house(routes=(route("*", ToPool("web"), response_ops=ops),))
    assert (
        answering(get(), chunked(), world)
        >> ResponsePart(b"", ended=True, trailers=b"X-Inside: 10.0.0.1\r\nX-Sum: 1\r\n")
        << SendDown(b"0\r\nX-Sum: 1\r\n\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
    )


def test_an_empty_end_of_chunks_is_the_last_chunk_alone() -> None:
    assert (
        answering(get(), chunked())
        >> ResponsePart(b"", ended=True)
        << SendDown(b"0\r\n\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
    )


def test_a_body_that_ends_by_close_is_chunked_for_who_can_read_chunks() -> None:
    assert (
        waiting(get())
        >> response(200)
        << head_down(200, b"Transfer-Encoding: chunked\r\n", without=b"Connection: close")
        << deadline(IDLE_S)
        >> ResponsePart(b"abc", ended=False)
        << SendDown(b"3\r\nabc\r\n")
        << deadline(IDLE_S)
        >> ResponsePart(b"", ended=True)
        << SendDown(b"0\r\n\r\n")
        << Release(reusable=False)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP)
    )


def test_an_answer_without_date_is_dated_by_the_worlds_clock() -> None:
    world = house()
    world.date = b"Tue, 24 Nov 2026 03:00:00 GMT"
    assert (
        waiting(get(), world)
        >> with_length(1)
        << head_down(200, b"\r\nDate: Tue, 24 Nov 2026 03:00:00 GMT\r\n")
        << ...
    )


def test_an_old_client_gets_chunks_as_a_body_that_ends_by_close() -> None:
    assert (
        waiting(get("/", "Connection: keep-alive", version="1.0"))
        >> chunked("Connection: keep-alive")
        << head_down(200, b"Connection: close\r\n", without=b"Transfer-Encoding")
        << deadline(IDLE_S)
        >> ResponsePart(b"abc", ended=True, trailers=b"X-Sum: 1\r\n")
        << SendDown(b"abc")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE)
    )


def test_an_old_client_may_keep_its_connection_where_the_length_is_known() -> None:
    assert (
        waiting(get("/", "Connection: keep-alive", version="1.0"))
        >> with_length(2)
        << head_down(200, b"Connection: keep-alive\r\n", b"Content-Length: 2\r\n")
        << deadline(IDLE_S)
        >> ResponsePart(b"ok", ended=True)
        << ...
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP)
    )


def test_an_old_client_hears_of_no_interim_answer() -> None:
    assert waiting(get(version="1.0")) >> response(103)


def test_head_is_answered_without_a_body_and_keeps_the_length() -> None:
    assert (
        waiting(request("HEAD", "/"))
        >> with_length(1000, to="HEAD")
        << head_down(200, b"Content-Length: 1000\r\n", end=b"\r\n\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, response_bytes=0)
    )


def test_a_client_that_waits_for_100_continue_gets_the_upstreams() -> None:
    assert (
        waiting(post(5, "/", "Expect: 100-continue"))
        >> response(100)
        << head_down(100, end=b"\r\n\r\n")
        << deadline(IDLE_S)
        >> RequestPart(b"hello", ended=True)
        << sends_up(b"hello")
        << deadline(RESPONSE_S)
        >> response(204)
        << head_down(204)
        << Release(reusable=True)
        << deadline(SEND_S)
    )


def test_interim_answers_end_somewhere() -> None:
    it = waiting(get())
    for _ in range(INTERIM_RESPONSES_MAX):
        assert it >> response(103) << head_down(103)
    assert (
        it
        >> response(103)
        << Release(reusable=False)
        << head_down(502)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "UH", fault="upstream_malformed")
    )


def test_an_answer_before_the_request_is_over_is_passed_on_and_ends_the_upload() -> None:
    it = waiting(post(10))
    assert it >> with_length(3, status=413) << head_down(413) << deadline(IDLE_S)
    assert it >> RequestPart(b"01234", ended=False) << sends_up(b"01234") << deadline(IDLE_S)
    assert (
        it
        >> ResponsePart(b"no!", ended=True)
        << SendDown(b"no!")
        << Release(reusable=False)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, status=413, request_bytes=5, response_bytes=3)
    )


def test_an_answer_before_the_request_is_over_says_that_the_connection_will_close() -> None:
    it = waiting(post(10))
    closes = head_down(200, b"\r\nConnection: close\r\n")
    assert it >> with_length(0) << closes << Release(reusable=False) << deadline(SEND_S)
    assert it >> RequestPart(b"0123456789", ended=True)
    assert it >> DownstreamTaken() << ... << finish(Fate.CLOSE, request_bytes=10)


def test_a_client_that_was_paused_is_read_again_once_its_answer_is_there() -> None:
    it = waiting(post_chunked())
    assert it >> UpstreamFull() << PauseDown()
    assert (
        it
        >> with_length(0, status=413)
        << head_down(413)
        << Release(reusable=False)
        << ResumeDown()
        << deadline(SEND_S)
    )


def test_an_upstream_that_has_not_taken_its_request_is_not_used_again() -> None:
    it = waiting(post(5))
    assert it >> RequestPart(b"hello", ended=True) << ...
    assert it >> UpstreamFull() << PauseDown()
    assert (
        it
        >> with_length(0)
        << head_down(200)
        << Release(reusable=False)
        << ResumeDown()
        << deadline(SEND_S)
    )


def test_an_upstream_that_closes_is_not_used_again() -> None:
    assert (
        waiting(get())
        >> with_length(0, "Connection: close")
        << head_down(200, without=b"close")
        << Release(reusable=False)
        << deadline(SEND_S)
    )


def test_an_upstream_that_leaves_in_its_answer_aborts_the_clients() -> None:
    world = house()
    assert (
        answering(get(), chunked(), world)
        >> UpstreamGone(faults.UPSTREAM_CUT)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "UD", status=200, fault="upstream_cut")
    )
    assert endpoint(world, FIRST).failed == 1


def test_an_upstream_that_does_not_answer_is_told_as_504() -> None:
    world = house()
    assert (
        waiting(get(), world)
        >> Later(RESPONSE_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(504, b"Connection: keep-alive")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "uH", status=504, fault="upstream_timeout")
    )
    assert endpoint(world, FIRST).failed == 1


def test_a_client_that_owes_its_body_is_told_408_and_the_upstream_is_not_blamed() -> None:
    world = house()
    assert (
        waiting(post(), world)
        >> Later(IDLE_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(408, b"Connection: close")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "cH", status=408, fault="client_body_timeout")
    )
    assert endpoint(world, FIRST).failed == 0


def test_an_upstream_that_does_not_take_the_body_is_the_one_that_stalls() -> None:
    it = waiting(post())
    assert it >> UpstreamFull() << PauseDown()
    assert (
        it
        >> DeadlineExpired()
        << Release(reusable=False)
        << ResumeDown()
        << head_down(504, b"Connection: close")
        << deadline(SEND_S)
    )


def test_a_stalled_answer_is_cut() -> None:
    world = house()
    assert (
        answering(get(), with_length(5), world)
        >> Later(IDLE_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "uD", fault="upstream_stalled")
    )
    assert endpoint(world, FIRST).failed == 1


def test_an_answer_that_stalls_because_the_client_owes_its_body_is_the_clients_fault() -> None:
    world = house()
    assert (
        answering(post(), chunked(), world)
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "cD", status=200, fault="client_body_timeout")
    )
    assert endpoint(world, FIRST).failed == 0


def test_while_draining_answers_say_close() -> None:
    world = house()
    it = waiting(get(), world)
    world.draining = True
    assert (
        it
        >> with_length(0)
        << head_down(200, b"Connection: close\r\n")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE)
    )

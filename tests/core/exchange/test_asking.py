"""What is asked, and who shall answer: the request head, the decision, the request body."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.event import (
    Answered,
    DeadlineExpired,
    DownstreamTaken,
    RequestBroken,
    RequestPart,
)
from loomproxy.core.hygiene import HeaderOps, Peer
from loomproxy.core.route import ToPool
from tests.commands import Fate, Release, Serve
from tests.core.exchange.chats import CHAT, market
from tests.core.exchange.scenery import (
    CONNECT_S,
    FIRST,
    IDLE_S,
    NEVER_FROM_NOW,
    RESPONSE_S,
    SEND_S,
    SERVICE_S,
    UNROUTED,
    answering,
    chunked,
    connecting,
    get,
    house,
    play,
    post,
    post_chunked,
    read,
    request,
    route,
    waiting,
    with_length,
)
from tests.playbook import answered, deadline, finish, head_down, opened, opens, sends_up


def test_a_request_that_no_route_is_for_is_answered_404() -> None:
    assert (
        play(house(routes=(route("/known", ToPool("web")),)))
        >> get("/unknown")
        << deadline(NEVER_FROM_NOW)
        << head_down(404, b"Connection: keep-alive", end=b"Request-ID: id-1\n")
        << deadline(UNROUTED.send_s)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, "LP", fault="no_route", route="-", attempts=0)
    )


def test_a_request_that_brings_an_id_keeps_it() -> None:
    assert (
        play()
        >> get("/fixed", "X-Request-ID: theirs")
        << deadline(NEVER_FROM_NOW)
        << head_down(200, b"X-Request-ID: theirs\r\n", b"X-Fixed: yes\r\n", end=b"\r\n\r\nfixed\n")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, request_id=b"theirs", client_ip=b"192.0.2.7", response_bytes=6)
    )


def test_a_route_may_redirect() -> None:
    assert (
        play()
        >> request("HEAD", "/moved")
        << deadline(NEVER_FROM_NOW)
        << head_down(308, b"Location: https://a.example/moved\r\n", end=b"\r\n\r\n")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, status=308, response_bytes=0)
    )


def test_a_redirect_that_would_have_no_host_is_none() -> None:
    assert (
        play()
        >> read("GET /moved HTTP/1.0", "X: y")
        << deadline(NEVER_FROM_NOW)
        << head_down(400)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "LP", status=400, fault="request_malformed", route="/moved")
    )


def test_the_house_answers_about_itself() -> None:
    it = play()
    assert it >> get("/health") << deadline(SERVICE_S) << Serve(1, b"/health")
    assert (
        it
        >> answered(200, b"application/json", b"{}")
        << head_down(200, b"Content-Type: application/json\r\n", end=b"\r\n\r\n{}")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, status=200, response_bytes=2)
    )


def test_the_house_that_does_not_answer_is_told_as_503() -> None:
    assert (
        play()
        >> get("/health")
        << ...
        >> DeadlineExpired()
        << head_down(503)
        << deadline(SEND_S)
        >> answered(200, b"application/json", b"{}")
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "iP", status=503, fault="service_timeout")
    )


def test_the_pages_of_the_house_are_read_only() -> None:
    assert (
        play()
        >> post(0, "/health")
        << deadline(NEVER_FROM_NOW)
        << head_down(405, b"Allow: GET, HEAD\r\n", b"Connection: keep-alive")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "LP", fault="method_not_allowed")
    )


def test_a_body_that_nobody_needs_is_counted_and_dropped() -> None:
    assert (
        play()
        >> get("/health", "Content-Length: 10")
        << ...
        >> RequestPart(b"0123456789", ended=True)
        >> answered(200, b"text/plain", b"")
        << head_down(200, b"Connection: keep-alive")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, request_bytes=10)
    )


def test_an_answer_of_ours_closes_a_connection_whose_request_is_not_over() -> None:
    assert (
        play()
        >> post(10, "/fixed")
        << deadline(NEVER_FROM_NOW)
        << head_down(200, b"Connection: close")
        << deadline(SEND_S)
        >> RequestPart(b"0123456789", ended=True)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, request_bytes=10)
    )


def test_a_refused_head_is_answered_and_the_connection_closed() -> None:
    assert (
        play()
        >> RequestBroken(faults.REQUEST_MALFORMED)
        << head_down(400, b"Connection: close")
        << deadline(UNROUTED.send_s)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "LR", head=None, status=400, fault="request_malformed")
    )


def test_a_head_that_its_client_abandoned_is_not_answered() -> None:
    assert (
        play()
        >> RequestBroken(faults.CLIENT_LEFT)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CR", status=0)
    )


def test_a_head_that_does_not_come_in_time_is_the_clients_fault() -> None:
    it = play()
    assert it >> RequestBroken(faults.CLIENT_HEAD_TIMEOUT) << head_down(408) << ...
    assert it >> DownstreamTaken() << ... << finish(Fate.CLOSE, "cR", status=408)


def test_a_body_known_to_be_too_large_is_refused_before_anybody_is_asked() -> None:
    assert (
        play()
        >> post(11, "/small")
        << deadline(NEVER_FROM_NOW)
        << head_down(413, b"Connection: close")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "LP", fault="body_too_large", attempts=0)
    )


def test_a_chunked_body_that_grows_too_large_is_refused() -> None:
    it = waiting(post_chunked("/small"))
    assert it >> RequestPart(b"0123456789", ended=False) << ...
    assert (
        it
        >> RequestPart(b"x", ended=False)
        << Release(reusable=False)
        << head_down(413, b"Connection: close")
        << deadline(SEND_S)
        >> RequestPart(b"y", ended=True)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "LH", fault="body_too_large", request_bytes=12)
    )


def test_a_chunked_body_that_grows_too_large_under_its_answer_cuts_it() -> None:
    assert (
        answering(post_chunked("/small"), chunked())
        >> RequestPart(b"01234567890", ended=False)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "LD", status=200, fault="body_too_large")
    )


def test_a_body_in_chunks_goes_up_in_chunks_with_its_trailers() -> None:
    assert (
        waiting(post_chunked())
        >> RequestPart(b"abc", ended=False)
        << sends_up(b"3\r\nabc\r\n")
        << deadline(IDLE_S)
        >> RequestPart(b"de", ended=True, trailers=b"X-Sum: 1\r\nHost: evil\r\n")
        << sends_up(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
        << deadline(RESPONSE_S)
    )


def test_a_trailer_has_no_say_in_a_field_that_the_route_sets() -> None:
    ops = HeaderOps(set=((b"X-User", b"nobody"),), remove=(b"X-Role",))
    world = house(routes=(route("*", ToPool("web"), request_ops=ops),))
    said = b"X_User: root\r\nx-role: admin\r\nX-Sum: 1\r\n"
    assert (
        waiting(post_chunked(), world)
        >> RequestPart(b"", ended=True, trailers=said)
        << sends_up(b"0\r\nX-Sum: 1\r\n\r\n")
        << deadline(RESPONSE_S)
    )


@pytest.mark.parametrize("target", ["/fixed", "*"])
def test_options_that_may_go_no_further_are_answered_here(target: str) -> None:
    assert (
        play()
        >> request("OPTIONS", target, "Max-Forwards: 0")
        << deadline(NEVER_FROM_NOW)
        << head_down(204, b"Connection: keep-alive", end=b"\r\n\r\n")
        << deadline(UNROUTED.send_s)
        >> DownstreamTaken()
        << ...
        << finish(Fate.KEEP, "--", status=204, route="-", attempts=0, response_bytes=0)
    )


def test_a_part_that_holds_no_bytes_sends_none() -> None:
    assert waiting(post_chunked()) >> RequestPart(b"", ended=False) << deadline(IDLE_S)


@pytest.mark.parametrize(
    ("fault", "status"), [(faults.REQUEST_MALFORMED, 400), (faults.BODY_TOO_LARGE, 413)]
)
def test_a_body_that_cannot_be_read_is_refused(fault: faults.Fault, status: int) -> None:
    assert (
        connecting(post_chunked())
        >> RequestBroken(fault)
        << Release(reusable=False)
        << head_down(status, b"Connection: close")
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "LC", status=status, fault=fault.name)
    )


def test_a_client_that_closes_within_its_body_is_not_answered() -> None:
    assert (
        waiting(post())
        >> RequestBroken(faults.CLIENT_LEFT)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "CH", status=0)
    )


def test_a_body_that_cannot_be_read_under_its_answer_cuts_it() -> None:
    assert (
        answering(post_chunked(), chunked())
        >> RequestBroken(faults.REQUEST_MALFORMED)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "LD", status=200)
    )


def test_a_body_that_breaks_after_the_answer_only_closes_the_connection() -> None:
    assert (
        waiting(post_chunked())
        >> with_length(0)
        << ...
        >> RequestBroken(faults.REQUEST_MALFORMED)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "--", status=200)
    )


def test_a_connection_that_carried_enough_says_close() -> None:
    it = play(may_keep=False)
    assert it >> get() << opens(FIRST) << deadline(CONNECT_S)
    assert it >> DeadlineExpired() << ...
    assert it >> DeadlineExpired() << ...
    assert (
        it
        >> DeadlineExpired()
        << Release(reusable=False)
        << head_down(504, b"Connection: close")
        << deadline(SEND_S)
    )


def test_a_body_of_known_length_is_kept_until_it_can_go_up_as_it_came() -> None:
    assert (
        connecting(post(10))
        >> RequestPart(b"01234", ended=False)
        >> opened()
        << deadline(IDLE_S)
        << sends_up(b"POST / ", end=b"\r\n\r\n01234")
        >> RequestPart(b"56789", ended=True)
        << sends_up(b"56789")
        << deadline(RESPONSE_S)
    )


def test_a_trusted_peer_says_for_whom_it_asks() -> None:
    it = play(peer=Peer(b"192.0.2.7", 40000, trusted=True, listener="public"))
    assert it >> get("/", "X-Forwarded-For: 198.51.100.9") << ...
    assert it.exchange.outcome.client_ip == b"198.51.100.9"


def test_an_answer_of_the_house_to_another_question_is_not_believed() -> None:
    it = play()
    assert it >> get("/health") << ...
    assert it >> Answered(it.exchange.ask - 1, 200, b"text/plain", b"of another\n")
    assert it >> answered(200, b"text/plain", b"fine\n") << head_down(200, end=b"fine\n") << ...


def test_models_are_a_page_of_the_house() -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> get("/v1/models/acme/m1", "Authorization: Bearer x")
        << deadline(NEVER_FROM_NOW)
        << head_down(200, b"Content-Type: application/json\r\n", b'{"id":"acme/m1",')
        << ...
        << finish(Fate.KEEP, "--", route="models", pool="-")
    )


def test_models_are_only_read() -> None:
    assert (
        play(market())
        >> request("DELETE", "/v1/models")
        << deadline(NEVER_FROM_NOW)
        << head_down(405, b"Allow: GET, HEAD\r\n", b'{"error":{"message":"', b"use GET or HEAD")
        << deadline(SEND_S)
    )


def test_a_chat_takes_its_body_before_it_goes_anywhere() -> None:
    assert play(market()) >> request("POST", CHAT, "Content-Length: 5") << deadline(IDLE_S)

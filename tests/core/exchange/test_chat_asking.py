"""A chat's way to its provider."""

import pytest

from loomproxy.core import world as worlds
from loomproxy.core.event import DeadlineExpired, DownstreamGone, RequestBroken
from loomproxy.core.fault import REQUEST_MALFORMED
from loomproxy.core.message import RequestPart
from tests.commands import Fate, HeadDown
from tests.core.exchange.chats import (
    ACME_1,
    ASKED,
    AWAY,
    BODY_MAX,
    CHAT,
    CLOSED,
    CLOSED_AI,
    CONNECT_S,
    FIRST_BYTE_S,
    LOOM,
    LOOM_STREAM,
    acme,
    asking,
    body,
    endpoint,
    market,
    post,
    snapshot,
    whole,
)
from tests.core.exchange.scenery import BODY_RATE, IDLE_S, SEND_S, get, play, post_chunked, request
from tests.playbook import Later, deadline, finish, head_down, opened, opens, sends_up


def test_a_chat_goes_to_the_provider_that_its_model_names() -> None:
    sent = body("m1")
    assert (
        play(market())
        >> post(ASKED, "Authorization: Bearer of-the-client", "Cookie: a=b", "X-Mine: 1")
        << deadline(IDLE_S)
        >> whole(ASKED)
        << opens(ACME_1)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(
            b"POST /chat/completions HTTP/1.1\r\nHost: localhost\r\n",
            b"\r\nContent-Type: application/json\r\nAccept: application/json\r\n",
            b"\r\nAuthorization: Bearer of-the-guest\r\n",
            b"\r\nX-Request-ID: id-1\r\n",
            b"\r\ntraceparent: 00-",
            b"\r\nContent-Length: %d\r\n" % len(sent),
            end=b"\r\n\r\n" + sent,
            without=b"client",
        )
    )


@pytest.mark.parametrize("line", ["Cookie: a=b", "X-Mine: 1", "Accept-Encoding: gzip"])
def test_what_a_guest_does_not_need_stays_here(line: str) -> None:
    it = play(market())
    assert (
        it
        >> post(ASKED, line)
        << ...
        >> whole(ASKED)
        << ...
        >> opened()
        << ...
        << sends_up(without=line.encode())
    )


def test_the_body_comes_in_parts_and_goes_on_whole() -> None:
    first, last = ASKED[:10], ASKED[10:]
    patience_s = min(IDLE_S, IDLE_S)
    it = play(market())
    assert (
        it
        >> post_chunked(CHAT)
        << deadline(IDLE_S)
        >> Later(10)
        >> RequestPart(first, ended=False)
        << deadline(patience_s)
        >> Later(20)
        >> RequestPart(last[:20], ended=False)
        << deadline(IDLE_S - 20 + 20 / BODY_RATE)
        >> whole(last[20:])
        << opens(ACME_1)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(end=body("m1"), without=b"chunked")
    )
    assert it.exchange.world.chat_bytes == len(ASKED)


def test_a_client_that_waits_is_told_to_go_on_by_us() -> None:
    assert (
        play(market())
        >> post(ASKED, "Expect: 100-continue")
        << deadline(IDLE_S)
        << HeadDown(100, b"HTTP/1.1 100 Continue\r\n\r\n")
        >> whole(ASKED)
        << opens(ACME_1)
        << ...
        >> opened()
        << ...
        << sends_up(without=b"Expect")
    )


def test_a_provider_that_speaks_openai_is_asked_for_usage_at_its_own_target() -> None:
    asked = body("closed-ai/gpt", stream=True)
    sent = body("gpt", stream=True, stream_options={"include_usage": True})
    assert (
        play(market())
        >> post(asked)
        << deadline(IDLE_S)
        >> whole(asked)
        << opens(CLOSED_AI)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(
            b"POST /v1/chat/completions?api=2 HTTP/1.1\r\nHost: 10.1.0.1:8000\r\n",
            b"Accept: text/event-stream\r\n",
            b"api-key: k\r\n",
            end=sent,
        )
    )


def test_only_loom_asks_for_a_stream_in_its_target() -> None:
    assert (
        play(market())
        >> post(ASKED, path=CHAT + "?stream=true")
        << ...
        >> whole(ASKED)
        << ...
        >> opened()
        << ...
        << sends_up(end=body("m1"))
    )


@pytest.mark.parametrize(
    ("target", "more", "streams"),
    [
        (LOOM, {}, False),
        (LOOM, {"stream": True}, True),
        (LOOM + "?stream=true", {}, True),
        (LOOM_STREAM, {}, True),
    ],
)
def test_loom_names_the_provider_beside_the_model(
    target: str, more: dict[str, bool], streams: bool
) -> None:
    asked = body(None, provider_id="acme", **more)
    sends = b'"model":"m1"'
    assert (
        play(market())
        >> post(asked, path=target)
        << deadline(IDLE_S)
        >> whole(asked)
        << opens(ACME_1)
        << ...
        >> opened()
        << ...
        << sends_up(
            b"POST /chat/completions ",
            sends,
            *([b'"stream":true'] if streams else []),
            without=b"provider_id",
        )
    )


@pytest.mark.parametrize(
    ("asked", "status", "code", "param", "says"),
    [
        (b"[]", 400, "invalid_request", b"null", b"not a JSON object"),
        (body("none/of-it"), 404, "model_not_found", b'"model"', b"GET /v1/models"),
        (body("acme/m3"), 404, "model_not_found", b'"model"', b"Did you mean acme/m"),
        (body("m2"), 400, "invalid_request", b'"model"', b"say which: acme/m2, closed-ai/m2."),
        (body("m9"), 503, "provider_unavailable", b"null", b"it crashed five times"),
        (body("away/any"), 503, "provider_unavailable", b"null", b"it crashed five times"),
        (body(None), 400, "invalid_request", b'"model"', b"`model` is missing"),
    ],
)
def test_who_asks_for_what_nobody_has_is_told_so(
    asked: bytes, status: int, code: str, param: bytes, says: bytes
) -> None:
    letters = {400: "LP", 404: "LP", 503: "RP"}[status]
    parts = [b'"code":"%b"' % code.encode(), b'"param":%b' % param, says, b'"request_id":"id-1"']
    parts += [b"Content-Type: application/json\r\n", b"Connection: keep-alive\r\n"]
    parts += [b"Retry-After: 1\r\n"] if status == 503 else []
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> post(asked)
        << deadline(IDLE_S)
        >> whole(asked)
        << head_down(status, *parts)
        << ...
        << finish(Fate.KEEP, letters, chat=None, attempts=0)
    )
    assert it.exchange.world.chat_bytes == 0


def test_what_is_no_post_is_told_what_is() -> None:
    assert (
        play(market())
        >> get(CHAT)
        << deadline(IDLE_S)
        << head_down(405, b"Allow: POST\r\n", b'"code":"method_not_allowed"', b"use POST")
        << deadline(SEND_S)
    )


def test_a_chat_without_a_body_says_nothing() -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> request("POST", CHAT, "Content-Length: 0")
        << deadline(IDLE_S)
        << head_down(400, b"not a JSON object")
        << ...
        << finish(Fate.KEEP, "LP", fault="chat_invalid")
    )


@pytest.mark.parametrize(
    ("lines", "status", "fault"),
    [
        ((f"Content-Length: {BODY_MAX + 1}",), 413, "body_too_large"),
        (("Content-Length: 9", "Content-Encoding: gzip"), 415, "coding_of_chat"),
    ],
)
def test_a_body_that_could_not_be_used_is_refused_before_it_comes(
    lines: tuple[str, ...], status: int, fault: str
) -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> request("POST", CHAT, *lines)
        << deadline(IDLE_S)
        << head_down(status, b'"code":"invalid_request"')
        << ...
        << finish(Fate.CLOSE, "LP", fault=fault)
    )


def test_a_body_that_grows_too_large_is_refused() -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> post_chunked(CHAT)
        << deadline(IDLE_S)
        >> RequestPart(b"x" * (BODY_MAX + 1), ended=False)
        << head_down(413, b'"code":"invalid_request"')
        << ...
        << finish(Fate.CLOSE, "LP", fault="body_too_large")
    )


def test_a_worker_without_room_for_a_body_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = market()
    world.chat_bytes = worlds.CHAT_BYTES_MAX - 5
    it = play(world)
    it.scribe.taken = True
    assert (
        it
        >> post(ASKED)
        << deadline(IDLE_S)
        >> RequestPart(ASKED[:6], ended=False)
        << head_down(503, b'"code":"provider_unavailable"', b"Retry-After: 1\r\n")
        << ...
        << finish(Fate.CLOSE, "RP", fault="body_unaffordable")
    )
    assert world.chat_bytes == worlds.CHAT_BYTES_MAX - 5


def test_a_body_that_stops_is_not_waited_for() -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> post(ASKED)
        << deadline(IDLE_S)
        >> Later(IDLE_S)
        >> DeadlineExpired()
        << head_down(408, b'"code":"invalid_request"')
        << ...
        << finish(Fate.CLOSE, "cP", fault="client_body_timeout")
    )


def test_a_body_that_trickles_is_not_waited_for() -> None:
    it = play(market())
    it.scribe.taken = True
    assert (
        it
        >> post(ASKED)
        << deadline(IDLE_S)
        >> RequestPart(b"{", ended=False)
        << deadline(IDLE_S)
        >> Later(30)
        >> RequestPart(b" ", ended=False)
        << deadline(IDLE_S - 30 + 1 / BODY_RATE)
        >> Later(IDLE_S - 30 + 1)
        >> DeadlineExpired()
        << head_down(408)
        << ...
        << finish(Fate.CLOSE, "cP", fault="client_body_slow")
    )


def test_any_speed_will_do_where_none_is_asked_for() -> None:
    it = play(market())
    assert it >> post(ASKED) << deadline(IDLE_S)
    it.exchange.timeouts = type(it.exchange.timeouts)(idle_s=9.0, body_bytes_min_per_s=0)
    assert it >> RequestPart(b"{", ended=False) << deadline(9.0)


def test_a_client_that_leaves_frees_what_was_kept() -> None:
    world = market()
    assert (
        play(world)
        >> post(ASKED)
        << deadline(IDLE_S)
        >> RequestPart(b"{", ended=False)
        << deadline(IDLE_S)
        >> DownstreamGone()
        << deadline(float("inf"))
        << finish(Fate.ABORT, "CP", fault="client_left", chat=None)
    )
    assert world.chat_bytes == 0


def test_a_body_that_cannot_be_read_is_refused_in_the_dialect() -> None:
    assert (
        play(market())
        >> post(ASKED)
        << deadline(IDLE_S)
        >> RequestBroken(REQUEST_MALFORMED)
        << head_down(400, b'{"error":{"message":', b'"code":"invalid_request"')
        << deadline(SEND_S)
    )


def test_the_snapshot_of_the_moment_decides() -> None:
    world = market()
    it = play(world)
    assert it >> post(ASKED) << deadline(IDLE_S)
    world.publish(snapshot(acme(endpoint("/run/acme-2")), CLOSED, AWAY, revision=2))
    assert it >> whole(ASKED) << opens("unix:/run/acme-2") << deadline(CONNECT_S)


def test_a_trace_goes_on() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert (
        play(market())
        >> post(ASKED, f"traceparent: {parent}", "tracestate: a=1")
        << ...
        >> whole(ASKED)
        << ...
        >> opened()
        << ...
        << sends_up(b"POST", b"\r\ntraceparent: %b\r\ntracestate: a=1\r\n" % parent.encode())
    )


def test_what_was_asked_is_in_the_log() -> None:
    it = asking(ASKED)
    assert it.exchange.outcome.pool == "plugin:acme"
    assert it.exchange.outcome.request_bytes == len(ASKED)

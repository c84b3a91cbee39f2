"""A provider's stream on its way down."""

import json

import pytest

from loomproxy.core.chat.events import EVENT_BYTES_MAX
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamGone,
    DrainExpired,
    UpstreamGone,
)
from loomproxy.core.exchange.chat_answering import (
    AFTER_DONE_S,
)
from loomproxy.core.fault import UPSTREAM_CUT
from loomproxy.core.outcome import Spent
from tests.commands import Fate, SendDown
from tests.core.exchange.chats import (
    ACME_1,
    ACME_2,
    CHUNK_S,
    CLOSED_AI,
    CONNECT_S,
    COUNTED,
    DONE,
    FIRST_BYTE_S,
    GIVEN_BACK,
    HI,
    LAST_CHUNK,
    LET_GO,
    LOOM,
    STREAMED,
    TRANSIENT,
    acme,
    answer,
    asking,
    body,
    completion,
    endpoint,
    event,
    framed,
    market,
    part,
    post,
    stream_head,
    streaming,
    taken,
    whole,
)
from tests.core.exchange.scenery import IDLE_S, NEVER_FROM_NOW, play, response
from tests.playbook import (
    Later,
    Play,
    deadline,
    finish,
    head_down,
    opened,
    opens,
    sends_up,
)

# --- streams --------------------------------------------------------------------------------------


def test_a_stream_passes_event_by_event() -> None:
    spent = Spent("acme", "m1", 7, 1, "provider", stream=True)
    it = taken(streaming(STREAMED))
    assert (
        it
        >> part(b": well\n\n" + HI + COUNTED[:5])
        << deadline(CHUNK_S)
        << head_down(
            200,
            b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n",
            b"X-Accel-Buffering: no\r\n",
            b"X-Request-ID: id-1\r\n",
            b"\r\nTransfer-Encoding: chunked\r\n",
            end=b"\r\nVia: 1.1 loomproxy\r\n\r\n",
        )
        << SendDown(framed(b": well\n\n" + HI))
        >> Later(1)
        >> part(COUNTED[5:])
        << deadline(CHUNK_S)
        << SendDown(framed(COUNTED))
        >> part(DONE)
        << deadline(CHUNK_S)
        << SendDown(framed(DONE))
        << deadline(AFTER_DONE_S)
        >> part(b"", ended=True)
        << LAST_CHUNK
        << GIVEN_BACK
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, "--", chat=spent, status=200)
    )
    assert it.exchange.world.chat_bytes == 0


def head_of_stream() -> object:
    return head_down(200, b"text/event-stream")


def test_tokens_that_nobody_counted_are_estimated() -> None:
    spent = Spent("acme", "m1", len(body("m1", stream=True)) // 4, 2, "estimated", stream=True)
    assert (
        taken(streaming(STREAMED))
        >> part(HI + HI + DONE, ended=True)
        << deadline(CHUNK_S)
        << head_of_stream()
        << SendDown(framed(HI + HI + DONE))
        << LAST_CHUNK
        << GIVEN_BACK
        << ...
        << finish(Fate.KEEP, chat=spent)
    )


def test_a_stream_that_arrives_at_once_is_one_still() -> None:
    head = response(200, "Content-Type: text/event-stream", f"Content-Length: {len(HI + DONE)}")
    it = taken(asking(STREAMED))
    assert (
        it
        >> type(answer(b" "))(head, HI + DONE)
        << head_of_stream()
        << SendDown(framed(HI + DONE))
        << LAST_CHUNK
        << GIVEN_BACK
        << ...
        << finish(Fate.KEEP, "--")
    )


def test_usage_that_only_we_asked_for_stays_here() -> None:
    spent = Spent("closed-ai", "gpt", 7, 1, "provider", stream=True)
    assert (
        taken(streaming(body("gpt", stream=True), to=CLOSED_AI))
        >> part(HI + COUNTED + DONE, ended=True)
        << deadline(CHUNK_S)
        << head_of_stream()
        << SendDown(framed(HI + DONE))
        << LAST_CHUNK
        << ...
        << finish(Fate.KEEP, chat=spent)
    )


def test_an_old_client_gets_its_stream_without_chunks() -> None:
    it = asking(STREAMED, None, version="1.0")
    assert (
        taken(it)
        >> stream_head()
        << deadline(CHUNK_S)
        >> part(HI + DONE, ended=True)
        << deadline(CHUNK_S)
        << head_down(200, b"Connection: close\r\n", without=b"chunked")
        << SendDown(HI + DONE)
        << GIVEN_BACK
        << ...
        << finish(Fate.CLOSE, "--")
    )


def test_a_stream_for_loom_has_names() -> None:
    asked = body(None, provider_id="acme", stream=True)
    said = HI[len(b"data: ") :]
    assert (
        taken(streaming(asked, None, path=LOOM))
        >> part(HI)
        << deadline(CHUNK_S)
        << head_of_stream()
        << SendDown(
            framed(
                b'event: connected\ndata: {"message":"The provider answers."}\n\n'
                b"event: chunk\ndata: " + said
            )
        )
        >> part(DONE, ended=True)
        << deadline(CHUNK_S)
        << SendDown(
            framed(b'event: done\ndata: {"message":"The answer is complete."}\n\ndata: [DONE]\n\n')
        )
        << LAST_CHUNK
        << ...
        << finish(Fate.KEEP, "--")
    )


def truncation(data: bytes) -> bytes:
    """The last event of a truncated stream."""
    return framed(data)


@pytest.mark.parametrize("how", ["cut", "ended"])
def test_a_stream_without_its_end_is_told_and_never_completed(how: str) -> None:
    it = taken(streaming(STREAMED))
    assert it >> part(HI) << ... << SendDown(framed(HI))
    last = framed(
        b'data: {"error":{"message":"The provider\'s answer ended before it was complete.",'
        b'"type":"api_error","param":null,"code":"stream_truncated","request_id":"id-1"}}\n\n'
    )
    (it >> UpstreamGone(UPSTREAM_CUT)) if how == "cut" else (
        it >> part(b"", ended=True) << deadline(CHUNK_S)
    )
    assert (
        it
        << LET_GO
        << SendDown(last)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "UD", fault="stream_truncated", status=200)
    )


def test_a_stream_that_stops_is_told_to_have() -> None:
    it = taken(streaming(STREAMED))
    assert it >> part(HI) << ... << SendDown(framed(HI))
    it >> Later(CHUNK_S) >> DeadlineExpired() << LET_GO << ...
    assert it << finish(Fate.CLOSE, "uD", fault="upstream_stalled", status=200)
    assert b'"code":"timeout"' in _said(it)


def _said(it: Play) -> bytes:
    """The lines of a play as it was written down, for what it said last."""
    return "".join(it._so_far[-4:]).encode()


def test_an_event_that_is_no_json_ends_the_stream() -> None:
    it = taken(streaming(STREAMED))
    assert (
        it
        >> part(HI + b"data: {oops\n\n" + HI)
        << deadline(CHUNK_S)
        << head_of_stream()
        << SendDown(framed(HI))
        << LET_GO
        << ...
        << finish(Fate.CLOSE, "UD", fault="upstream_malformed", status=200)
    )


def test_an_error_in_a_stream_is_told_in_the_dialect() -> None:
    error = event(error={"code": "timeout", "message": "Too slow."})
    it = taken(streaming(STREAMED))
    endpoint = it.exchange.endpoint
    assert (
        it
        >> part(HI + error)
        << deadline(CHUNK_S)
        << head_of_stream()
        << SendDown(framed(HI))
        << LET_GO
        << SendDown(
            framed(
                b'data: {"error":{"message":"Too slow.","type":"api_error","param":null,'
                b'"code":"timeout","request_id":"id-1"}}\n\n'
            )
        )
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "UD", fault="provider_error", status=200)
    )
    assert not endpoint.failed


def test_a_stream_that_fails_before_it_began_is_an_answer_with_a_status() -> None:
    error = event(error={"code": "quota_exceeded", "message": "Pay."})
    assert (
        taken(streaming(STREAMED))
        >> part(error)
        << deadline(CHUNK_S)
        << LET_GO
        << head_down(429, b'"type":"insufficient_quota"')
        << ...
        << finish(Fate.KEEP, "UD", fault="provider_error", status=429)
    )


def test_a_transient_error_before_a_stream_began_is_asked_about_once_more() -> None:
    error = event(error=json.loads(TRANSIENT))
    world = market(acme(endpoint("/run/acme-1"), endpoint("/run/acme-2")))
    it = taken(streaming(STREAMED, world))
    assert (
        it
        >> part(error)
        << deadline(CHUNK_S)
        << LET_GO
        << opens(ACME_2)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(b"POST ", end=body("m1", stream=True))
        >> stream_head()
        << deadline(CHUNK_S)
        >> part(error)
        << deadline(CHUNK_S)
        << LET_GO
        << head_down(503, b"Soon.")
        << ...
        << finish(
            Fate.KEEP,
            "UD",
            fault="provider_error",
            attempts=2,
            chat=Spent(
                "acme", "m1", 0, 0, "none", stream=True, provider_error="provider_unavailable"
            ),
        )
    )


def test_a_transient_error_in_a_stream_that_began_is_its_end() -> None:
    it = taken(streaming(STREAMED))
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert (
        it
        >> part(event(error=json.loads(TRANSIENT)))
        << deadline(CHUNK_S)
        << LET_GO
        << ...
        << finish(Fate.CLOSE, "UD", fault="provider_error", attempts=1)
    )


def test_a_stream_that_is_compressed_is_no_answer() -> None:
    fields = ("Content-Type: text/event-stream", "Content-Encoding: gzip")
    head = response(200, *fields, "Transfer-Encoding: chunked", to="POST")
    assert (
        taken(asking(STREAMED))
        >> head
        << deadline(CHUNK_S)
        >> part(b"\x1f\x8b\n\n\n", ended=True)
        << ...
        << head_down(502, b'"code":"internal_error"')
        << ...
        << finish(Fate.KEEP, "UD", fault="upstream_malformed")
    )


def test_a_stream_that_stops_before_it_began_is_a_504() -> None:
    assert (
        taken(streaming(STREAMED))
        >> Later(CHUNK_S)
        >> DeadlineExpired()
        << LET_GO
        << head_down(504, b'"code":"timeout"')
        << ...
        << finish(Fate.KEEP, "uD", fault="upstream_timeout")
    )


def test_a_client_that_leaves_cancels_at_the_provider() -> None:
    spent = Spent("acme", "m1", len(body("m1", stream=True)) // 4, 1, "estimated", stream=True)
    it = streaming(STREAMED)
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert (
        it
        >> DownstreamGone()
        << LET_GO
        << ...
        << finish(Fate.ABORT, "CD", fault="client_left", chat=spent)
    )


def test_a_drain_that_is_over_cuts_a_stream() -> None:
    it = streaming(STREAMED)
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert it >> DrainExpired() << LET_GO << ... << finish(Fate.ABORT, "lD")


def test_a_stream_under_a_drain_is_the_last_of_its_connection() -> None:
    it = streaming(STREAMED)
    it.exchange.world.draining = True
    assert it >> part(HI) << ... << head_down(200, b"Connection: close\r\n") << ...


# --- a provider that has no streams ---------------------------------------------------------------


def test_a_provider_without_streams_is_asked_for_a_whole_and_that_is_streamed() -> None:
    world = market(acme(streaming=False))
    asked = body(stream=True, stream_options={"include_usage": True})
    sent = body("m1", stream=False)
    chunk = (
        b'data: {"id":"c-1","object":"chat.completion.chunk","created":5,"model":"m1","choices":'
        b'[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
    )
    it = taken(play(world))
    assert (
        it
        >> post(asked)
        << deadline(IDLE_S)
        >> whole(asked)
        << opens(ACME_1)
        << ...
        >> opened()
        << ...
        << sends_up(b"POST", b"Accept: application/json\r\n", end=sent)
        >> answer(completion())
        << GIVEN_BACK
        << head_down(
            200,
            b"Content-Type: text/event-stream\r\n",
            b"Cache-Control: no-cache\r\n",
            end=b"\r\n\r\n" + chunk + DONE,
        )
        << ...
        << finish(Fate.KEEP, chat=Spent("acme", "m1", 3, 2, "provider", stream=True))
    )


def test_a_whole_that_is_larger_than_any_event_is_streamed_still() -> None:
    text = "x" * (EVENT_BYTES_MAX + 1)
    message = {"role": "assistant", "content": text}
    said = completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    it = taken(asking(body(stream=True), market(acme(streaming=False))))
    assert (
        it
        >> answer(said)
        << GIVEN_BACK
        << head_down(200, text.encode(), end=DONE)
        << ...
        << finish(Fate.KEEP, chat=Spent("acme", "m1", 3, 2, "provider", stream=True))
    )


def test_a_whole_without_choices_makes_no_stream() -> None:
    it = taken(asking(STREAMED, market(acme(streaming=False))))
    assert (
        it
        >> answer(b'{"id":"c-1"}')
        << LET_GO
        << head_down(502, b'"code":"internal_error"')
        << ...
        << finish(Fate.KEEP, "UH", fault="upstream_malformed")
    )

"""A provider's answer on its way down."""

import json

import pytest

from loomproxy.core import world as worlds
from loomproxy.core.event import (
    DeadlineExpired,
    UpstreamGone,
)
from loomproxy.core.exchange.chat_answering import (
    ANSWER_BYTES_MAX,
    ERROR_BYTES_MAX,
)
from loomproxy.core.fault import UPSTREAM_CLOSED, UPSTREAM_CUT
from loomproxy.core.outcome import Spent
from tests.commands import Fate
from tests.core.exchange.chats import (
    ACME_1,
    ACME_2,
    ASKED,
    CHUNK_S,
    CLOSED_AI,
    CONNECT_S,
    FIRST_BYTE_S,
    GIVEN_BACK,
    LET_GO,
    LOOM,
    TRANSIENT,
    acme,
    answer,
    asking,
    body,
    completion,
    endpoint,
    market,
    part,
    taken,
)
from tests.core.exchange.scenery import SEND_S, response
from tests.playbook import (
    Later,
    deadline,
    finish,
    head_down,
    opened,
    opens,
    sends_up,
)

# --- whole answers --------------------------------------------------------------------------------


def test_an_answer_goes_on_as_it_came_when_it_is_whole() -> None:
    said = completion(system_fingerprint="fp", odd={"a": [1.50, "\u00e9"]})
    spent = Spent("acme", "m1", 3, 2, "provider", stream=False)
    assert (
        taken(asking(ASKED))
        >> Later(1)
        >> answer(said, 200, "X-Secret-Of-Guest: 1", "Set-Cookie: a=b")
        << GIVEN_BACK
        << head_down(
            200,
            b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(said),
            b"X-Request-ID: id-1\r\n",
            end=b"\r\n\r\n" + said,
            without=b"Set-Cookie",
        )
        << ...
        << finish(Fate.KEEP, "--", status=200, attempts=1, chat=spent, fault="")
    )


def test_an_answer_in_parts_is_kept_until_it_is_whole() -> None:
    said = completion(usage=None)
    head = response(201, "Transfer-Encoding: chunked", to="POST")
    spent = Spent("acme", "m1", len(body("m1")) // 4, len(said) // 4, "estimated", stream=False)
    it = taken(asking(ASKED))
    assert (
        it
        >> head
        << deadline(CHUNK_S)
        >> Later(3)
        >> part(said[:9])
        << deadline(CHUNK_S)
        >> part(said[9:], ended=True)
        << deadline(CHUNK_S)
        << GIVEN_BACK
        << head_down(200, end=said)
        << ...
        << finish(Fate.KEEP, chat=spent)
    )
    assert it.exchange.world.chat_bytes == 0


def test_what_is_no_completion_is_no_answer() -> None:
    assert (
        taken(asking(ASKED))
        >> answer(b"<html>")
        << LET_GO
        << head_down(502, b'"code":"internal_error"')
        << ...
        << finish(Fate.KEEP, "UH", fault="upstream_malformed")
    )


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"code": "rate_limit_exceeded", "message": "Slow."}, 429, "rate_limit_exceeded"),
        ({"message": "Broken.", "type": "server_error"}, 502, "internal_error"),
        ("Broken.", 502, "internal_error"),
    ],
)
def test_a_success_that_only_tells_an_error_is_none(error: object, status: int, code: str) -> None:
    said = json.dumps({"error": error, "id": "c-1"}).encode()
    assert (
        taken(asking(ASKED))
        >> answer(said)
        << LET_GO
        << head_down(status, b"Slow." if status == 429 else b"Broken.")
        << ...
        << finish(
            Fate.KEEP,
            "UH",
            status=status,
            fault="provider_error",
            chat=Spent("acme", "m1", 0, 0, "none", stream=False, provider_error=code),
        )
    )


@pytest.mark.parametrize("more", [{"error": None}, {"error": "x", "choices": []}])
def test_an_answer_with_choices_is_one_whatever_else_it_says(more: dict[str, object]) -> None:
    said = completion(**more)
    assert taken(asking(ASKED)) >> answer(said) << GIVEN_BACK << head_down(200, end=said) << ...


def test_an_answer_without_a_body_is_none() -> None:
    assert (
        taken(asking(ASKED))
        >> response(204, to="POST")
        << LET_GO
        << head_down(502)
        << ...
        << finish(Fate.KEEP, "UH", fault="upstream_malformed")
    )


def test_an_answer_without_end_is_given_up() -> None:
    it = taken(asking(ASKED))
    assert it >> response(200, "Transfer-Encoding: chunked", to="POST") << deadline(CHUNK_S)
    assert it >> part(b" " * ANSWER_BYTES_MAX) << deadline(CHUNK_S)
    assert (
        it
        >> part(b" ")
        << deadline(CHUNK_S)
        << LET_GO
        << head_down(502)
        << ...
        << finish(Fate.KEEP, "UD", fault="upstream_malformed")
    )


def test_a_worker_without_room_for_an_answer_says_so() -> None:
    it = taken(asking(ASKED))
    it.exchange.world.chat_bytes = worlds.CHAT_BYTES_MAX
    assert (
        it
        >> answer(completion())
        << LET_GO
        << head_down(503, b"Retry-After: 1\r\n")
        << ...
        << finish(Fate.KEEP, "RH", fault="body_unaffordable")
    )


def test_an_answer_that_is_cut_is_none() -> None:
    it = taken(asking(ASKED))
    assert it >> response(200, "Content-Length: 99", to="POST") << deadline(CHUNK_S)
    assert it >> part(b'{"id":') << deadline(CHUNK_S)
    assert (
        it
        >> UpstreamGone(UPSTREAM_CUT)
        << LET_GO
        << head_down(502, b'"code":"stream_truncated"')
        << ...
        << finish(Fate.KEEP, "UD", fault="stream_truncated")
    )


def test_a_provider_that_stops_in_its_answer_is_not_waited_for() -> None:
    it = taken(asking(ASKED))
    assert it >> response(200, "Content-Length: 99", to="POST") << deadline(CHUNK_S)
    assert (
        it
        >> Later(CHUNK_S)
        >> DeadlineExpired()
        << LET_GO
        << head_down(504, b'"code":"timeout"')
        << ...
        << finish(Fate.KEEP, "uD", fault="upstream_timeout")
    )


def test_a_provider_that_says_nothing_is_not_waited_for() -> None:
    assert (
        taken(asking(ASKED))
        >> Later(FIRST_BYTE_S)
        >> DeadlineExpired()
        << LET_GO
        << head_down(504, b'"code":"timeout"')
        << ...
        << finish(Fate.KEEP, "uH", fault="upstream_timeout")
    )


def test_a_provider_that_leaves_without_a_word_is_told_of() -> None:
    assert (
        taken(asking(ASKED))
        >> UpstreamGone(UPSTREAM_CLOSED)
        << LET_GO
        << head_down(502, b'"code":"internal_error"')
        << ...
        << finish(Fate.KEEP, "UH", fault="upstream_closed")
    )


def test_what_a_provider_says_before_its_answer_stays_here() -> None:
    it = asking(ASKED)
    assert it >> response(100, to="POST") >> response(103, "Link: </a>", to="POST")
    assert it >> answer(completion()) << GIVEN_BACK << head_down(200) << deadline(SEND_S)


@pytest.mark.parametrize("status", [101, 103])
def test_a_provider_that_only_talks_is_given_up(status: int) -> None:
    it = asking(ASKED)
    it.exchange.interims = 0 if status == 101 else 16
    line = ("Connection: upgrade\r\nUpgrade: chat",) if status == 101 else ()
    assert it >> response(status, *line, to="POST") << LET_GO << head_down(502) << deadline(SEND_S)


# --- errors ---------------------------------------------------------------------------------------


def test_a_provider_s_error_is_told_in_the_dialect() -> None:
    code = "rate_limit_exceeded"
    said = {"code": code, "message": "Slower.", "details": {"retry_after": 2.5}}
    spent = Spent("acme", "m1", 0, 0, "none", stream=False, provider_error=code)
    assert (
        taken(asking(ASKED))
        >> answer(json.dumps(said).encode(), 400)
        << GIVEN_BACK
        << head_down(
            429,
            b"Retry-After: 3\r\n",
            b'{"error":{"message":"Slower.","type":"rate_limit_error","param":null,'
            b'"code":"rate_limit_exceeded","request_id":"id-1"}}',
        )
        << ...
        << finish(Fate.KEEP, "--", fault="", chat=spent)
    )


def test_the_same_in_loom_s() -> None:
    asked = body("m1", provider_id="acme")
    said = b'{"code":"content_filter","message":"No."}'
    assert (
        asking(asked, None, path=LOOM)
        >> answer(said, 500)
        << GIVEN_BACK
        << head_down(400, end=b'{"error":"No.","code":"content_filter","request_id":"id-1"}')
        << deadline(SEND_S)
    )


def test_an_error_in_the_openai_dialect_passes_as_it_came() -> None:
    said = b'{"error": {"message": "Bad.", "type": "x", "param": "n", "code": "bad_n"}}'
    assert (
        asking(body("gpt"), to=CLOSED_AI)
        >> answer(said, 422, "Retry-After: 7")
        << GIVEN_BACK
        << head_down(422, b"Retry-After: 7\r\n", end=said)
        << deadline(SEND_S)
    )


def test_an_error_that_never_ends_is_read_as_far_as_it_may_be() -> None:
    it = asking(ASKED)
    assert it >> response(500, "Transfer-Encoding: chunked", to="POST") << deadline(CHUNK_S)
    assert it >> part(b"x" * ERROR_BYTES_MAX) << deadline(CHUNK_S)
    assert (
        it
        >> part(b"x")
        << deadline(CHUNK_S)
        << LET_GO
        << head_down(502, b"answered with status 500", b"xxx", b'"code":"internal_error"')
        << deadline(SEND_S)
    )


def test_a_transient_error_is_asked_about_once_more_elsewhere() -> None:
    world = market(acme(endpoint("/run/acme-1"), endpoint("/run/acme-2")))
    it = asking(ASKED, world)
    assert (
        it
        >> answer(TRANSIENT, 503)
        << GIVEN_BACK
        << opens(ACME_2)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(b"POST ", end=body("m1"))
        >> answer(TRANSIENT, 503)
        << GIVEN_BACK
        << head_down(503, b"Soon.")
        << deadline(SEND_S)
    )
    assert it.exchange.outcome.attempts == 2


def test_an_error_of_an_earlier_attempt_is_forgotten() -> None:
    assert (
        asking(ASKED)
        >> answer(TRANSIENT, 503)
        << GIVEN_BACK
        << opens(ACME_1)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(b"POST ")
        >> answer(completion())
        << GIVEN_BACK
        << head_down(200, end=completion())
        << deadline(SEND_S)
    )


def test_no_budget_no_second_attempt() -> None:
    world = market(retry_budget_ratio=0.0, retries_min_per_s=0.0)
    assert (
        asking(ASKED, world)
        >> answer(TRANSIENT, 503)
        << GIVEN_BACK
        << head_down(503, b"Soon.")
        << deadline(SEND_S)
    )

"""What a body must be: each rule is broken once, and says what was seen and what was expected."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from loomproxy.plugins.conformance import shapes
from loomproxy.plugins.conformance.verdict import DETAIL_CHARS_MAX, Unmet, cut
from loomproxy.plugins.conformance.wire import Answer, Events
from loomproxy.plugins.contract import Usage

GOOD = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "model-1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def said(body: object, status: int = 200) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer("GET /x", status, {}, data)


def choice(**changed: Any) -> dict[str, Any]:
    return {**GOOD, "choices": [{**GOOD["choices"][0], **changed}]}  # type: ignore[index] # see GOOD


@pytest.mark.parametrize(
    ("read", "body", "words"),
    [
        (shapes.chat_response, {**GOOD, "choices": []}, "no choices"),
        (shapes.chat_response, choice(message={"role": "user"}), "by 'user'"),
        (shapes.chat_response, choice(finish_reason=None), "without finish_reason"),
        (shapes.chat_response, {**GOOD, "created": "now"}, r"\$.created"),
        (shapes.chat_response, {**GOOD, "object": "list"}, r"\$.object"),
        (shapes.chat_response, b"hello", "Send JSON"),
        (shapes.chat_response, b"[" * 5000, "Mend the body"),
        (shapes.chat_response, b"\xff", "expected: a ChatResponse"),
        (shapes.models, {"data": []}, "bare array"),
        (shapes.models, [], "an empty array"),
        (shapes.models, [{"id": "a"}, {"id": "a"}], "stands here again"),
        (shapes.models, [{"name": "A"}], "it is missing"),
        (shapes.models, [{"id": ""}], "models"),
        (shapes.health, {"status": "ok"}, "healthy"),
        (shapes.health, b"OK", "no JSON"),
    ],
)
def test_a_body_that_is_not_what_it_must_be(
    read: Callable[[Answer], object], body: object, words: str
) -> None:
    with pytest.raises(Unmet, match=words) as unmet:
        read(said(body))
    assert str(unmet.value).startswith("seen: ")
    assert "\nexpected: " in str(unmet.value)


def test_a_failure_is_no_body_whatever_it_holds() -> None:
    for read in (shapes.chat_response, shapes.models, shapes.health):
        for answer in (said(GOOD, 500), Answer("GET /x", trouble="no connection")):
            with pytest.raises(Unmet, match="expected: 2"):
                read(answer)


def test_usage_must_be_there_and_add_up() -> None:
    shapes.usage(Usage(1, 2, 3), "the answer")
    with pytest.raises(Unmet, match="without usage"):
        shapes.usage(None, "the answer")
    with pytest.raises(Unmet, match=r"1 \+ 2 = 7"):
        shapes.usage(Usage(1, 2, 7), "the answer")


def test_events_are_found_wherever_their_bytes_are_cut() -> None:
    text = b"data: one\n\n: a comment\n\ndata: two\r\ndata: more\r\n\r\n"
    text += b"event: x\ndata:three\n\ndata: cut"
    for size in (1, 2, 3, 7, len(text)):
        reader = Events()
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert [data for part in parts for data in reader.feed(part)] == [
            "one",
            "two\nmore",
            "three",
        ]


def test_what_is_shown_steers_no_terminal_and_has_an_end() -> None:
    assert cut("a\x1b[31mb\nc") == "a�[31mb\nc"
    assert len(cut("x" * 100_000)) < DETAIL_CHARS_MAX + 50

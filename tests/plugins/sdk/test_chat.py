"""What handlers yield and return, as chunks, and chunks as one answer."""

from typing import Any

import pytest

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk.chat import Chunks
from tests.plugins.sdk.shipped import completion


def chunks_of(*pieces: Any) -> list[dict[str, Any]]:
    """The chunks that such pieces make, the last ones included."""
    made = Chunks("m")
    taken = [chunk for piece in pieces for chunk in made.take(piece)]
    return [*taken, *made.end()]


def test_several_answers_grow_side_by_side_and_the_usage_is_with_the_last() -> None:
    chunks = chunks_of(
        sdk.Delta("a", index=1),
        "b",
        sdk.Usage(1, 2, cost_usd=0.5),
        sdk.Delta("c", index=1, finish_reason="length"),
    )
    assert ["usage" in chunk for chunk in chunks] == [False, False, False, False, True]
    whole = completion(chunks)
    assert whole["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "cost_usd": 0.5,
    }
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"])
        for choice in whole["choices"]
    ] == [(0, "b", "stop"), (1, "ac", "length")]


def test_calls_of_tools_are_joined_by_their_index() -> None:
    def piece(index: int, **words: Any) -> sdk.Delta:
        return sdk.Delta(tool_calls=[{"index": index, **words}])

    whole = completion(
        chunks_of(
            piece(1, id="t1", type="function", function={"name": "g", "arguments": ""}),
            piece(0, id="t0", type="function", function={"name": "f", "arguments": '{"a"'}),
            piece(1, function={"arguments": "{}"}),
            piece(0, function={"arguments": ": 1}"}),
        )
    )
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "t1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_chunks_of_an_upstream_that_speaks_the_dialect_keep_what_they_say() -> None:
    head = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "real"}
    chunks = chunks_of(
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {**head, "choices": [{"index": 0, "delta": {"content": "x", "refusal": "r"}}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
        {**head, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "k": 1}},
    )
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("up-1", 7, "real")
    }
    assert chunks[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 1, "k": 1}
    (choice,) = completion(chunks)["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"] == {"role": "assistant", "content": "x", "refusal": "r"}


def test_what_is_null_or_empty_in_a_later_piece_takes_nothing_back() -> None:
    def piece(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta}]}

    def call(**words: Any) -> dict[str, Any]:
        return piece(content=None, tool_calls=[{"index": 0, **words}])

    whole = completion(
        chunks_of(
            piece(role="assistant", content="", reasoning_content="Hm", refusal=None),
            piece(content=None, reasoning_content="."),
            piece(content="Yes", reasoning_content=None),
            call(id="t", type="function", function={"name": "f", "arguments": "{"}),
            call(id="", type=None, function={"name": None, "arguments": "}"}),
            call(id=None, function={"name": "", "arguments": None}),
        )
    )
    (choice,) = whole["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Yes",
        "reasoning_content": "Hm.",
        "refusal": None,
        "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_a_whole_answer_with_calls_of_tools_is_taken_apart_and_joined_again() -> None:
    call = {"id": "t0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    reply = sdk.Reply(tool_calls=[call], usage=sdk.Usage(1, 2), more={"reasoning_content": "Hm."})
    chunks = chunks_of(reply)
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **call}]
    (choice,) = completion(chunks)["choices"]
    assert choice["message"]["tool_calls"] == [call]
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["finish_reason"] == "tool_calls"


def test_a_handler_that_says_nothing_has_given_an_empty_answer() -> None:
    whole = completion(chunks_of())
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert "usage" not in whole


def test_what_is_no_piece_is_a_mistake_of_the_author() -> None:
    with pytest.raises(TypeError, match="gave a int"):
        chunks_of(3)

"""What is read of a completion on its way."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.chat import completion
from loomproxy.core.chat.completion import Usage


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b"{", b"\xff", b"[" * 99_999])
def test_only_an_object_is_an_answer(body: bytes) -> None:
    assert completion.read(body) is None
    assert completion.read_chunk(body) is None


def test_an_answer_may_say_anything() -> None:
    whole = completion.read(b'{"odd": [1], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
    assert whole is not None
    assert completion.usage_of(whole.usage) == Usage(1, 2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"prompt_tokens":-1,"completion_tokens":1}',
        b'{"prompt_tokens":1,"completion_tokens":1000000000000000000000000}',
    ],
)
def test_usage_that_tells_nothing_is_none(raw: bytes) -> None:
    assert completion.usage_of(msgspec.Raw(raw)) is None


@pytest.mark.parametrize(
    ("data", "choices", "error"),
    [
        (b"{}", False, False),
        (b'{"choices":[],"error":null}', False, False),
        (b'{"choices": [ ] }', False, False),
        (b'{"choices":null}', False, False),
        (b'{"choices":[{}]}', True, False),
        (b'{"error":"x"}', False, True),
    ],
)
def test_what_a_chunk_says(data: bytes, choices: bool, error: bool) -> None:
    chunk = completion.read_chunk(data)
    assert chunk is not None
    assert (chunk.has_choices, chunk.has_error) == (choices, error)


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        (b"{}", False),
        (b'{"error":null}', False),
        (b'{"error":"x"}', True),
        (b'{"error":"x","choices":[]}', False),
    ],
)
def test_what_only_tells_an_error(body: bytes, is_error: bool) -> None:
    whole = completion.read(body)
    assert whole is not None
    assert whole.is_error is is_error


def test_tokens_are_estimated_where_nobody_counts() -> None:
    assert completion.estimate(0) == 1
    assert completion.estimate(400) == 100


def as_chunk(whole: object) -> object:
    read = completion.read(json.dumps(whole).encode())
    assert read is not None
    said = completion.as_chunk(read)
    return None if said is None else json.loads(said)


def test_an_answer_as_the_one_chunk_of_a_stream() -> None:
    calls = [{"id": "a", "function": {"name": "f"}}, {"id": "b", "index": 7}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    said = as_chunk({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})
    numbered = [{"index": 0, **calls[0]}, {"id": "b", "index": 7}]
    assert said == {
        "id": None,
        "object": "chat.completion.chunk",
        "created": None,
        "model": None,
        "choices": [
            {"index": 0, "delta": {**message, "tool_calls": numbered}, "finish_reason": "stop"}
        ],
        "usage": usage,
    }


def test_an_answer_without_calls_or_usage() -> None:
    said = as_chunk(
        {"id": "c", "choices": [{"index": 1, "message": {"tool_calls": None}}], "usage": None}
    )
    assert isinstance(said, dict)
    assert "usage" not in said
    assert said["choices"] == [{"index": 1, "delta": {"tool_calls": None}, "finish_reason": None}]


def test_an_answer_on_many_lines_makes_a_chunk_on_one() -> None:
    whole = {"choices": [{"message": {"content": "a\nb", "more": {"x": [1, 2.50]}}}], "usage": {}}
    read = completion.read(json.dumps(whole, indent=2).replace("\n", "\r\n").encode())
    assert read is not None
    said = completion.as_chunk(read)
    assert said is not None
    assert not set(b"\r\n") & set(said)
    assert json.loads(said)["choices"][0]["delta"] == whole["choices"][0]["message"]


@pytest.mark.parametrize(
    "whole", [{}, {"choices": 1}, {"choices": [{"message": {"tool_calls": 1}}]}]
)
def test_an_answer_that_is_none_makes_no_chunk(whole: object) -> None:
    assert as_chunk(whole) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_not(data: bytes) -> None:
    whole = completion.read(data)
    if whole is not None:
        completion.as_chunk(whole)
    completion.read_chunk(data)
    completion.usage_of(msgspec.Raw(data))

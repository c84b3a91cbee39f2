"""A stream on its way from a provider to a client."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.chat.completion import Usage
from loomproxy.core.chat.dialect import LOOM, OPENAI, Dialect
from loomproxy.core.chat.events import EVENT_BYTES_MAX
from loomproxy.core.chat.stream import Stream

CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
NULL_USAGE = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"code":"timeout","message":"Slow."}}\n\n'


def stream(dialect: Dialect = OPENAI, *, strips_usage: bool = False) -> Stream:
    return Stream(dialect, strips_usage=strips_usage)


def test_what_comes_goes_on_and_is_counted() -> None:
    one = stream()
    assert one.take(b": hi\n\n" + CHUNK + CHUNK[:9], ended=False) == b": hi\n\n" + CHUNK
    assert one.take(CHUNK[9:] + USAGE, ended=False) == CHUNK + USAGE
    assert (one.done, one.complaint, one.chunks, one.usage) == (False, None, 2, Usage(3, 1))
    assert one.take(DONE, ended=False) == DONE
    assert one.done
    assert one.take(b"rubbish", ended=True) == b""
    assert one.complaint is None


def test_the_end_is_the_last_that_goes_on() -> None:
    one = stream()
    assert one.take(CHUNK + DONE + CHUNK + ERROR, ended=False) == CHUNK + DONE
    assert one.done
    assert one.complaint is None


def test_usage_that_only_we_asked_for_stays_and_nothing_else() -> None:
    one = stream(strips_usage=True)
    assert one.take(NULL_USAGE + CHUNK + USAGE + DONE, ended=True) == NULL_USAGE + CHUNK + DONE
    assert one.usage == Usage(3, 1)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (b"", "stream_truncated"),
        (b"data: {\n\n", "internal_error"),
        (b"data: 1\n\n", "internal_error"),
        (ERROR, "timeout"),
        (b"data: " + b"x" * EVENT_BYTES_MAX, "internal_error"),
    ],
)
def test_a_stream_that_breaks_is_never_done(last: bytes, code: str) -> None:
    one = stream()
    assert one.take(CHUNK + last, ended=True) == CHUNK
    assert not one.done
    assert one.complaint is not None
    assert one.complaint.code == code
    assert one.take(DONE, ended=True) == b""
    assert not one.done


def test_a_dialect_has_its_own_words() -> None:
    one = stream(LOOM)
    assert one.take(CHUNK[:5], ended=False) == b""
    first = one.take(CHUNK[5:], ended=False)
    assert first.startswith(b"event: connected\n")
    assert first.endswith(b"event: chunk\n" + CHUNK)
    assert one.take(CHUNK, ended=False) == b"event: chunk\n" + CHUNK
    assert one.take(DONE, ended=True).endswith(b"data: [DONE]\n\n")


PIECES = st.lists(
    st.sampled_from(
        [CHUNK, USAGE, DONE, ERROR, NULL_USAGE, b": c\r\n\r\n", b"data: x\n\n", b"data:", b"\r"]
    ),
    max_size=6,
).map(b"".join)


@given(
    PIECES,
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([OPENAI, LOOM]),
    st.booleans(),
)
def test_cuts_change_nothing(text: bytes, cuts: list[int], dialect: Dialect, strips: bool) -> None:
    def verdict(pieces: list[bytes]) -> tuple[object, ...]:
        one = stream(dialect, strips_usage=strips)
        said = b"".join(one.take(piece, ended=False) for piece in pieces)
        said += one.take(b"", ended=True)
        assert one.done != (one.complaint is not None), "it has one end"
        return said, one.done, one.complaint, one.usage, one.chunks

    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert verdict(pieces) == verdict([text])
    assert verdict([bytes((byte,)) for byte in text]) == verdict([text])

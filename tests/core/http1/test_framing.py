"""Where bodies end, and chunks both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core import fault as faults
from loomproxy.core.http1.framing import (
    LAST_CHUNK,
    ChunkedBody,
    CloseBody,
    Taken,
    canonical_block,
    chunk,
    field_line,
    last_chunk,
    response_framing,
)
from loomproxy.core.http1.limits import (
    CHUNK_EXTENSION_EXCESS_BYTES_MAX,
    CHUNK_LINE_BYTES_MAX,
    Limits,
    Refusal,
)
from loomproxy.core.message import Framing


def chunked(limits: Limits | None = None) -> ChunkedBody:
    return ChunkedBody(
        limits or Limits(), malformed=faults.REQUEST_MALFORMED, too_large=faults.BODY_TOO_LARGE
    )


def decode(
    data: bytes, cut: int = 0, limits: Limits | None = None
) -> tuple[bytes, bytes | str | None]:
    """Payload, and the trailers, the fault's name, or None while more is needed."""
    body = chunked(limits)
    payload = b""
    at = 0
    for end in (cut, len(data)):
        while True:
            taken = body.take(data[:end], at)
            if taken is None:
                break
            if isinstance(taken, Refusal):
                return payload, taken.fault.name
            payload += taken.data
            at = taken.at
            if taken.ended:
                assert at == len(data)
                return payload, taken.trailers
    return payload, None


@pytest.mark.parametrize(
    ("status", "method", "length", "is_chunked", "framing"),
    [
        (101, b"GET", None, False, Framing.TUNNEL),
        (100, b"POST", 5, False, Framing.NONE),
        (204, b"GET", 5, False, Framing.NONE),
        (304, b"GET", 5, False, Framing.NONE),
        (200, b"HEAD", None, True, Framing.NONE),
        (200, b"GET", None, True, Framing.CHUNKED),
        (200, b"GET", None, False, Framing.CLOSE),
        (200, b"GET", 0, False, Framing.NONE),
        (200, b"GET", 5, False, Framing.LENGTH),
    ],
)
def test_a_response_is_framed_by_status_method_and_fields(
    status: int, method: bytes, length: int | None, is_chunked: bool, framing: Framing
) -> None:
    assert response_framing(status, method, length, chunked=is_chunked) is framing


def test_a_body_until_close_ends_only_there_and_is_bounded() -> None:
    body = CloseBody(3, faults.UPSTREAM_CUT)
    assert body.take(b"", 0) is None
    assert body.take(b"ab", 0) == Taken(b"ab", 2, ended=False)
    assert body.take_eof()
    assert body.take(b"cd", 0) == Taken(b"c", 1, ended=False)
    refused = body.take(b"cd", 1)
    assert isinstance(refused, Refusal)
    assert refused.fault is faults.UPSTREAM_CUT


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_what_is_encoded_in_chunks_decodes_to_itself_at_every_cut(
    pieces: list[bytes], data: st.DataObject
) -> None:
    encoded = b"".join(chunk(piece) for piece in pieces) + last_chunk(b"X: y\r\n")
    cut = data.draw(st.integers(0, len(encoded)))
    assert decode(encoded, cut) == (b"".join(pieces), b"X: y\r\n")


def test_the_last_chunk_without_trailers() -> None:
    assert last_chunk(b"") == LAST_CHUNK
    assert decode(LAST_CHUNK) == (b"", b"")
    assert not chunked().take_eof()


@pytest.mark.parametrize("cut", range(20))
def test_good_chunks_come_out_before_a_bad_one_is_refused(cut: int) -> None:
    assert decode(b"3\r\nabc\r\n2\r\ndexx\r\n0\r\n\r\n", cut) == (b"abcde", "request_malformed")


def test_a_chunk_size_line_is_bounded() -> None:
    longest = b"1;" + b"a" * (CHUNK_LINE_BYTES_MAX - 2)
    assert decode(longest + b"\r\nx\r\n" + LAST_CHUNK) == (b"x", b"")
    assert decode(longest + b"\r") == (b"", None)
    assert decode(longest + b"a\r\n") == (b"", "request_malformed")
    assert decode(longest + b"aa") == (b"", "request_malformed")


def test_many_small_chunks_with_long_extensions_are_refused() -> None:
    line = b"1;" + b"a" * 500 + b"\r\nx\r\n"
    few = CHUNK_EXTENSION_EXCESS_BYTES_MAX // 501
    assert decode(line * few + LAST_CHUNK) == (b"x" * few, b"")
    assert decode(line * (few * 2) + LAST_CHUNK)[1] == "request_malformed"


def test_large_chunks_may_have_extensions_for_ever() -> None:
    piece = b"x" * 256
    encoded = b"100;signature=" + b"a" * 64 + b"\r\n" + piece + b"\r\n"
    assert decode(encoded * 1000 + LAST_CHUNK) == (piece * 1000, b"")


def test_what_is_no_chunk_size_is_refused() -> None:
    assert decode(b"xyz\r\n") == (b"", "request_malformed")
    assert decode(b"3 \r\nabc\r\n") == (b"", "request_malformed")


def test_a_bare_lf_in_a_chunk_size_line_is_refused_at_once() -> None:
    assert decode(b"3\nabc") == (b"", "request_malformed")


def test_a_body_may_be_as_large_as_the_bound_and_no_larger() -> None:
    limits = Limits(body_bytes_max=4)
    assert decode(chunk(b"ab") + chunk(b"cd") + LAST_CHUNK, 0, limits) == (b"abcd", b"")
    assert decode(chunk(b"ab") + chunk(b"cde"), 0, limits) == (b"ab", "body_too_large")


def test_trailers_are_made_canonical_and_are_bounded() -> None:
    assert decode(b"0\r\nA:1\r\nB: \t2 \r\nC:\r\n\r\n") == (b"", b"A: 1\r\nB: 2\r\nC:\r\n")
    limits = Limits(head_bytes_max=16, fields_max=2)
    assert decode(b"0\r\nA: 1\r\nB: 2\r\n\r\n", 0, limits) == (b"", b"A: 1\r\nB: 2\r\n")
    assert decode(b"0\r\nA:\r\nB:\r\nC:\r\n\r\n", 0, limits) == (b"", "request_malformed")
    assert decode(b"0\r\nA: 1234567890123", 0, limits) == (b"", "request_malformed")
    assert decode(b"0\r\nA: 1", 0, limits) == (b"", None)
    assert decode(b"0\r\nA\r\n\r\n", 0, limits) == (b"", "request_malformed")


def test_a_block_is_canonical_or_none() -> None:
    assert canonical_block(b"") == b""
    assert canonical_block(b"A:  b  c \r\n") == b"A: b  c\r\n"
    assert canonical_block(b"A: b\r\n c\r\n") is None
    assert canonical_block(b"A: \x01\r\n") is None
    assert field_line(b"A", b"") == b"A:\r\n"


def test_an_empty_chunk_cannot_be_encoded() -> None:
    with pytest.raises(AssertionError):
        chunk(b"")

"""Heads, their blocks, and what their bodies' framing says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.message import (
    Framing,
    RequestHead,
    ResponseHead,
    field,
    fields,
)

NAMES = st.from_regex(rb"[A-Za-z][A-Za-z0-9-]{0,15}", fullmatch=True)
VALUES = st.from_regex(rb"(?:[!-~](?:[ -~]{0,20}[!-~])?)?", fullmatch=True)


def request(framing: Framing) -> RequestHead:
    return RequestHead(
        method=b"GET",
        target=b"/",
        path=b"/",
        query=b"",
        minor_version=1,
        authority=b"a",
        host=b"a",
        framing=framing,
        body_bytes=0,
        keep_alive=True,
        expect_continue=False,
        upgrade=b"",
        nominated=(),
        block=b"Host: a\r\n",
    )


def response(status: int, framing: Framing = Framing.NONE) -> ResponseHead:
    return ResponseHead(
        status=status,
        reason=b"",
        minor_version=1,
        framing=framing,
        body_bytes=0,
        keep_alive=True,
        upgrade=b"",
        nominated=(),
        block=b"",
    )


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_every_field_of_a_block_is_found_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    assert fields(block) == [(name.lower(), value) for name, value in pairs]


def test_space_around_a_value_is_not_part_of_it() -> None:
    assert fields(b"A:1\r\nB: \t2 \t\r\nC:\r\n") == [(b"a", b"1"), (b"b", b"2"), (b"c", b"")]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("gap", [b" ", b"\t", b" \t"])
def test_a_value_full_of_spaces_costs_no_more_than_another(gap: bytes) -> None:
    """Once this took 25 seconds for one head of 60 KiB, and longer with its square."""
    value = b"a" + gap * 200_000 + b"b"
    block = b"X: " + value + b"\r\nY: 1\r\n"
    assert fields(block) == [(b"x", value), (b"y", b"1")]
    assert field(block, b"y") == b"1"


def test_a_field_is_found_in_any_letter_case_and_the_first_one_counts() -> None:
    block = b"X-Id: 1\r\nx-ID: 2\r\n"
    assert field(block, b"x-id") == b"1"
    assert field(block, b"id") is None
    assert field(b"", b"x-id") is None


@pytest.mark.parametrize("framing", list(Framing))
def test_parts_follow_every_framing_but_none(framing: Framing) -> None:
    follows = framing is not Framing.NONE
    assert request(framing).has_body is follows
    assert response(200, framing).has_body is follows


@pytest.mark.parametrize(
    ("status", "interim"), [(100, True), (103, True), (101, False), (200, False), (304, False)]
)
def test_another_head_follows_an_interim_one_and_no_switch(status: int, *, interim: bool) -> None:
    assert response(status).is_interim is interim


def test_what_became_of_a_block_says_nothing_of_a_head() -> None:
    one, other = request(Framing.NONE), request(Framing.NONE)
    one.memo.said_id = b"x"
    assert one == other
    assert one.memo != b"x"

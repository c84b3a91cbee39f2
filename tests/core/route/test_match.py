"""What a request must say for a route to be for it: how paths compare, when conditions hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.message import Framing, RequestHead
from loomproxy.core.route.match import (
    Condition,
    Match,
    Remainder,
    ValueKind,
    normal_escapes,
    normal_path,
    normal_prefix,
    parameters,
)


def asked(method: bytes = b"GET", query: bytes = b"", block: bytes = b"") -> RequestHead:
    return RequestHead(
        method,
        b"/?" + query,
        b"/",
        query,
        1,
        b"",
        b"",
        Framing.NONE,
        0,
        True,
        False,
        b"",
        (),
        block,
    )


def holds(match: Match, head: RequestHead) -> bool:
    return Remainder(match).holds(head)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/admin", b"/admin"),
        (b"/%61dm%69n", b"/admin"),
        (b"/%7euser%2d", b"/~user-"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/%c3%a4", b"/%C3%A4"),
        (b"/100%", b"/100%"),
        (b"/%zz", b"/%zz"),
        (b"/%2561", b"/%2561"),
    ],
)
def test_an_encoded_letter_is_the_letter_but_an_encoded_slash_is_none(
    path: bytes, normal: bytes
) -> None:
    assert normal_path(path) == normal


@given(st.text("/%aA2fF0.~-", max_size=20))
def test_an_escape_never_becomes_a_slash(path: str) -> None:
    assert normal_escapes(path.encode()).count(b"/") == path.count("/")


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"//admin", b"/admin"),
        (b"/a///%61//", b"/a/a/"),
        (b"/a%2f/b", b"/a%2F/b"),
        (b"/admin;v=1", b"/admin"),
        (b"/;x/admin;;y=z/;/b", b"/admin/b"),
        (b"/a%3bb", b"/a%3Bb"),
    ],
)
def test_a_run_of_slashes_counts_as_one_and_parameters_do_not_count(
    path: bytes, normal: bytes
) -> None:
    assert normal_path(path) == normal


def test_a_prefix_means_the_same_with_a_slash_at_its_end() -> None:
    assert normal_prefix(b"/api/") == normal_prefix(b"/api") == normal_prefix(b"/%61pi") == b"/api"
    assert normal_prefix(b"/") == b""


def test_a_match_without_conditions_always_holds() -> None:
    assert Remainder(Match()).always
    assert holds(Match(), asked())


def test_methods() -> None:
    match = Match(methods=frozenset((b"GET", b"HEAD")))
    assert not Remainder(match).always
    assert holds(match, asked(b"HEAD"))
    assert not holds(match, asked(b"POST"))
    assert not holds(match, asked(b"get"))  # RFC 9110 §9.1: method names are case-sensitive.


def test_headers_are_found_whatever_their_case_and_all_must_hold() -> None:
    match = Match(headers=(Condition(b"x-a", ValueKind.EXACT, b"1"), Condition(b"x-b")))
    assert holds(match, asked(block=b"X-A: 1\r\nX-B: \r\n"))
    assert not holds(match, asked(block=b"X-A: 1\r\n"))
    assert not holds(match, asked(block=b"X-A: 2\r\nX-B: 1\r\n"))


def test_of_several_lines_of_one_header_any_may_hold() -> None:
    match = Match(headers=(Condition(b"x-a", ValueKind.EXACT, b"2"),))
    assert holds(match, asked(block=b"x-a: 1\r\nx-a: 2\r\n"))


def test_a_regex_is_found_anywhere_in_the_value_unless_anchored() -> None:
    match = Match(headers=(Condition(b"x-a", ValueKind.REGEX, rb"v\d"),))
    assert holds(match, asked(block=b"X-A: is v2 now\r\n"))
    anchored = Match(headers=(Condition(b"x-a", ValueKind.REGEX, rb"^v\d$"),))
    assert not holds(anchored, asked(block=b"X-A: is v2 now\r\n"))
    assert holds(anchored, asked(block=b"X-A: v2\r\n"))


def test_query_parameters_are_compared_decoded() -> None:
    match = Match(query=(Condition(b"na me", ValueKind.EXACT, b"a&b"),))
    assert holds(match, asked(query=b"x=1&na+me=a%26b"))
    assert holds(match, asked(query=b"na%20me=no&na%20me=a%26b"))
    assert not holds(match, asked(query=b"NA+ME=a%26b"))
    assert not holds(match, asked())


def test_a_parameter_without_a_value_is_present() -> None:
    match = Match(query=(Condition(b"debug"),))
    assert holds(match, asked(query=b"debug"))
    assert holds(match, asked(query=b"debug="))
    assert not holds(match, asked(query=b"xdebug"))


def test_every_part_must_hold() -> None:
    match = Match(
        methods=frozenset((b"GET",)), headers=(Condition(b"x-a"),), query=(Condition(b"q"),)
    )
    assert holds(match, asked(query=b"q", block=b"X-A: 1\r\n"))
    assert not holds(match, asked(b"PUT", query=b"q", block=b"X-A: 1\r\n"))
    assert not holds(match, asked(block=b"X-A: 1\r\n"))
    assert not holds(match, asked(query=b"q"))


def test_pairs_of_a_query_keep_their_order() -> None:
    assert parameters(b"a=1&b&a=2&=x") == [(b"a", b"1"), (b"b", b""), (b"a", b"2"), (b"", b"x")]

"""Names in any case, lines cut out by name, and what Connection nominates."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.hygiene.names import (
    HOP_BY_HOP,
    SHADOWED,
    any_case,
    cutter,
    misnominated,
    nominations,
    trailers,
    usual_nominations,
    values_of,
    without,
)

_NAMES = st.lists(
    st.sampled_from([b"a", b"ab", b"abc", b"b-c", b"b", b"x.y"]), min_size=1, unique=True
)


@given(_NAMES, st.sampled_from([b"A", b"aB", b"ABC", b"B-c", b"b", b"x.y", b"xzy", b"", b"abcd"]))
def test_a_pattern_matches_its_names_in_any_case_and_nothing_else(
    names: list[bytes], said: bytes
) -> None:
    assert bool(re.fullmatch(any_case(*names), said)) == (said.lower() in names)


def test_a_mark_may_stand_for_every_mark_and_for_nothing_else() -> None:
    pattern = any_case(b"x-user1", b"x-id", any_mark=True)
    for said in (b"x-user1", b"X_User1", b"x.id", b"X~ID"):
        assert re.fullmatch(pattern, said)
    for said in (b"xxuser1", b"x-user_", b"x:id", b"xid"):
        assert not re.fullmatch(pattern, said)


def test_lines_are_cut_out_by_name_and_by_prefix() -> None:
    block = b"\nA: 1\r\nconn: 2\r\nCONN: 3\r\nP-x: 4\r\nConnx: 5\r\n"
    assert cutter([b"conn"], (b"p-",)).sub(b"", block) == b"\nA: 1\r\nConnx: 5\r\n"


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (b"keep-alive", (False, True, False, ())),
        (b"Close", (True, False, False, ())),
        (b"upgrade, HTTP2-Settings", (False, False, True, ())),
        (b" X-b ,\tx-A,, x-b", (False, False, False, (b"x-a", b"x-b"))),
        (b"Host, Content-Length, transfer-encoding", (False, False, False, ())),
        (b"not a token, (x)", (False, False, False, ())),
    ],
)
def test_what_connection_says(connection: bytes, said: tuple[object, ...]) -> None:
    assert nominations(connection) == said


@pytest.mark.parametrize(
    ("connection", "wrong"),
    [
        (b"keep-alive, Upgrade", b""),
        (b"close, X-Mine, TE, transfer-encoding, (content-type)", b""),
        (b"close, HOST", b"host"),
        (b"x,\tContent-Type ,y", b"content-type"),
        (b"Sec-Fetch-Site", b"sec-fetch-site"),
        (b"X-Forwarded-For", b"x-forwarded-for"),
        (b"If-Match", b"if-match"),
    ],
)
def test_connection_may_not_name_what_is_for_all_recipients(
    connection: bytes, wrong: bytes
) -> None:
    assert misnominated(connection) == wrong


@given(st.sampled_from([b"keep-alive", b"Close", b"upgrade", b"keep-alive, Upgrade", b"x", b"a,b"]))
def test_what_is_usual_means_what_it_says(connection: bytes) -> None:
    usual = usual_nominations(connection)
    assert usual is None or (usual == nominations(connection) and not misnominated(connection))


def test_fields_are_left_out_and_found_by_name() -> None:
    block = b"A: 1\r\nb: 2\r\nB: 3\r\nBc: 4\r\n"
    assert without(block, (b"b",)) == b"A: 1\r\nBc: 4\r\n"
    assert values_of(block, b"b") == [b"2", b"3"]
    assert values_of(block, b"z") == []


def test_trailers_cannot_frame_route_or_authenticate() -> None:
    assert trailers(b"") == b""
    assert (
        trailers(b"Checksum: 1\r\nContent-Length: 5\r\nX-Forwarded-For: a\r\n")
        == b"Checksum: 1\r\n"
    )
    for name in [*SHADOWED, b"Authorization", b"Set-Cookie", b"X-Forwarded-New"]:
        assert trailers(name + b": x\r\n") == b""


def test_trailers_have_no_say_in_what_the_operator_sets() -> None:
    block = b"X_User: evil\r\nChecksum: 1\r\nx-user: evil\r\n"
    assert trailers(block, {b"x-user"}) == b"Checksum: 1\r\n"
    assert trailers(b"", {b"x-user"}) == b""


def test_every_hop_by_hop_name_is_one_that_others_may_not_shadow() -> None:
    assert HOP_BY_HOP < SHADOWED

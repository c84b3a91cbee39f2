"""What becomes of a request: where it is sent, as what, and where else a client is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.message import Framing, RequestHead
from loomproxy.core.route import Match, PathRewrite, Redirect, Route, ToPool


def asked(target: bytes, host: bytes = b"example.com") -> RequestHead:
    path, _, query = target.partition(b"?")
    return RequestHead(
        b"GET", target, path, query, 1, host, host, Framing.NONE, 0, True, False, b"", (), b""
    )


@pytest.mark.parametrize(
    ("location", "target", "expected"),
    [
        (b"https://{host}{path}{query}", b"/a?b=c", b"https://example.com/a?b=c"),
        (b"https://{host}{path}{query}", b"/a", b"https://example.com/a"),
        (b"{scheme}://other.example/", b"/a", b"http://other.example/"),
        (b"/new{path}", b"/a", b"/new/a"),
        (b"/{nobody}", b"/a", b"/{nobody}"),
        (b"//cdn.example{path}", b"/a", b"//cdn.example/a"),
    ],
)
def test_placeholders_of_a_location(location: bytes, target: bytes, expected: bytes) -> None:
    assert Redirect(308, location).location_for(asked(target), b"http") == expected


def test_a_location_lacks_a_host_only_where_it_would_say_one() -> None:
    assert Redirect(308, b"https://{host}{path}").lacks(asked(b"/evil.example/a", host=b""))
    assert not Redirect(308, b"https://{host}{path}").lacks(asked(b"/a"))
    assert not Redirect(308, b"/new{path}").lacks(asked(b"/a", host=b""))


@pytest.mark.parametrize("target", [b"//evil.example/a", b"/\\evil.example/a", b"///evil.example"])
def test_a_client_cannot_have_others_sent_to_another_host(target: bytes) -> None:
    location = Redirect(308, b"{path}").location_for(asked(target), b"http")
    assert location.startswith(b"/evil.example")


@given(st.text("/\\.a", min_size=1, max_size=8))
def test_no_path_makes_a_location_that_names_a_host(path: str) -> None:
    location = Redirect(302, b"{path}").location_for(asked(b"/" + path.encode()), b"http")
    assert not location.startswith((b"//", b"/\\"))


@pytest.mark.parametrize(
    ("rewrite", "target", "expected"),
    [
        (PathRewrite(strip_prefix=b"/api"), b"/api/users?x=1", b"/users?x=1"),
        (PathRewrite(strip_prefix=b"/api/"), b"/api/users", b"/users"),
        (PathRewrite(strip_prefix=b"/api"), b"/%61pi/a%2fb", b"/a%2fb"),
        (PathRewrite(strip_prefix=b"/z"), b"/%7A/%61bc%2fd%7e%3b.txt", b"/%61bc%2fd%7e%3b.txt"),
        (PathRewrite(strip_prefix=b"/api"), b"/api", b"/"),
        (PathRewrite(strip_prefix=b"/api"), b"/apix", b"/apix"),
        (PathRewrite(strip_prefix=b"/api"), b"/other", b"/other"),
        (PathRewrite(add_prefix=b"/v2"), b"/a?b", b"/v2/a?b"),
        (PathRewrite(strip_prefix=b"/api", add_prefix=b"/v2"), b"/api/a", b"/v2/a"),
        (PathRewrite(pattern=rb"/(\d+)$", replacement=rb"/id/\1"), b"/u/7", b"/u/id/7"),
        (PathRewrite(pattern=b"a", replacement=b"b"), b"/aaa", b"/baa"),
        (PathRewrite(pattern=b"^/u/(.*)", replacement=rb"/u?id=\1"), b"/u/7?x=1", b"/u?id=7&x=1"),
        (PathRewrite(pattern=b"^/u/(.*)", replacement=rb"\1"), b"/u/7", b"/7"),
        (PathRewrite(strip_prefix=b"/api"), b"*", b"*"),
        (PathRewrite(pattern=b"^/(.)61", replacement=rb"/\1"), b"/%61zz", b"/%25zz"),
        (PathRewrite(pattern=b"fx"), b"/%0fx0", b"/%2500"),
        (PathRewrite(strip_prefix=b"/api/v1"), b"/api//v1/a//b", b"/a//b"),
        (PathRewrite(strip_prefix=b"/api/v1"), b"/api;a=b//v1;c/d;e", b"/d;e"),
        (PathRewrite(strip_prefix=b"/api"), b"/api;v=2", b"/"),
        (PathRewrite(strip_prefix=b"/a.b"), b"/axb/c", b"/axb/c"),
        (PathRewrite(strip_prefix=b"/"), b"/a", b"/a"),
    ],
)
def test_rewriting(rewrite: PathRewrite, target: bytes, expected: bytes) -> None:
    assert rewrite.target(asked(target)) == expected


def test_what_is_left_of_a_path_cannot_be_read_as_an_authority() -> None:
    assert PathRewrite(strip_prefix=b"/api").target(asked(b"/api//evil.example/x")) == (
        b"/evil.example/x"
    )


@pytest.mark.parametrize(
    ("rewrite", "target", "expected"),
    [
        (PathRewrite(pattern=b"^/strip"), b"/strip../secret", b"/secret"),
        (PathRewrite(pattern=b"^/strip", add_prefix=b"/v2"), b"/strip../secret", b"/v2/secret"),
        (PathRewrite(pattern=b"^/strip"), b"/strip%2e%2e/secret", b"/secret"),
        (PathRewrite(pattern=b"^/a", replacement=b"/x/."), b"/a./b", b"/b"),
        (PathRewrite(pattern=b"^/strip"), b"/strip..//evil.example/x", b"/evil.example/x"),
        (PathRewrite(pattern=b"^/strip"), b"/strip.", b"/"),
        (PathRewrite(pattern=b"^/a", replacement=b"/b?q=/../c"), b"/a", b"/b?q=/../c"),
        (PathRewrite(strip_prefix=b"/api"), b"/api/v1.2/x", b"/v1.2/x"),
    ],
)
def test_no_rewrite_makes_a_dot_segment_of_what_was_none(
    rewrite: PathRewrite, target: bytes, expected: bytes
) -> None:
    assert rewrite.target(asked(target)) == expected


@given(st.text("/api", max_size=12))
def test_a_rewritten_target_begins_with_one_slash(path: str) -> None:
    rewrite = PathRewrite(strip_prefix=b"/api", pattern=b"p", replacement=b"/", add_prefix=b"/x")
    target = rewrite.target(asked(b"/" + path.encode()))
    assert target.startswith(b"/x/")
    assert not target.startswith(b"/x//")


def test_a_route_is_plain_unless_it_says_otherwise() -> None:
    route = Route("app", Match(), ToPool("app"))
    assert route.host is None
    assert route.upgrades == {b"websocket"}
    assert route.retry.attempts_max == 3

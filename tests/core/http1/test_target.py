"""Targets come into one form, hosts are hosts, and no path can mean another to the upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.http1.refuse import Unacceptable
from loomproxy.core.http1.target import authority_of, checked_path, host_of, origin_form


@pytest.mark.parametrize(
    ("method", "target", "host", "found"),
    [
        (b"GET", b"/a?b", b"h", (b"/a?b", b"h", False)),
        (b"GET", b"//evil.example/a", b"h", (b"/evil.example/a", b"h", False)),
        (b"GET", b"///", b"h", (b"/", b"h", False)),
        (b"GET", b"/a//b", b"h", (b"/a//b", b"h", False)),
        (b"GET", b"http://h/x?y", b"H:80", (b"/x?y", b"H:80", False)),
        (b"GET", b"HTTPS://h", b"h:443", (b"/", b"h:443", False)),
        (b"GET", b"http://h.?q", b"h", (b"/?q", b"h", False)),
        (b"GET", b"http://h//x", b"h", (b"/x", b"h", False)),
        (b"GET", b"http://[::1]:80/", b"[::1]", (b"/", b"[::1]", False)),
        (b"GET", b"http://h:81/", b"", (b"/", b"h:81", True)),
        (b"GET", b"/", b"", (b"/", b"", False)),
        (b"OPTIONS", b"http://h", b"h", (b"*", b"h", False)),
        (b"OPTIONS", b"http://h", b"", (b"*", b"h", True)),
        (b"OPTIONS", b"http://h?q", b"h", (b"/?q", b"h", False)),
        (b"OPTIONS", b"*", b"h", (b"*", b"h", False)),
    ],
)
def test_every_target_comes_into_one_form(
    method: bytes, target: bytes, host: bytes, found: tuple[bytes, bytes, bool]
) -> None:
    assert origin_form(method, target, host) == found


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (b"/a#b", "fragment"),
        (b"*", "OPTIONS"),
        (b"x", "not a request target"),
        (b"?x", "not a request target"),
        (b"h:80", "scheme we do not speak"),
        (b"http:/h/", "scheme we do not speak"),
        (b"ftp://h/", "scheme we do not speak"),
        (b"http://u@h/", "user information"),
        (b"http:///x", "not a host"),
        (b"http://h:70000/", "not a host"),
        (b"http://other/", "is not the Host"),
        (b"http://h:81/", "is not the Host"),
        (b"https://h:80/", "is not the Host"),
    ],
)
def test_what_is_no_target_or_disagrees_with_host_is_refused(target: bytes, why: str) -> None:
    with pytest.raises(Unacceptable, match=why):
        origin_form(b"GET", target, b"h")


@pytest.mark.parametrize(
    ("said", "host"),
    [
        (b"A.Example", b"a.example"),
        (b"a.example.:80", b"a.example"),
        (b"a:", b"a"),
        (b"my_app:65535", b"my_app"),
        (b"[::FFFF:1.2.3.4]:1", b"[::ffff:1.2.3.4]"),
    ],
)
def test_a_host_with_an_optional_port(said: bytes, host: bytes) -> None:
    assert host_of(authority_of(said)) == host


@pytest.mark.parametrize(
    "said",
    [
        *(b"", b":80", b"a:65536", b"a:x", b"a:1:2", b"a b", b"a,b", b"a/b", b"a?b", b"a#b"),
        *(b"u@a", b"a%2eb", b".a", b"a..", b"[1.2.3.4]", b"[::1", b"[fe80::1%25eth0]", b"[v1.a]"),
        *(b"\xe4", b"a\\b"),
    ],
)
def test_what_is_no_host_is_refused(said: bytes) -> None:
    with pytest.raises(Unacceptable):
        authority_of(said)


def test_a_request_without_a_host_is_for_none() -> None:
    assert host_of(b"") == b""


@pytest.mark.parametrize(
    "path", [b"/", b"*", b"/a//b", b"/.a/...", b"/a%2Fb", b"/%252e%252e/", b"/a;b", b"/%c0%ae/"]
)
def test_what_is_no_trick_is_passed(path: bytes) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"/a\\b", "backslash"),
        (b"/%zz", "percent-encoding"),
        (b"/%", "percent-encoding"),
        (b"/a%00", "percent-encoding"),
        (b"/a/%2e./b", "dot segment"),
        (b"/a/..;x/b", "dot segment"),
        (b"/a%2f..", "dot segment"),
        (b"/a/.%5cb", "dot segment"),
    ],
)
def test_a_path_that_could_mean_another_is_refused(path: bytes, why: str) -> None:
    with pytest.raises(Unacceptable, match=why):
        checked_path(path)


@given(st.text("/\\.%2eEfF5cC;a", max_size=12))
def test_no_decoding_of_what_passes_leads_out_of_it(text: str) -> None:
    try:
        path = checked_path(b"/" + text.encode())
    except Unacceptable:
        return
    decoded = path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").replace(b"%5c", b"/")
    segments = [segment.partition(b";")[0] for segment in decoded.split(b"/")]
    assert b".." not in segments
    assert b"." not in segments

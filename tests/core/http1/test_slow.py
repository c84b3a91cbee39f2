"""Unusual heads: read through h11 when they are unambiguous, refused with a reason when not."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.http1 import slow
from loomproxy.core.http1.limits import CONNECTION_OPTIONS_MAX, Limits, Refusal
from loomproxy.core.message import Framing, RequestHead, ResponseHead

LIMITS = Limits()


def request(*lines: str, start: str = "GET / HTTP/1.1", limits: Limits = LIMITS) -> RequestHead:
    head = slow.request(raw(start, *lines), limits)
    assert isinstance(head, RequestHead), head
    return head


def refused(*lines: str, start: str = "GET / HTTP/1.1", limits: Limits = LIMITS) -> Refusal:
    refusal = slow.request(raw(start, *lines), limits)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.detail
    assert "\n" not in refusal.detail
    assert len(refusal.detail) < 250
    return refusal


def response(*lines: str, start: str = "HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    head = slow.response(raw(start, *lines), method, LIMITS)
    assert isinstance(head, ResponseHead), head
    return head


def raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_an_unusual_request_is_made_canonical() -> None:
    head = request(
        "host:a.EXAMPLE.:80",
        "X:  y \t",
        "Empty:",
        "Content-Length:3",
        "Connection:x , Close",
        "Connection: Keep-Alive",
        start="POST /%7Ea?b HTTP/1.1",
    )
    assert head == RequestHead(
        method=b"POST",
        target=b"/%7Ea?b",
        path=b"/%7Ea",
        query=b"b",
        minor_version=1,
        authority=b"a.EXAMPLE.:80",
        host=b"a.example",
        framing=Framing.LENGTH,
        body_bytes=3,
        keep_alive=False,
        expect_continue=False,
        upgrade=b"",
        nominated=(b"x",),
        block=b"host: a.EXAMPLE.:80\r\nX: y\r\nEmpty:\r\nContent-Length: 3\r\n"
        b"Connection: x , Close\r\nConnection: Keep-Alive\r\n",
    )


def test_http_1_0() -> None:
    plain = request(start="GET / HTTP/1.0")
    assert (plain.minor_version, plain.keep_alive, plain.authority, plain.host) == (
        0,
        False,
        b"",
        b"",
    )
    kept = request(
        "Connection: keep-alive, upgrade", "Upgrade: x", "Expect: y", start="GET / HTTP/1.0"
    )
    assert kept.keep_alive
    assert kept.upgrade == b""
    assert not kept.expect_continue


def test_chunked_and_upgrade_and_expect() -> None:
    head = request(
        "Host:a",
        "Transfer-Encoding: CHUNKED",
        "Connection: upgrade",
        "Upgrade: WebSocket",
        "Expect: 100-continue",
    )
    assert (head.framing, head.body_bytes) == (Framing.CHUNKED, 0)
    assert head.upgrade == b"websocket"
    assert head.expect_continue
    assert head.has_body


@pytest.mark.parametrize(
    ("start", "host", "target", "authority"),
    [
        ("GET http://a/x?y HTTP/1.1", "A:80", b"/x?y", b"A:80"),
        ("GET HTTPS://a HTTP/1.1", "a:443", b"/", b"a:443"),
        ("GET http://a?q HTTP/1.1", "a", b"/?q", b"a"),
        ("OPTIONS http://a HTTP/1.1", "a", b"*", b"a"),
        ("OPTIONS * HTTP/1.1", "a", b"*", b"a"),
        ("GET http://[::1]:80/ HTTP/1.1", "[::1]", b"/", b"[::1]"),
    ],
)
def test_absolute_and_asterisk_form(start: str, host: str, target: bytes, authority: bytes) -> None:
    head = request("Host:" + host, start=start)
    assert (head.target, head.authority) == (target, authority)


def test_absolute_form_gives_the_host_that_http_1_0_lacks() -> None:
    head = request("X: y", start="GET http://A:81/ HTTP/1.0")
    assert (head.authority, head.host) == (b"A:81", b"a")
    assert head.block == b"Host: A:81\r\nX: y\r\n"


@pytest.mark.parametrize(
    ("start", "fault"),
    [
        ("CONNECT a:443 HTTP/1.1", faults.METHOD_UNSUPPORTED),
        ("TRACE / HTTP/1.1", faults.METHOD_UNSUPPORTED),
        ("A" * 65 + " / HTTP/1.1", faults.METHOD_UNSUPPORTED),
        ("GET / HTTP/3.0", faults.VERSION_UNSUPPORTED),
        ("GET / HTTP/1.7", faults.VERSION_UNSUPPORTED),
        ("GET /12345 HTTP/1.1", faults.TARGET_TOO_LONG),
        ("GET ftp://a/ HTTP/1.1", faults.REQUEST_MALFORMED),
        ("GET x HTTP/1.1", faults.REQUEST_MALFORMED),
        ("GET", faults.REQUEST_MALFORMED),
    ],
)
def test_request_lines_that_are_refused(start: str, fault: faults.Fault) -> None:
    bytes_max = 5 if fault is faults.TARGET_TOO_LONG else 100
    assert refused("Host: a", start=start, limits=Limits(target_bytes_max=bytes_max)).fault is fault


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["Host: a", "X: a\nY: b"], "bare LF"),
        (["Host: a", "X: a\rY: b"], "not followed by LF"),
        (["Host: a", "X: a\x00"], "control character"),
        (["Host: a", "X: a", " b"], "folded"),
        (["Host: a", "X : a"], "not a field line"),
        (["Host: a", "Content-Length: 5, 5"], "not one number"),
        (["Host: a", "Content-Length: 5", "Content-Length: 5"], "came 2 times"),
        (["Host: a", "Connection: close, Cookie"], "'cookie', which does not end at this hop"),
        (["Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"], "came together"),
        (["Host: a", "Host: a"], "Host"),
        (["Host: a@b"], "not a host"),
        (["Host: a:99999"], "not a host"),
        (["Host: [1.2.3.4]"], "IPv6"),
    ],
)
def test_fields_that_are_refused(lines: list[str], why: str) -> None:
    refusal = refused(*lines, start="POST / HTTP/1.1")
    assert refusal.fault is faults.REQUEST_MALFORMED
    assert why in refusal.detail


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/a#b", "fragment"),
        ("*", "OPTIONS"),
        ("http://u@a/", "user information"),
        ("http://b/", "is not the Host"),
        ("/a\\b", "backslash"),
        ("/%zz", "percent-encoding"),
        ("/a/%2e./b", "dot segment"),
        ("/a/..;x/b", "dot segment"),
    ],
)
def test_targets_that_are_refused(target: str, why: str) -> None:
    refusal = refused("Host: a", start=f"GET {target} HTTP/1.1")
    assert refusal.fault is faults.REQUEST_MALFORMED
    assert why in refusal.detail


def test_connection_may_name_so_many_fields_and_no_more() -> None:
    most = ",".join(["x"] * CONNECTION_OPTIONS_MAX)
    assert request("Host: a", f"Connection: {most}").nominated == (b"x",)
    assert "options" in refused("Host: a", f"Connection: {most},x").detail


def test_hops_are_counted_down_for_options_alone() -> None:
    def asked(*lines: str, start: str = "OPTIONS / HTTP/1.1") -> tuple[bool, bytes]:
        head = request("Host: a", *lines, start=start)
        return head.for_us, head.block.removeprefix(b"Host: a\r\n")

    assert asked() == (False, b"")
    assert asked("Max-Forwards: 7", "X: y") == (False, b"Max-Forwards: 6\r\nX: y\r\n")
    assert asked("Max-Forwards: 0") == (True, b"Max-Forwards: 0\r\n")
    assert asked("Max-Forwards: 0", start="GET / HTTP/1.1") == (False, b"Max-Forwards: 0\r\n")
    for value in ("", "-1", "1, 1", "9" * 10):
        detail = refused("Host: a", f"Max-Forwards: {value}", start="OPTIONS / HTTP/1.1").detail
        assert "not one number" in detail


def test_an_unknown_expectation_is_refused() -> None:
    assert refused("Host: a", "Expect: x").fault is faults.EXPECTATION_UNSUPPORTED


def test_bounds() -> None:
    assert refused("Host: a", "X: y", limits=Limits(fields_max=1)).fault is faults.HEAD_TOO_LARGE
    small = Limits(body_bytes_max=4)
    assert refused("Host: a", "Content-Length: 5", limits=small).fault is faults.BODY_TOO_LARGE
    for digits in ("1" * 19, "0" * 30 + "5"):
        assert refused("Host: a", f"Content-Length: {digits}").fault is faults.BODY_TOO_LARGE
    assert request("Host: a", "Content-Length: 4", limits=small).body_bytes == 4


def test_what_h11_refuses_is_refused_in_its_words() -> None:
    assert refused("X: y").fault is faults.REQUEST_MALFORMED
    refusal = refused("Host: a", "Transfer-Encoding: gzip")
    assert refusal.fault is faults.CODING_UNSUPPORTED
    assert "chunked" in refusal.detail


def test_a_name_that_can_be_taken_for_another_is_refused_and_says_for_which() -> None:
    assert "x-forwarded-anything" in refused("Host: a", "X_Forwarded_Anything: b").detail
    assert "content-length" in refused("Host: a", "Content_Length: 1").detail
    assert b"my_own: 1" in request("Host: a", "my_own: 1").block


def test_a_head_that_can_never_become_one_is_known_early() -> None:
    assert slow.hopeless(b"GET /", 0, 0, 5) == ""
    assert "begins with" in slow.hopeless(b"\x16\x03", 0, 0, 2)
    assert "begins with" in slow.hopeless(b"xx\x80", 2, 0, 3)
    lf = b"a\r\nb\nc"
    assert "bare LF" in slow.hopeless(lf, 0, 0, 6)
    assert "bare LF" in slow.hopeless(lf, 0, 4, 6)
    assert slow.hopeless(lf, 0, 5, 6) == ""
    assert slow.hopeless(b"a\r\n", 0, 2, 3) == ""


def test_an_answer_that_is_none_is_known_from_its_first_bytes() -> None:
    for begin in (b"", b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r\n"):
        assert slow.no_answer(b"xx" + begin, 2) == ""
    assert "b'SSH-2.0'" in slow.no_answer(b"SSH-2.0-OpenSSH_9.2\r\n", 0)
    assert slow.no_answer(b"HTTP/2", 0)


def test_an_unusual_response_is_made_canonical() -> None:
    assert response("Content-Length:2", "Connection:x") == ResponseHead(
        status=200,
        reason=b"OK",
        minor_version=1,
        framing=Framing.LENGTH,
        body_bytes=2,
        keep_alive=True,
        upgrade=b"",
        nominated=(b"x",),
        block=b"Content-Length: 2\r\nConnection: x\r\n",
    )


def test_responses_that_end_the_connection() -> None:
    assert not response("X:y").keep_alive
    assert not response("Content-Length:1", "Connection:close").keep_alive
    assert response("Content-Length:1", "Connection:keep-alive", start="HTTP/1.0 200 OK").keep_alive
    assert not response("Content-Length:1", start="HTTP/1.1 204 X").keep_alive
    assert not response("Transfer-Encoding:chunked", start="HTTP/1.1 204 X").keep_alive
    assert response("Content-Length:0", start="HTTP/1.1 204 X").keep_alive
    switched = response("Connection:upgrade", "Upgrade:WebSocket", start="HTTP/1.1 101 X")
    assert (switched.framing, switched.upgrade) == (Framing.TUNNEL, b"websocket")
    assert not switched.keep_alive


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("HTTP/1.1 OK", "X: y"),
        ("HTTP/2.0 200 OK", "X: y"),
        ("HTTP/1.2 200 OK", "X: y"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip"),
        ("HTTP/1.1 200 OK", "X"),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"),
    ],
)
def test_responses_that_are_refused(start: str, line: str) -> None:
    refusal = slow.response(raw(start, line), b"GET", LIMITS)
    assert isinstance(refusal, Refusal)
    assert refusal.fault is faults.UPSTREAM_MALFORMED

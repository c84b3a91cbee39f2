"""The common head: recognised, picked from, and read as h11 reads it."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits
from loomproxy.core.message import Framing, RequestHead, ResponseHead, fields

LIMITS = Limits()


def request(
    *lines: str, start: str = "GET / HTTP/1.1", limits: Limits = LIMITS
) -> RequestHead | None:
    raw = "\r\n".join([start, *lines, "", ""]).encode("latin-1")
    return lane.request(raw, limits, None)


def response(
    *lines: str, start: str = "HTTP/1.1 200 OK", method: bytes = b"GET", limits: Limits = LIMITS
) -> ResponseHead | None:
    raw = "\r\n".join([start, *lines, "", ""]).encode("latin-1")
    return lane.response(raw, method, limits)


def test_a_common_request_is_recognised_whole() -> None:
    head = request(
        "Host: Example.com:8080", "Accept: */*", "Connection: close", start="GET /a/b?c=d HTTP/1.1"
    )
    assert head == RequestHead(
        method=b"GET",
        target=b"/a/b?c=d",
        path=b"/a/b",
        query=b"c=d",
        minor_version=1,
        authority=b"Example.com:8080",
        host=b"example.com",
        framing=Framing.NONE,
        body_bytes=0,
        keep_alive=False,
        expect_continue=False,
        upgrade=b"",
        nominated=(),
        block=b"Host: Example.com:8080\r\nAccept: */*\r\nConnection: close\r\n",
    )


@pytest.mark.parametrize(
    ("lines", "framing", "body_bytes"),
    [
        (["Content-Length: 12"], Framing.LENGTH, 12),
        (["content-length: 0"], Framing.NONE, 0),
        (["TRANSFER-ENCODING: chunked"], Framing.CHUNKED, 0),
    ],
)
def test_request_bodies(lines: list[str], framing: Framing, body_bytes: int) -> None:
    head = request("Host: a", *lines, start="POST / HTTP/1.1")
    assert head is not None
    assert (head.framing, head.body_bytes) == (framing, body_bytes)


def test_upgrade_counts_only_when_connection_names_it() -> None:
    head = request("Host: a", "Upgrade: WebSocket", "Connection: keep-alive, Upgrade")
    assert head is not None
    assert (head.upgrade, head.nominated, head.keep_alive) == (b"websocket", (), True)
    head = request("Host: a", "Upgrade: websocket", "Connection: keep-alive")
    assert head is not None
    assert head.upgrade == b""


def test_an_expectation_is_noticed() -> None:
    head = request("Host: a", "Expect: 100-Continue", "Content-Length: 1")
    assert head is not None
    assert head.expect_continue


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: a", "Expect: else"],
        ["Host: a", "Host: a"],
        ["Host: a", "Connection: a", "Connection: b"],
        ["Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["Host: a", "Content-Length: x"],
        ["Host: a", "Content-Length: " + "1" * 19],
        ["Host: a", "Transfer-Encoding: gzip"],
        ["Host: a", "Transfer-Encoding: Chunked"],
        ["Host: a", "Connection: X-One"],
        ["Host: a", "X:  two"],
        ["Host: a", "X: y "],
        ["Host: a", "X_Y: z"],
        ["Host: a", "X"],
        ["Host: [::1]"],
        ["X: a"],
        [],
    ],
)
def test_any_other_request_is_left_to_the_slow_way(lines: list[str]) -> None:
    assert request(*lines) is None


@pytest.mark.parametrize(
    "start",
    [
        "GET / HTTP/1.0",
        "get / HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "TRACE / HTTP/1.1",
        "GET //a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /../a HTTP/1.1",
    ],
)
def test_any_other_request_line_is_left_to_the_slow_way(start: str) -> None:
    assert request("Host: a", start=start) is None


def test_options_that_count_their_hops_are_left_to_the_slow_way() -> None:
    first = request("Host: a", "MAX-Forwards: 1")
    assert first is not None
    raw = b"OPTIONS / HTTP/1.1\r\n" + first.block + b"\r\n"
    assert lane.request(raw, LIMITS, first) is None
    assert request("Host: a", start="OPTIONS / HTTP/1.1") is not None


def test_what_exceeds_a_bound_is_left_to_the_slow_way() -> None:
    assert request("Host: a", limits=Limits(fields_max=1)) is not None
    assert request("Host: a", "X: y", limits=Limits(fields_max=1)) is None
    assert request("Host: aaaaaaa", limits=Limits(fields_max=1)) is not None
    assert request("Host: a", start="GET /ab HTTP/1.1", limits=Limits(target_bytes_max=2)) is None
    assert request("Host: a", "Content-Length: 5", limits=Limits(body_bytes_max=4)) is None


def test_a_known_block_is_not_picked_from_again() -> None:
    first = request("Host: a", "Content-Length: 2", start="POST /1 HTTP/1.1")
    assert first is not None
    known = first
    second = lane.request(b"POST /2 HTTP/1.1\r\n" + first.block + b"\r\n", LIMITS, known)
    assert second is not None
    assert second.block is first.block
    assert (second.target, second.body_bytes) == (b"/2", 2)
    third = lane.request(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", LIMITS, known)
    assert third is not None
    assert third.host == b"b"


def test_a_common_response_is_recognised_whole() -> None:
    assert response("Content-Length: 2", "Connection: keep-alive, x") == ResponseHead(
        status=200,
        reason=b"OK",
        minor_version=1,
        framing=Framing.LENGTH,
        body_bytes=2,
        keep_alive=True,
        upgrade=b"",
        nominated=(b"x",),
        block=b"Content-Length: 2\r\nConnection: keep-alive, x\r\n",
    )


def test_what_a_response_says_of_its_connection() -> None:
    def keeps(*lines: str, start: str = "HTTP/1.1 200 OK") -> bool:
        head = response(*lines, start=start)
        assert head is not None
        return head.keep_alive

    assert keeps("Transfer-Encoding: chunked")
    assert not keeps()
    assert not keeps("Content-Length: 1", "Connection: close")
    assert not keeps("Content-Length: 1", start="HTTP/1.0 200 OK")
    assert keeps("Content-Length: 1", "Connection: keep-alive", start="HTTP/1.0 200 OK")
    switched = response("Upgrade: WebSocket", "Connection: upgrade", start="HTTP/1.1 101 X")
    assert switched is not None
    assert (switched.upgrade, switched.keep_alive) == (b"websocket", False)


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        (["Content-Length: x"], "HTTP/1.1 200 OK"),
        (["Content-Length: 1", "Content-Length: 1"], "HTTP/1.1 200 OK"),
        (["Transfer-Encoding: chunked"], "HTTP/1.0 200 OK"),
        (["Content-Length: 1"], "HTTP/1.1 204 No Content"),
        (["Transfer-Encoding: chunked"], "HTTP/1.1 204 No Content"),
        (["X:y"], "HTTP/1.1 200 OK"),
        ([], "HTTP/2.0 200 OK"),
        ([], "HTTP/1.1 099 OK"),
    ],
)
def test_any_other_response_is_left_to_the_slow_way(lines: list[str], start: str) -> None:
    assert response(*lines, start=start) is None


def test_a_response_with_too_many_fields_is_left_to_the_slow_way() -> None:
    assert response("A: 1", "B: 2", limits=Limits(fields_max=1)) is None


# Heads around the border of what the lane accepts: valid pieces, and now and then one that is not.
_NAMES = st.sampled_from(
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Expect",
        "X",
        "Accept",
        "X_Y",
        "Content_Length",
        "content-length",
        "X-Forwarded-For",
        "Host ",
        "",
        "A!",
        "Max-Forwards",
    ]
)
_VALUES = st.sampled_from(
    [
        "a",
        "a:80",
        "5",
        "0",
        "05",
        "+5",
        "5, 5",
        "chunked",
        "Chunked",
        "gzip",
        "close",
        "keep-alive, x",
        "close, content-length",
        "keep-alive, Upgrade",
        "upgrade",
        "websocket",
        "100-continue",
        "",
        "a b",
        "é",
        "a\tb",
        " a",
        "a ",
        "\x0bchunked",
        "[::1]",
        "x\x00",
    ]
)
_COLONS = st.sampled_from([": "] * 12 + [":", ":  ", " : ", ":\t"])
_ENDS = st.sampled_from(["\r\n"] * 20 + ["\n", "\r\r\n", "\r\n ", "\r"])
_LINES = st.builds(lambda n, c, v, e: n + c + v + e, _NAMES, _COLONS, _VALUES, _ENDS)
_TARGETS = st.sampled_from(
    [
        "/",
        "/a?b=c",
        "/a/../b",
        "/%2e%2e/",
        "/a%2Fb",
        "*",
        "http://a/",
        "http://b/",
        "/#",
        "/é",
        "/a\\b",
        "//a",
        "/..;/",
        "/.a",
        "/...",
        "/a?#",
        "/;=@:",
        "/%41",
        "/%zz",
        "/%00",
        "a",
    ]
)
_REQUEST_LINES = st.builds(
    lambda m, t, v, e: f"{m} {t} {v}{e}",
    st.sampled_from(
        ["GET"] * 5 + ["POST", "get", "CONNECT", "TRACE", "OPTIONS", "HEAD", "G T", ""]
    ),
    _TARGETS,
    st.sampled_from(["HTTP/1.1"] * 9 + ["HTTP/1.0", "HTTP/1.2", "http/1.1", "HTTP/1.1 "]),
    _ENDS,
)
_STATUS_LINES = st.builds(
    lambda v, s, r, e: f"{v} {s}{r}{e}",
    st.sampled_from(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/1.2", "http/1.1"]),
    st.sampled_from(["200", "204", "304", "101", "100", "500", "600", "099", "20", "2000"]),
    st.sampled_from([" OK", "", " ", " a\tb \xe9", " \x01", "  "]),
    _ENDS,
)


def raw_of(start: str, lines: list[str]) -> bytes:
    return (start + "".join(lines)).encode("latin-1") + b"\r\n"


@settings(max_examples=400)
@given(_REQUEST_LINES, st.lists(_LINES, max_size=5), st.booleans())
def test_what_the_lane_accepts_h11_reads_alike(start: str, lines: list[str], hosted: bool) -> None:
    raw = raw_of(start, ["Host: a\r\n", *lines] if hosted else lines)
    head = lane.request(raw, LIMITS, None)
    if head is None:
        return
    assert slow.request(raw, LIMITS) == head
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (head.method, head.target, b"1.1")
    # h11 gives the coding in lower case.
    ours = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields(head.block)]
    assert list(event.headers) == ours
    follows = connection.next_event()
    assert (type(follows) is h11.EndOfMessage) == (head.framing is Framing.NONE)


@settings(max_examples=400)
@given(_STATUS_LINES, st.lists(_LINES, max_size=5), st.sampled_from([b"GET", b"HEAD"]))
def test_what_the_lane_accepts_of_responses_the_slow_way_reads_alike(
    start: str, lines: list[str], method: bytes
) -> None:
    raw = raw_of(start, lines)
    head = lane.response(raw, method, LIMITS)
    assert head is None or slow.response(raw, method, LIMITS) == head

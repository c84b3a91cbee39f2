"""The common head, recognised and picked from; test_differential holds it beside h11."""

import pytest

from loomproxy.core.http1 import lane
from loomproxy.core.http1.limits import Limits
from loomproxy.core.message import Framing, RequestHead, ResponseHead

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

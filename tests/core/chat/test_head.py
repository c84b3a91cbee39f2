"""The head of a request to a provider."""

import re

import pytest

from loomproxy.core.chat.head import for_provider, lines_for_provider
from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire
from loomproxy.core.message import LENGTH, RequestHead

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def head(*lines: str) -> RequestHead:
    wire = RequestWire(Limits())
    wire.receive("\r\n".join(("POST /v1 HTTP/1.1", "Host: a.example", *lines, "", "")).encode())
    read = wire.poll()
    assert isinstance(read, RequestHead), read
    return read


def passed(*lines: str, seed: bytes = b"1") -> bytes:
    said = lines_for_provider(head("Content-Length: 5", *lines), b"id-1", seed)
    assert said.count(b"X-Request-ID: id-1\r\n") == 1
    return said.replace(b"X-Request-ID: id-1\r\n", b"")


def test_credentials_and_everything_else_stay_here() -> None:
    mine = ("Authorization: Bearer x", "Cookie: a=b", "Accept: */*", "Accept-Encoding: br")
    assert passed(*mine) == passed()
    assert b"a.example" not in passed()


def test_for_whom_we_ask_may_pass() -> None:
    lines = (
        "X-Forwarded-For: 192.0.2.1",
        "forwarded: for=_a",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 b",
    )
    assert passed(*lines).startswith("".join(f"{line}\r\n" for line in lines).encode())


def test_a_trace_goes_on() -> None:
    assert passed(f"Traceparent: {PARENT}", "tracestate: a=1") == (
        f"traceparent: {PARENT}\r\ntracestate: a=1\r\n".encode()
    )
    assert passed(f"traceparent: {PARENT}") == f"traceparent: {PARENT}\r\n".encode()
    long = f"tracestate: {'x' * 513}"
    assert passed(f"traceparent: {PARENT}", long) == f"traceparent: {PARENT}\r\n".encode()


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "ff" + PARENT[2:],
        PARENT.upper(),
        PARENT + "-00",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    ],
)
def test_a_trace_begins_where_there_is_none(parent: str) -> None:
    said = passed(f"traceparent: {parent}", "tracestate: a=1")
    assert re.fullmatch(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\n", said)
    assert said != passed(seed=b"2")


def test_the_head_is_ours() -> None:
    asked = head("Transfer-Encoding: chunked", "Expect: 100-continue")
    ours = for_provider(
        asked,
        b"traceparent: x\r\n",
        ((b"Authorization", b"Bearer y"), (b"x-b", b"c")),
        target=b"/chat?v=1",
        body_bytes=7,
        stream=True,
    )
    assert (ours.method, ours.target, ours.path, ours.query) == (
        b"POST",
        b"/chat?v=1",
        b"/chat",
        b"v=1",
    )
    assert (ours.framing, ours.body_bytes, ours.expect_continue) == (LENGTH, 7, False)
    assert ours.block == (
        b"Content-Type: application/json\r\nAccept: text/event-stream\r\n"
        b"Accept-Encoding: identity\r\ntraceparent: x\r\nAuthorization: Bearer y\r\nx-b: c\r\n"
    )
    whole = for_provider(asked, b"", (), target=b"/", body_bytes=7, stream=False)
    assert b"Accept: application/json\r\n" in whole.block

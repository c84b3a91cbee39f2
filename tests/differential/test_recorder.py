"""The recorder's reader is strict, and what a proxy must not let through is seen."""

import asyncio

import pytest

from tests.differential.expect import request_problems
from tests.differential.lanes import recorders
from tests.differential.play import play
from tests.differential.recorder import Reader, Received, Unreadable
from tests.support import corpus

CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"


def read(*pieces: bytes) -> list[Received]:
    """The whole requests of these pieces."""
    reader = Reader()
    found = [request for piece in pieces for request in reader.feed(piece) if request.whole]
    return [each for at, each in enumerate(found) if not any(each is had for had in found[:at])]


def test_requests_are_read_whole_however_they_are_cut():
    data = (
        CHUNKED + b"2\r\nxy\r\n0\r\nX: y\r\n\r\n" + LENGTH + b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    whole = read(data)
    assert [(each.method, each.target, each.framing, each.body) for each in whole] == [
        ("POST", "/a", "chunked", b"xy"),
        ("POST", "/b", "length", b"ab"),
        ("GET", "/c", "none", b""),
    ]
    assert whole[0].trailers == ["x: y"]
    assert read(*[data[at : at + 1] for at in range(len(data))]) == whole


def test_a_connection_is_idle_only_between_two_requests():
    reader = Reader()
    for at in range(len(LENGTH)):
        assert reader.idle is (at == 0)
        list(reader.feed(LENGTH[at : at + 1]))
    assert reader.idle


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"2;a\r\nab\r\n",
        CHUNKED + b"2\nab\r\n",
        CHUNKED + b"2\r\nabc\r\n",
        CHUNKED + b"0\r\nX\r\n\r\n",
    ],
)
def test_what_the_grammar_does_not_have_is_unreadable(data: bytes):
    with pytest.raises(Unreadable):
        read(data)


def test_without_a_proxy_between_every_case_of_smuggling_fails():
    """A proxy that passes on everything as it comes does no more than a wire."""
    cases = [case for case in corpus.requests("smuggling.toml") if case.family in {"CL.TE", "0.CL"}]

    async def played():
        async with recorders() as (made, ports):
            return await play(list(zip(ports, made, strict=True)), cases)

    seen = asyncio.run(played(), debug=False)
    passed = [case.key for case in cases if not request_problems(case, seen[case.key])]
    assert passed == []

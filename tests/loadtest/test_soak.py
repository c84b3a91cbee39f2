"""The soak's clients notice what is wrong, and its report says what was left behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

import pytest

from loadtest import soaking
from loadtest.processes import free_port
from loadtest.soak_clients import Account, Client
from loadtest.soak_report import Soaked, render
from loadtest.soak_upstream import listen
from loadtest.soak_watch import Look, differences, growth_per_million
from loadtest.trouble import Trouble

OF_UPSTREAM = ("small", "post", "16k", "1m", "1m up", "events", "websocket", "connect", "leaves")
"""What needs no proxy to go well."""

Welcome = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(data: bytes) -> Welcome:
    """A server that says the same to everybody, and closes."""

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        writer.close()

    return welcome


async def told_by(welcome: Welcome, kind: str) -> Account:
    """What a client writes down that does one thing with this server."""
    account = Account()
    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        client = Client(server.sockets[0].getsockname()[1], Random(1), account)
        await client.do(kind)
        client.leave_all()
    return account


def account_of(data: bytes, kind: str) -> Account:
    """What a client writes down that does one thing and gets these bytes."""
    return asyncio.run(told_by(answering(data), kind), debug=False)


def test_an_upstream_that_is_well_fails_no_client() -> None:
    account, port = Account(), free_port()

    async def ask_all() -> None:
        serving = asyncio.create_task(listen(1, [port]))
        while not await asyncio.to_thread(soaking.answers, port):
            pass
        client = Client(port, Random(2), account)
        for kind in OF_UPSTREAM * 3:
            await client.do(kind)
        client.leave_all()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(ask_all(), debug=False)
    assert not account.failed, account.examples
    assert account.requests == 3 * len(OF_UPSTREAM)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 Fine\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 200 Fine\r\nContent-Length: 6\r\n\r\nhalf",
        b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
        b"junk\r\n\r\n",
    ],
)
def test_whatever_is_not_the_right_answer_is_a_failure(data: bytes) -> None:
    account = account_of(data, "small")
    assert account.failed == {"small": 1}
    assert account.examples


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        (b"", True),
        (b"HTTP/1.1 200 Fine\r\nContent-Length: 6\r\n\r\npoison", True),
        (b"HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 Fine\r\nContent-Length: 6\r\n\r\nhalf", False),
    ],
)
def test_of_a_troubled_upstream_an_honest_error_and_a_visible_cut_are_no_failure(
    data: bytes, *, failed: bool
) -> None:
    account = account_of(data, "troubled")
    assert bool(account.failed) is failed
    assert bool(account.troubled) is not failed


def test_a_malformed_request_that_is_not_refused_is_a_failure() -> None:
    assert account_of(b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n", "malformed").failed


def look(requests: int = 0, rss: int = 1000, **more: int) -> Look:
    """A look at one worker, 7."""
    return Look(0.0, requests, {7: rss}, {7: more.pop("descriptors", 9)}, {7: 2}, held=more)


def test_growth_is_told_for_a_million_requests() -> None:
    looks = [look(requests, 5000 + requests // 100) for requests in range(0, 10_000, 1000)]
    assert growth_per_million(looks, 7) == pytest.approx(10_000)
    assert growth_per_million(looks[:1], 7) == 0.0


def test_what_is_not_as_before_is_named() -> None:
    assert differences(look(), look(in_flight=0)) == []
    assert differences(look(), look(in_flight=1)) == ["in_flight: 1, expected none"]
    assert differences(look(), look(descriptors=10)) == [
        "descriptors of process 7: 10, before the load 9"
    ]
    other = replace(look(), rss_bytes={8: 1000})
    assert differences(look(), other) == ["a process was replaced: see the node's log"]


def test_the_report_has_a_verdict() -> None:
    found = Soaked(Account(), looks=[look(), look(1000)], before=look(), after=look(), took_s=1.0)
    assert "back where it began" in render(found, ["date: today"])
    json.dumps(found.figures())
    found.account.asked["small"] += 1
    found.account.fail("small", "502")
    assert found.wrong == ["small: 1 failed", "0 access log lines, expected 1 to 1"]
    found.account.asked["leaves"] += 1
    found.lines = 2
    assert found.wrong == ["small: 1 failed"]
    assert "Verdict: small: 1 failed." in render(found, [])


@pytest.mark.parametrize(
    "argv", [("--minutes", "0"), ("--clients", "0"), ("--workers", "65"), ("--minutes", "99999")]
)
def test_a_soak_that_cannot_be_meant_is_refused(argv: tuple[str, str]) -> None:
    with pytest.raises(Trouble, match=f"{argv[0]}: "):
        soaking.check(soaking.parser().parse_args(argv))

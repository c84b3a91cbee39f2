"""The clients of `loadtest/plugins` take nothing for an answer that is none."""

import asyncio
import json

import pytest

from loadtest import guesting
from loadtest.guest_clients import Account, Client
from loadtest.trouble import Trouble

CHUNK = b'data: {"choices":[{"delta":{"content":"version-7"}}]}\n\n'


def whole(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def told(answer: bytes, *, stream: bool, times: int = 1) -> Account:
    """What a client writes down of this answer; each connection gets one, and is closed."""
    account = Account()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(welcome, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = Client(port, account, model="steady/steady-1", stream=stream)
            for _ in range(times):
                await client.ask()
            client.leave()

    asyncio.run(ask())
    return account


def test_good_answers_count_and_tell_the_version() -> None:
    account = told(whole(b'{"choices": "version-7"}'), stream=False)
    assert (account.done, account.version, account.failed) == (1, 7, {})
    account = told(chunked(CHUNK, b"data: [DONE]\n\n", b""), stream=True)
    assert (account.done, account.version, account.failed) == (1, 7, {})


def test_connection_that_is_said_to_end_is_not_asked_again() -> None:
    last = whole(b'{"choices": "version-7"}').replace(b"OK", b"OK\r\nConnection: close")
    account = told(last, stream=False, times=3)
    assert (account.done, account.failed) == (3, {})


@pytest.mark.parametrize(
    ("answer", "stream", "kind"),
    [
        (chunked(CHUNK, b""), True, "a stream without its end"),
        (chunked(CHUNK), True, "connection broke"),
        (whole(b"{}"), False, "an answer without what it had to say"),
        (b"", False, "connection broke"),
        (
            whole(json.dumps({"error": {"code": "provider_unavailable"}}).encode(), "503 No"),
            False,
            "status 503: provider_unavailable",
        ),
    ],
)
def test_everything_else_is_a_failure_of_its_kind(answer: bytes, stream: bool, kind: str) -> None:
    account = told(answer, stream=stream)
    assert (account.done, dict(account.failed)) == (0, {kind: 1})


@pytest.mark.parametrize("option", ["--reloads", "--kills", "--clients", "--seconds"])
def test_what_cannot_be_meant_is_refused(option: str) -> None:
    options = guesting.parser().parse_args([option, "0"])
    with pytest.raises(Trouble, match=option):
        guesting.check(options)

"""The SDK's server on the wire: what it takes, what it refuses, and how it ends."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk.server import Server, refusal
from tests.plugins.sdk.speak import TOKEN, Said, asking, linked, served

ALLOWED = f"Authorization: Bearer {TOKEN}\r\n"


def parrot(**bounds: Any) -> sdk.Plugin[Any]:
    plugin = sdk.Plugin("p", version="1.0.0", bounds=sdk.Bounds(**bounds))

    @plugin.chat
    async def chat(request: sdk.Request) -> str:
        return request.prompt

    return plugin


async def said_to(text: str | bytes, **bounds: Any) -> tuple[Said, bool]:
    """What raw bytes are answered, and whether the connection lives on."""
    async with served(parrot(**bounds)) as link:
        link.writer.write(text if isinstance(text, bytes) else text.encode())
        said = await link.answer()
        return said, said.fields.get("connection") != "close"


@pytest.mark.parametrize("path", ["/metadata", "/health", "/models", "/nothing"])
@pytest.mark.parametrize(
    "fields",
    [
        "",
        "Authorization: Bearer wrong\r\n",
        f"Authorization: Basic {TOKEN}\r\n",
        f"Authorization: Bearer {TOKEN[:-1]}\r\n",
        "Authorization: Bearer \xff\r\n",
    ],
)
async def test_no_call_is_answered_without_the_token(path: str, fields: str) -> None:
    text = f"GET {path} HTTP/1.1\r\nHost: p\r\n{fields}\r\n".encode("latin-1")
    said, lives = await said_to(text)
    assert (said.status, said.json["code"]) == (401, "authentication_failed")
    assert lives


async def test_a_body_without_the_token_is_read_past() -> None:
    async with served(parrot()) as link:
        body = {"model": "x" * 300_000}
        said = await link.ask("POST", "/chat/completions", body, Authorization="Bearer no")
        assert said.status == 401
        assert (await link.ask("GET", "/health")).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "GARBAGE\r\n\r\n",
        "GET /health HTTP/2.0\r\n\r\n",
        "GET /health\r\n\r\n",
        "GET /health HTTP/1.1\r\nBad Name: x\r\n\r\n",
        "GET /health HTTP/1.1\r\nNoColon\r\n\r\n",
        "GET /health HTTP/1.1\r\nA: x\r\n folded\r\n\r\n",
        "GET /health HTTP/1.1\r\nA: x\ny\r\n\r\n",
        "POST /cleanup HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /cleanup HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /cleanup HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /cleanup HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        f"POST /cleanup HTTP/1.1\r\n{ALLOWED}Transfer-Encoding: chunked\r\n\r\nz\r\n",
        f"POST /cleanup HTTP/1.1\r\n{ALLOWED}Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_ends_the_connection(text: str) -> None:
    said, lives = await said_to(text)
    assert (said.status, said.json["code"]) == (400, "invalid_request")
    assert not lives


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"GET / HTTP/1.1\r\nA: {'x' * 70_000}\r\n\r\n", 431),
        (f"POST /cleanup HTTP/1.1\r\n{ALLOWED}Content-Length: 2000\r\n\r\n", 413),
        (
            f"POST /cleanup HTTP/1.1\r\n{ALLOWED}Transfer-Encoding: chunked\r\n\r\n7d0\r\n"
            + "x" * 2000,
            413,
        ),
    ],
)
async def test_what_is_too_large_is_refused_and_ends_the_connection(text: str, status: int) -> None:
    said, lives = await said_to(text, body_bytes_max=1000)
    assert (said.status, said.json["code"]) == (status, "invalid_request")
    assert not lives


async def test_a_refusal_arrives_although_the_caller_is_still_sending() -> None:
    async with served(parrot(body_bytes_max=1000)) as link:
        link.writer.write(f"POST /x HTTP/1.1\r\n{ALLOWED}Content-Length: 4000000\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            link.writer.write(b"x" * 4_000_000)
            await link.writer.drain()
        assert (await link.answer()).status == 413


async def test_who_leaves_within_a_head_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    plugin = parrot()
    async with plugin.serving("127.0.0.1:0", TOKEN) as running:
        async with linked(running) as link:
            link.writer.write(b"GET /health HT")
            link.writer.close()
        async with linked(running) as other:
            assert (await other.ask("GET", "/health")).status == 200
            await other.ask("GET", "/health", Connection="close")
        await running.server.empty.wait()
    assert not capsys.readouterr().err


async def test_a_body_in_chunks_is_the_same_as_one_with_a_length() -> None:
    data = json.dumps(asking("in chunks")).encode()
    pieces = b"".join(
        b"%X;ext\r\n%b\r\n" % (len(data[i : i + 7]), data[i : i + 7])
        for i in range(0, len(data), 7)
    )
    async with served(parrot()) as link:
        for _ in range(2):
            link.writer.write(
                f"POST /chat/completions HTTP/1.1\r\n{ALLOWED}Transfer-Encoding: chunked\r\n\r\n"
                "".encode()
            )
            link.writer.write(pieces + b"0\r\nTrailer: x\r\n\r\n")
            said = await link.answer()
            assert said.json["choices"][0]["message"]["content"] == "in chunks"


async def test_a_caller_that_asks_first_is_told_to_go_on() -> None:
    async with served(parrot()) as link:
        head = f"POST /initialize HTTP/1.1\r\n{ALLOWED}Content-Length: 2\r\n"
        link.writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await link.head())[0] == 100
        link.writer.write(b"{}")
        assert (await link.answer()).status == 200


async def test_calls_may_follow_one_another_without_waiting() -> None:
    async with served(parrot()) as link:
        for text in ("one", "two", "three"):
            link.send("POST", "/chat/completions", asking(text))
        said = [(await link.answer()).json["choices"][0]["message"]["content"] for _ in range(3)]
    assert said == ["one", "two", "three"]


@pytest.mark.parametrize("stream", [True, False])
async def test_http_1_0_is_answered_without_chunks_until_the_end(stream: bool) -> None:
    data = json.dumps(asking(stream=stream)).encode()
    async with served(parrot()) as link:
        head = f"POST /chat/completions HTTP/1.0\r\n{ALLOWED}Content-Length: {len(data)}\r\n\r\n"
        link.writer.write(head.encode() + data)
        said = await link.answer()
        assert "transfer-encoding" not in said.fields
        assert not await link.reader.read()
    assert (said.events[-1] == "[DONE]") if stream else (said.status == 200)


async def test_a_request_id_is_kept_or_made() -> None:
    async with served(parrot()) as link:
        said = await link.ask("GET", "/health", None, **{"X-Request-ID": "abc"})
        assert said.fields["x-request-id"] == "abc"
        for wrong in ("", "two words", "x" * 129):
            said = await link.ask("GET", "/health", None, **{"X-Request-ID": wrong})
            assert said.fields["x-request-id"] not in {"", wrong}


async def test_beyond_its_bound_of_connections_a_plugin_refuses_at_once() -> None:
    async with parrot(connections_max=1).serving("127.0.0.1:0", TOKEN) as running:
        async with linked(running) as first:
            await first.ask("GET", "/health")
            async with linked(running) as second:
                said = await second.answer()
                assert (said.status, said.json["code"]) == (503, "provider_unavailable")
                assert not await second.reader.read()
        await running.server.empty.wait()
        async with linked(running) as third:
            assert (await third.ask("GET", "/health")).status == 200


def patient(begun: asyncio.Event, go_on: asyncio.Event) -> sdk.Plugin[Any]:
    """A plugin whose answers begin, and then wait."""
    plugin = sdk.Plugin("p", version="1.0.0")

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        yield "begun"
        begun.set()
        await go_on.wait()
        yield "done"

    return plugin


async def test_a_plugin_that_ends_finishes_what_it_began_and_takes_nothing_new() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with (
        patient(begun, go_on).serving("127.0.0.1:0", TOKEN) as running,
        linked(running) as busy,
        linked(running) as idle,
        asyncio.TaskGroup() as group,
    ):
        await busy.ask("POST", "/initialize", {})
        await idle.ask("GET", "/health")
        busy.send("POST", "/chat/completions", asking(stream=True))
        await begun.wait()
        stopping = group.create_task(running.stop())
        assert not await idle.reader.read(), "an idle connection is closed at once"
        with pytest.raises(ConnectionError):
            async with linked(running):
                pass
        assert not stopping.done()
        go_on.set()
        said = await busy.answer()
        assert said.events[-1] == "[DONE]"
        assert not await busy.reader.read()


async def test_what_takes_longer_than_the_grace_is_cancelled() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with (
        patient(begun, go_on).serving("127.0.0.1:0", TOKEN) as running,
        linked(running) as link,
    ):
        await link.ask("POST", "/initialize", {})
        link.send("POST", "/chat/completions", asking(stream=True))
        await begun.wait()
        await running.stop(grace_s=0.01)
        assert b"[DONE]" not in await link.reader.read()


async def test_a_handler_that_ignores_its_cancellation_holds_nobody_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugin = sdk.Plugin("p", version="1.0.0")
    begun, over = asyncio.Event(), asyncio.Event()

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        yield "begun"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            over.set()
        yield "I stay"

    async with plugin.serving("127.0.0.1:0", TOKEN) as running:
        async with linked(running) as link:
            await link.ask("POST", "/initialize", {})
            link.send("POST", "/chat/completions", asking(stream=True))
            await begun.wait()
        async with asyncio.timeout(1):
            await over.wait()
            await running.server.empty.wait()
        async with linked(running) as link:
            assert (await link.ask("GET", "/health")).status == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_refusal_tells_when_to_come_back_in_whole_seconds() -> None:
    error = sdk.PluginError("rate_limit_exceeded", "Slower.", retry_after=1.6)
    assert refusal(error).fields == {"Retry-After": "2"}
    assert refusal(sdk.PluginError("timeout", "Late.")).fields == {}


async def test_tokens_of_any_length_are_compared_without_an_exception() -> None:
    async def never(_call: object) -> Any:
        raise AssertionError

    server = Server(never, "sécret", sdk.Bounds())
    assert not server.knows("")
    assert not server.knows("Bearer " + "x" * 10_000)

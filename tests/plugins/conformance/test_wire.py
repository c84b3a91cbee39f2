"""A call to a plugin ends within its time and its bytes, whatever is at the other end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from loomproxy.core.endpoint import Address
from loomproxy.plugins.conformance.wire import BODY_BYTES_MAX, Answer, Heard, Where, Wire, where
from tests.plugins.sdk.upstream import Asked, Provider, answer, chunked, provider
from tests.support.authority import Authority
from tests.support.secured import bare, once

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def wire(here: Provider, within_s: float = 10.0) -> AsyncIterator[Wire]:
    port = int(here.url.rpartition(":")[2])
    made = Wire(
        where(Address("127.0.0.1", port), "/base", (("Authorization", "Bearer x"),)), within_s
    )
    try:
        yield made
    finally:
        await made.aclose()


def play(
    said: Any, does: Callable[[Wire, Provider], Coroutine[Any, Any, None]], **more: float
) -> None:
    """A provider that says this, and a wire to it."""

    async def run() -> None:
        async with provider(said) as here, wire(here, **more) as made:
            await does(made, here)

    asyncio.run(run(), debug=False)


async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A body without end, as fast as it is taken."""
    writer.write(HEAD)
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A head and an event, and then nothing."""
    writer.write(HEAD + b"9\r\ndata: 1\n\n\r\n")
    await writer.drain()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_every_call_carries_what_the_contract_says() -> None:
    async def does(made: Wire, here: Provider) -> None:
        got = await made.ask("POST", "/x", {"a": 1}, fields={"X-More": "1"})
        assert (got.ok, got.json()) == (True, {})
        asked = here.asked[0]
        assert asked.first == "POST /base/x HTTP/1.1"
        assert asked.json == {"a": 1}
        assert asked.fields["authorization"] == "Bearer x"
        assert asked.fields["x-more"] == "1"
        assert asked.fields["traceparent"].split("-")[1] == asked.fields["x-request-id"]
        await made.ask("GET", "/x", secrets=())
        assert "authorization" not in here.asked[1].fields
        assert made.connections == 1

    play(answer({}), does)


def test_redirects_are_not_followed() -> None:
    async def does(made: Wire, here: Provider) -> None:
        got = await made.ask("GET", "/x")
        assert (got.status, got.ok, len(here.asked)) == (302, False, 1)

    play(answer({}, "302 Found", Location="/y"), does)


def test_a_body_without_end_is_cut() -> None:
    async def does(made: Wire, _: Provider) -> None:
        got = await made.ask("GET", "/x")
        assert (got.status, got.ok, got.late) == (200, False, False)
        assert BODY_BYTES_MAX < len(got.body) < BODY_BYTES_MAX + (1 << 20)
        heard = await made.listen("/x", {})
        assert "is above" in heard.trouble
        assert not heard.ended

    play(endless, does)


def test_silence_ends_with_its_time() -> None:
    async def does(made: Wire, _: Provider) -> None:
        got = await made.ask("GET", "/x")
        assert (got.status, got.ok, got.late) == (200, False, True)
        heard = await made.listen("/x", {})
        assert (heard.late, heard.ended, [event.data for event in heard.events]) == (
            True,
            False,
            ["1"],
        )
        assert "within 0.2 s" in str(heard)

    play(never, does, within_s=0.2)


def test_what_is_no_http_is_told_and_not_raised() -> None:
    async def does(made: Wire, _: Provider) -> None:
        for got in (await made.ask("GET", "/x"), await made.listen("/x", {})):
            assert "no whole HTTP answer" in str(got)

    play(b"\x00\xff\x1b[31m\r\n\r\n", does)


def test_a_connection_that_breaks_keeps_what_had_come() -> None:
    async def does(made: Wire, _: Provider) -> None:
        got = await made.ask("GET", "/x")
        assert (got.status, got.body, bool(got.trouble)) == (200, b"data: 1\n\n", True)
        heard = await made.listen("/x", {})
        assert ([event.data for event in heard.events], heard.ended) == (["1"], False)
        assert heard.trouble

    play([*chunked([b"data: 1\n\n"])[:-1], b""], does)


def test_a_stream_is_left_after_enough_events() -> None:
    async def does(made: Wire, _: Provider) -> None:
        heard = await made.listen("/x", {}, events_max=1)
        assert (len(heard.events), heard.ended, heard.trouble) == (1, False, "")

    play(never, does)


def test_nobody_there_is_told() -> None:
    async def run() -> None:
        made = Wire(where(Address(path="/nonexistent/plugin.sock")), 5.0)
        got: list[Answer | Heard] = [await made.ask("GET", "/x"), await made.listen("/x", {})]
        assert all("no connection" in str(one) for one in got)
        await made.aclose()

    asyncio.run(run(), debug=False)


def test_an_error_object_is_one_only_with_a_code_of_the_contract() -> None:
    good = b'{"code": "timeout", "message": "late", "transient": true, "more": 1}'
    error = Answer("GET /x", 504, {}, good).error()
    assert error is not None
    assert (error.code, error.transient) == ("timeout", True)
    for body in (b"", b"[]", b'{"error": "boom"}', b'{"code": "E17", "message": "no"}', b"\xff"):
        assert Answer("GET /x", 500, {}, body).error() is None


def test_a_plugin_behind_tls_is_believed_where_the_system_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)

    async def asked(url: str) -> Answer:
        made = Wire(Where(url), 10.0)
        try:
            return await made.ask("GET", "/health")
        finally:
            await made.aclose()

    with bare(once, authority.server(authority.certificate("plugin"))) as url:
        assert "certificate" in asyncio.run(asked(url)).trouble
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert asyncio.run(asked(url)).status == 200

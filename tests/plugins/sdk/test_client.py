"""The SDK's client: what a plugin hears of a provider that answers, refuses, stalls, breaks off."""

import asyncio
import datetime
import email.utils
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk import wire
from tests.plugins.sdk.upstream import Asked, answer, chunked, provider
from tests.support.places import silent_place


async def error_for(said: Any, **more: Any) -> sdk.PluginError:
    """What a plugin is told when the provider says this."""
    async with provider(said) as upstream:
        client = sdk.Client(upstream.url, **more)
        with pytest.raises(sdk.PluginError) as caught:
            await client.post("/v1/chat", {})
        await client.aclose()
    return caught.value


async def test_json_goes_there_and_back_over_one_connection() -> None:
    async with provider(answer({"answer": 42})) as upstream:
        client = sdk.Client(f"{upstream.url}/base/", fields={"x-api-key": "k"})
        assert await client.post("/ask", {"q": "é"}) == {"answer": 42}
        assert await client.get("/list?page=2") == {"answer": 42}
        assert upstream.connections == 1
        await client.aclose()
    posted, got = upstream.asked
    assert posted.first == "POST /base/ask HTTP/1.1"
    assert (posted.json, posted.fields["x-api-key"]) == ({"q": "é"}, "k")
    assert posted.fields["host"] == upstream.url.removeprefix("http://")
    assert (got.first, got.body) == ("GET /base/list?page=2 HTTP/1.1", b"")


async def test_a_connection_that_the_provider_closed_is_not_used_again() -> None:
    async with provider([answer({}), b""], answer({})) as upstream:
        client = sdk.Client(upstream.url)
        await client.get("/")
        assert await client._free[0].reader.read() == b"", "the end has arrived"
        await client.get("/")
        assert upstream.connections == 2
        await client.aclose()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer([1]),
        b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n[1]",
        [b"HTTP/1.0 200 OK\r\n\r\n[1", b"]", b""],
        chunked([b"[", b"1]"]),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n[1]\r\n0\r\nX: y\r\n\r\n",
    ],
)
async def test_bodies_are_framed_in_every_way(said: Any) -> None:
    async with provider(said) as upstream:
        client = sdk.Client(upstream.url)
        assert await client.get("/") == [1]
        await client.aclose()


async def test_an_answer_without_a_body_is_none() -> None:
    async with provider(b"HTTP/1.1 204 No Content\r\n\r\n") as upstream:
        client = sdk.Client(upstream.url)
        assert await client.post("/", {}) is None
        await client.aclose()


STATUSES = [
    ("400 Bad Request", "invalid_request", False),
    ("401 Unauthorized", "authentication_failed", False),
    ("402 Payment Required", "quota_exceeded", False),
    ("403 Forbidden", "authentication_failed", False),
    ("404 Not Found", "model_not_found", False),
    ("408 Request Timeout", "timeout", True),
    ("413 Content Too Large", "invalid_request", False),
    ("429 Too Many Requests", "rate_limit_exceeded", True),
    ("500 Oops", "provider_unavailable", True),
    ("504 Gateway Timeout", "timeout", True),
    ("529 Overloaded", "provider_unavailable", True),
    ("302 Found", "provider_unavailable", False),
]


@pytest.mark.parametrize(("status", "code", "transient"), STATUSES)
async def test_a_status_is_a_code(status: str, code: str, transient: bool) -> None:
    error = await error_for(answer({"error": {"message": "No."}}, status))
    assert (error.code, error.transient) == (code, transient)
    assert error.details["status"] == int(status[:3])
    assert "No." in error.message or status.startswith("302")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Boom.", "type": "x"}}, "Boom. (status 500)"),
        ({"error": "Boom."}, "Boom. (status 500)"),
        ({"message": "Boom."}, "Boom. (status 500)"),
        ({"error": 3}, '{"error": 3} (status 500)'),
        (b"<h1>Boom.</h1>", "<h1>Boom.</h1> (status 500)"),
        (b"", "answered 500."),
    ],
)
async def test_what_a_refusal_says_becomes_the_message(body: Any, message: str) -> None:
    error = await error_for(answer(body, "500 Oops"))
    assert error.message.partition(": ")[2] == message


async def test_retry_after_may_be_seconds_or_a_date() -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    date = email.utils.format_datetime(soon, usegmt=True)
    for text, low, high in (("7", 7, 7), ("1.5", 1.5, 1.5), (date, 25, 30)):
        error = await error_for(answer({}, "429 Slow", Retry_After=text))
        assert low <= error.details["retry_after"] <= high
    for text in ("soon", "-1", "Fri, 99 Foo"):
        error = await error_for(answer({}, "429 Slow", Retry_After=text))
        assert "retry_after" not in error.details


async def test_an_account_that_is_used_up_is_told_from_a_rate() -> None:
    body = {"error": {"code": "insufficient_quota", "message": "Pay."}}
    error = await error_for(answer(body, "429 Too Many Requests"))
    assert (error.code, error.transient) == ("quota_exceeded", False)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([b""], "ended before an answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1", b""], "before the end of a body"),
        ([chunked([b"[1"])[0], b"5\r\n[1", b""], "within a chunk"),
        (b"SSH-2.0-OpenSSH hello there\r\n\r\n", "first line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "disagree"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "65536 bytes"),
        (answer(b"{"), "no JSON"),
        (answer(b"[NaN]"), "no JSON"),
    ],
)
async def test_what_is_no_answer_is_unavailable_and_transient(said: Any, words: str) -> None:
    error = await error_for(said)
    assert (error.code, error.transient) == ("provider_unavailable", True)
    assert words in error.message


async def test_nobody_listens() -> None:
    async with provider(b"") as upstream:
        url = upstream.url
    with pytest.raises(sdk.PluginError, match="no connection") as caught:
        await sdk.Client(url).get("/")
    assert (caught.value.code, caught.value.transient) == ("provider_unavailable", True)


async def test_who_does_not_take_the_connection_is_waited_for_no_longer_than_allowed() -> None:
    with silent_place() as port:
        client = sdk.Client(f"http://127.0.0.1:{port}", timeouts=sdk.Timeouts(connect_s=0.05))
        with pytest.raises(sdk.PluginError, match="no connection within") as caught:
            await client.get("/")
    assert caught.value.transient


@pytest.mark.parametrize(
    ("said", "words"),
    [([b"HTTP/1.1 200 OK\r\n"], "no answer within"), ([chunked([])[0]], "nothing came for")],
)
async def test_each_phase_has_its_timeout(said: Any, words: str) -> None:
    async def stall(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.writelines(said)

    short = sdk.Timeouts(first_byte_s=0.1, idle_s=0.1)
    error = await error_for(stall, timeouts=short)
    assert (error.code, error.transient) == ("timeout", True)
    assert words in error.message


async def test_beyond_its_bound_a_request_waits_and_then_gives_up() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def stall(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await go_on.wait()

    async with provider(stall) as upstream, asyncio.TaskGroup() as group:
        short = sdk.Timeouts(connect_s=0.05)
        client = sdk.Client(upstream.url, timeouts=short, connections_max=1)
        first = group.create_task(client.get("/"))
        await arrived.wait()
        with pytest.raises(sdk.PluginError, match="all connections are in use"):
            await client.get("/")
        first.cancel()
        go_on.set()


async def test_a_stream_of_events_and_one_of_lines() -> None:
    text = "event: a\ndata: 1\ndata: 2\n\n: comment\n\ndata:3\r\n\r\ndata: cut"
    async with provider(chunked([text.encode()]), chunked([b'{"a":1}\n{"b"', b":2}"])) as upstream:
        client = sdk.Client(upstream.url)
        async with client.stream("/", {}) as stream:
            assert [event async for event in stream.events()] == [
                sdk.Event("a", "1\n2"),
                sdk.Event("message", "3"),
            ]
        async with client.stream("/", {}) as stream:
            assert [line async for line in stream.lines()] == ['{"a":1}', '{"b":2}']
        assert upstream.connections == 1, (
            "a stream that was read to its end gives its connection back"
        )
        await client.aclose()


async def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_BYTES_MAX", 100)
    async with provider(chunked([b"x" * 60, b"x" * 60])) as upstream:
        client = sdk.Client(upstream.url)
        with pytest.raises(sdk.PluginError, match="a line may have 100 bytes") as caught:
            async with client.stream("/", {}) as stream:
                assert [line async for line in stream.lines()]
    assert (caught.value.code, caught.value.transient) == ("provider_unavailable", False)


async def test_a_stream_that_is_left_early_closes_its_connection() -> None:
    async def trickle(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.writelines(chunked([b"one\n"])[:2])

    async with provider(trickle) as upstream:
        client = sdk.Client(upstream.url)
        async with client.stream("/", {}) as stream:
            assert await anext(stream.lines()) == "one"
        async with asyncio.timeout(1):
            await upstream.left.wait()


def certified(place: Path) -> Path:
    """A certificate for localhost that nobody signed but itself, with its key."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    files = ("-keyout", place / "pem", "-out", place / "pem")
    words = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2")
    subprocess.run(
        ["openssl", "req", "-x509", *key, *files, *words], check=True, capture_output=True
    )
    return place / "pem"


async def test_tls_is_checked_against_whom_one_trusts(tmp_path: Path) -> None:
    made = certified(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(made)
    async with provider(answer([1]), tls=ours) as upstream:
        trusting = sdk.Client(upstream.url, tls=ssl.create_default_context(cafile=made))
        assert await trusting.get("/") == [1]
        assert await trusting.get("/") == [1]
        assert upstream.connections == 1
        await trusting.aclose()
        with pytest.raises(sdk.PluginError, match="TLS failed") as caught:
            await sdk.Client(upstream.url).get("/")
    assert (caught.value.code, caught.value.transient) == ("provider_unavailable", False)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:y", "x", "http://x:99999"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(sdk.PluginError, match="is no http"):
        sdk.Client(url)


async def test_a_key_with_a_line_break_reaches_nobody() -> None:
    async with provider(answer({})) as upstream:
        client = sdk.Client(upstream.url, fields={"x-api-key": "k\r\nEvil: yes"})
        with pytest.raises(sdk.PluginError, match="line break"):
            await client.get("/")
        assert not upstream.asked

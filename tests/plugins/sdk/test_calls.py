"""The six calls of a plugin that the SDK made: what the proxy sees of it."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loomproxy.plugins import contract, sdk
from tests.plugins.sdk.speak import TOKEN, Link, asking, linked, served


@dataclass(frozen=True)
class Config:
    api_key: str = sdk.secret("From your account.")
    retries: int = sdk.option(2, min=0, max=5)


def echo(**words: Any) -> sdk.Plugin[Any]:
    plugin = sdk.Plugin("echo", version="1.2.3", **words)

    @plugin.chat
    async def chat(request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        for index, word in enumerate(request.prompt.split()):
            yield word if index == 0 else f" {word}"
        yield sdk.Usage(prompt_tokens=3, completion_tokens=4)

    return plugin


async def streamed(link: Link, **more: Any) -> list[contract.StreamChunk]:
    """The chunks of a stream that ends as it should, as the proxy types them."""
    said = await link.ask("POST", "/chat/completions", asking(stream=True, **more))
    assert (said.status, said.fields["content-type"]) == (200, "text/event-stream")
    *chunks, done = said.events
    assert done == "[DONE]"
    return [msgspec.json.decode(chunk, type=contract.StreamChunk) for chunk in chunks]


async def test_metadata_and_models_are_what_the_author_wrote() -> None:
    plugin = echo(name="Echo", license="MIT", capabilities=("vision", "brewing"), config=Config)
    plugin.model("echo-1", context_window=8192, input_cost_per_mtoken=0.5)
    async with served(plugin, None) as link:
        said = await link.ask("GET", "/metadata")
        metadata = msgspec.json.decode(said.body, type=contract.Metadata)
        models = msgspec.json.decode(
            (await link.ask("GET", "/models")).body, type=list[contract.ModelInfo]
        )
    assert (metadata.provider_type, metadata.version, metadata.name) == ("echo", "1.2.3", "Echo")
    assert metadata.plugin_api_version == contract.API_VERSION == sdk.API_VERSION
    can = contract.Capabilities(streaming=True, vision=True, custom_capabilities={"brewing": True})
    assert metadata.capabilities == can
    assert [field.name for field in metadata.config_schema] == ["api_key", "retries"]
    assert metadata.config_schema[0].required
    assert metadata.config_schema[0].sensitive
    assert models == [
        contract.ModelInfo(
            id="echo-1", context_window=8192, input_cost_per_mtoken=0.5, capabilities=can
        )
    ]


async def test_it_is_unhealthy_before_it_is_initialised_and_after_cleanup() -> None:
    async with served(echo(), None) as link:
        said = await link.ask("GET", "/health")
        assert said.status == 200
        health = msgspec.json.decode(said.body, type=contract.HealthStatus)
        assert (health.healthy, health.message) == (False, "not initialized")
        assert datetime.datetime.fromisoformat(health.checked_at).utcoffset() is not None
        early = await link.ask("POST", "/chat/completions", asking())
        assert (early.status, early.json["code"]) == (503, "provider_unavailable")
        assert (await link.ask("POST", "/initialize", {})).json == {}
        assert (await link.ask("GET", "/health")).json["healthy"] is True
        assert (await link.ask("POST", "/cleanup")).json == {}
        assert (await link.ask("GET", "/health")).json["message"] == "cleaned up"


async def test_a_wrong_configuration_is_refused_with_all_that_is_wrong() -> None:
    plugin = echo(config=Config)
    async with served(plugin, {"api_key": "k"}) as link:
        wrong = {"retries": 9, "colour": "red"}
        said = await link.ask("POST", "/initialize", wrong)
        assert (said.status, said.json["code"]) == (400, "invalid_request")
        assert len(said.json["details"]["problems"]) == 3
        assert plugin.config == Config("k", 2), "what was there before stays"


async def test_an_initialise_hook_may_refuse_and_the_configuration_before_stays() -> None:
    plugin = echo(config=Config)
    seen = []

    @plugin.initialize
    async def initialize() -> None:
        seen.append(plugin.config.api_key)
        if plugin.config.api_key == "stolen":
            raise sdk.PluginError("authentication_failed", "The key was withdrawn.")

    async with served(plugin, {"api_key": "k"}) as link:
        said = await link.ask("POST", "/initialize", {"api_key": "stolen"})
        assert (said.status, said.json["code"]) == (401, "authentication_failed")
    assert seen == ["k", "stolen"]


async def test_a_handler_that_yields_is_streamed_or_joined() -> None:
    async with served(echo()) as link:
        chunks = await streamed(link)
        whole = msgspec.json.decode(
            (await link.ask("POST", "/chat/completions", asking())).body,
            type=contract.ChatResponse,
        )
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hello", " big", " world", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert [chunk.usage is None for chunk in chunks] == [True, True, True, False]
    assert chunks[-1].usage == whole.usage == contract.Usage(3, 4, 7)
    assert {chunk.id for chunk in chunks} != {whole.id}
    assert whole.choices[0].message.content == "hello big world"
    assert (whole.model, whole.choices[0].finish_reason) == ("m", "stop")


@pytest.mark.parametrize(
    "answer",
    [
        "hello",
        sdk.Reply("hello"),
        sdk.Delta("hello"),
        {"choices": [{"message": {"role": "assistant", "content": "hello"}}]},
    ],
)
async def test_a_handler_that_returns_is_streamed_or_joined(answer: Any) -> None:
    plugin = sdk.Plugin("p", version="1.0.0")

    @plugin.chat
    async def chat(_request: sdk.Request) -> sdk.Piece:
        return answer

    async with served(plugin) as link:
        chunks = await streamed(link)
        whole = (await link.ask("POST", "/chat/completions", asking())).json
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hello", None]
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
        }
    ]


def failing(after: int, error: Exception) -> sdk.Plugin[Any]:
    plugin = sdk.Plugin("p", version="1.0.0")

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        for _ in range(after):
            yield "word "
        raise error

    return plugin


ERROR = sdk.PluginError("rate_limit_exceeded", "Slower.", retry_after=7)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_chunk_has_its_own_status(stream: bool) -> None:
    async with served(failing(0, ERROR)) as link:
        said = await link.ask("POST", "/chat/completions", asking(stream=stream))
    assert (said.status, said.fields["retry-after"]) == (429, "7")
    assert said.json == {
        "code": "rate_limit_exceeded",
        "message": "Slower.",
        "transient": True,
        "details": {"retry_after": 7},
    }


async def test_an_error_after_the_first_chunk_is_an_event_and_no_done_follows() -> None:
    async with served(failing(1, ERROR)) as link:
        said = await link.ask("POST", "/chat/completions", asking(stream=True))
        assert said.status == 200
        chunk, error = said.events
        assert json.loads(chunk)["choices"][0]["delta"]["content"] == "word "
        assert json.loads(error) == {"error": ERROR.as_dict()}
        assert (await link.ask("GET", "/health")).status == 200, "the connection lives on"


@pytest.mark.parametrize("after", [0, 1])
async def test_a_traceback_is_for_the_log_alone(
    after: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(failing(after, RuntimeError("the secret place"))) as link:
        more = {"X-Request-ID": "abc-1"}
        said = await link.ask("POST", "/chat/completions", asking(stream=True), **more)
    error = json.loads(said.events[-1])["error"] if after else said.json
    assert (error["code"], error["transient"]) == ("internal_error", False)
    assert b"secret place" not in said.body
    assert b"Traceback" not in said.body
    logged = capsys.readouterr().err
    assert "abc-1" in logged
    assert "RuntimeError: the secret place" in logged
    assert said.fields["x-request-id"] == "abc-1"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:{}/p.sock"])
async def test_a_caller_that_leaves_cancels_the_handler(
    stream: bool, after: int, address: str, tmp_path: Path
) -> None:
    plugin = sdk.Plugin("p", version="1.0.0")
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        try:
            for _ in range(after):
                yield "word"
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with plugin.serving(address.format(tmp_path), TOKEN) as running:
        async with linked(running) as link:
            await link.ask("POST", "/initialize", {})
            link.send("POST", "/chat/completions", asking(stream=stream))
            await begun.wait()
        async with asyncio.timeout(1):
            await cancelled.wait()


async def test_a_handler_that_stands_at_a_yield_learns_of_a_caller_that_leaves() -> None:
    plugin = sdk.Plugin("p", version="1.0.0")
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        try:
            while True:  # The caller reads nothing: soon the socket is full.
                yield "x" * 65536
                begun.set()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with plugin.serving("127.0.0.1:0", TOKEN) as running:
        async with linked(running) as link:
            await link.ask("POST", "/initialize", {})
            link.send("POST", "/chat/completions", asking(stream=True))
            await begun.wait()
        async with asyncio.timeout(1):
            await cancelled.wait()


async def test_a_caller_that_reads_slowly_slows_the_handler() -> None:
    plugin = sdk.Plugin("p", version="1.0.0")
    made = 0

    @plugin.chat
    async def chat(_request: sdk.Request) -> AsyncIterator[sdk.Piece]:
        nonlocal made
        for _ in range(2000):
            made += 1
            yield "x" * 65536

    async with (
        plugin.serving("127.0.0.1:0", TOKEN) as running,
        linked(running) as slow,
        linked(running) as other,
    ):
        await slow.ask("POST", "/initialize", {})
        slow.reader._limit = 1024  # What is not read stays in the kernel's buffers.
        slow.send("POST", "/chat/completions", asking(stream=True))
        await slow.head()
        for _ in range(200):
            await other.ask("GET", "/health")
        before = made
        for _ in range(20):
            await other.ask("GET", "/health")
        assert made == before < 2000


async def test_beyond_its_bound_in_flight_a_plugin_refuses_at_once() -> None:
    plugin = sdk.Plugin("p", version="1.0.0", bounds=sdk.Bounds(in_flight_max=1))
    begun, go_on = asyncio.Event(), asyncio.Event()

    @plugin.chat
    async def chat(_request: sdk.Request) -> str:
        begun.set()
        await go_on.wait()
        return "late"

    async with (
        plugin.serving("127.0.0.1:0", TOKEN) as running,
        linked(running) as first,
        linked(running) as second,
    ):
        await first.ask("POST", "/initialize", {})
        first.send("POST", "/chat/completions", asking())
        await begun.wait()
        said = await second.ask("POST", "/chat/completions", asking())
        assert (said.status, said.json["transient"]) == (503, True)
        go_on.set()
        assert (await first.answer()).status == 200
        assert (await second.ask("POST", "/chat/completions", asking())).status == 200


async def test_models_that_were_named_are_the_only_ones() -> None:
    plugin = echo()
    plugin.model("m")
    async with served(plugin) as link:
        assert (await link.ask("POST", "/chat/completions", asking())).status == 200
        said = await link.ask("POST", "/chat/completions", {**asking(), "model": "n"})
        assert (said.status, said.json["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/chat/completions", 405), ("HEAD", "/health", 405), ("GET", "/admin", 404)],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with served(echo()) as link:
        link.send(method, path)
        said = await link.answer(bodiless=method == "HEAD")
        assert said.status == status
        if method != "HEAD":
            assert said.json["code"] == "invalid_request"
        assert (await link.ask("GET", "/health?x=1")).status == 200


def test_what_is_no_async_function_is_refused_where_it_is_written() -> None:
    plugin = sdk.Plugin("p", version="1.0.0")
    with pytest.raises(TypeError, match="to_thread"):
        plugin.chat(lambda _request: "x")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match=r"@plugin\.health"):
        plugin.health(lambda: True)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="provider_type"):
        sdk.Plugin("No Name", version="1.0.0")
    with pytest.raises(ValueError, match="model_not_found"):
        sdk.PluginError("oops", "There is no such code.")

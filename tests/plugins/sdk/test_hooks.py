"""What an author's hooks say, and what is told of those that fail."""

import asyncio
import json
from typing import Any

import pytest

from loomproxy.plugins import sdk
from tests.plugins.sdk.speak import asking, served
from tests.plugins.sdk.test_calls import echo


async def test_a_hook_may_list_the_models() -> None:
    plugin = echo()

    @plugin.models
    async def models() -> list[Any]:
        return [sdk.Model("a"), {"id": "b"}]

    async with served(plugin, None) as link:
        assert (await link.ask("GET", "/models")).status == 503
        await link.ask("POST", "/initialize", {})
        assert [model["id"] for model in (await link.ask("GET", "/models")).json] == ["a", "b"]


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (None, (True, "OK", {})),
        (False, (False, "unhealthy", {})),
        (sdk.Health(True, "busy", {"depth": 3}), (True, "busy", {"depth": 3})),
        (sdk.PluginError("timeout", "It sleeps."), (False, "timeout: It sleeps.", {})),
    ],
)
async def test_a_health_hook_says_how_it_is(says: Any, expected: tuple[Any, ...]) -> None:
    plugin = echo()

    @plugin.health
    async def health() -> Any:
        if isinstance(says, Exception):
            raise says
        return says

    async with served(plugin) as link:
        said = await link.ask("GET", "/health")
    assert said.status == 200
    assert (said.json["healthy"], said.json["message"], said.json["details"]) == expected


async def test_a_health_hook_that_fails_is_unhealthy_and_tells_only_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugin = echo()

    @plugin.health
    async def health() -> None:
        raise RuntimeError("a secret place")

    async with served(plugin) as link:
        said = await link.ask("GET", "/health")
    assert (said.status, said.json["healthy"]) == (200, False)
    assert b"secret" not in said.body
    assert "a secret place" in capsys.readouterr().err


async def test_without_a_chat_handler_the_log_says_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with served(sdk.Plugin("p", version="1.0.0")) as link:
        said = await link.ask("POST", "/chat/completions", asking())
    assert (said.status, said.json["code"]) == (500, "internal_error")
    assert "@plugin.chat" in capsys.readouterr().err


async def test_what_json_cannot_say_is_the_plugins_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugin = sdk.Plugin("p", version="1.0.0")

    @plugin.chat
    async def chat(_request: sdk.Request) -> sdk.Piece:
        return sdk.Delta("x", more={"score": float("nan")})

    async with served(plugin) as link:
        whole = await link.ask("POST", "/chat/completions", asking())
        stream = await link.ask("POST", "/chat/completions", asking(stream=True))
    assert whole.json["code"] == "internal_error"
    assert json.loads(stream.events[-1])["error"]["code"] == "internal_error"
    assert capsys.readouterr().err.count("not JSON compliant") == 2


async def test_a_health_hook_that_hangs_is_unhealthy() -> None:
    plugin = echo(bounds=sdk.Bounds(health_timeout_s=0.01))

    @plugin.health
    async def health() -> None:
        await asyncio.Event().wait()

    async with served(plugin) as link:
        said = await link.ask("GET", "/health")
    assert said.json["healthy"] is False
    assert "timed out" in said.json["message"]


async def test_cleanup_runs_once_by_call_or_at_the_end() -> None:
    for called in (True, False):
        plugin = echo()
        cleaned = []

        @plugin.cleanup
        async def cleanup(cleaned: list[int] = cleaned) -> None:
            cleaned.append(1)

        async with served(plugin) as link:
            if called:
                await link.ask("POST", "/cleanup")
        assert cleaned == [1]

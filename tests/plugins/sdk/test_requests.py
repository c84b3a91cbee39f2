"""What a chat handler is given, and which requests never reach one."""

from typing import Any

import pytest

from loomproxy.plugins import sdk
from tests.plugins.sdk.speak import asking, served


def silent(seen: list[sdk.Request]) -> sdk.Plugin[Any]:
    plugin = sdk.Plugin("p", version="1.0.0")

    @plugin.chat
    async def chat(request: sdk.Request) -> str:
        seen.append(request)
        return ""

    return plugin


WRONG = [
    ([], "no JSON object"),
    ({"messages": [{"role": "user", "content": "x"}]}, "model"),
    ({"model": "m"}, "messages"),
    ({"model": "m", "messages": []}, "messages"),
    ({"model": "m", "messages": ["x"]}, "messages[0]"),
    ({"model": "m", "messages": [{"role": "king"}]}, "messages[0].role"),
    ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"model": "m", "messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
    (asking(temperature=2.1), "temperature"),
    (asking(top_p="1"), "top_p"),
    (asking(presence_penalty=True), "presence_penalty"),
    (asking(max_tokens=0), "max_tokens"),
    (asking(max_completion_tokens=1.5), "max_completion_tokens"),
    (asking(stop=3), "stop"),
    (asking(stop=[3]), "stop"),
    (asking(stream="yes"), "stream"),
    (asking(tools="hammer"), "tools"),
    (asking(n=[]), "n:"),
    (asking(n=True), "n:"),
    (asking(plugin_specific="x"), "plugin_specific"),
    (asking(response_format="json"), "response_format:"),
    (asking(response_format={"type": ["json"]}), "response_format.type"),
    ({"model": "m", "messages": [{"role": "user", "name": 1}]}, "messages[0].name"),
    ({"model": "m", "messages": [{"role": "tool", "tool_call_id": []}]}, "messages[0].tool_call"),
    ({"model": "m", "messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_c"),
    ({"model": "m", "messages": [{"role": "user", "content": [{"type": []}]}]}, "[0].content"),
]


@pytest.mark.parametrize(("body", "named"), WRONG, ids=[named for _, named in WRONG])
async def test_a_request_that_is_none_is_refused_by_name(body: Any, named: str) -> None:
    seen: list[sdk.Request] = []
    async with served(silent(seen)) as link:
        said = await link.ask("POST", "/chat/completions", body)
    assert not seen
    assert (said.status, said.json["code"]) == (400, "invalid_request")
    assert named in said.json["message"]


async def test_what_is_absent_is_none_and_zero_is_zero() -> None:
    seen: list[sdk.Request] = []
    async with served(silent(seen)) as link:
        more = {"temperature": 0, "stop": "END", "tools": [{"type": "function"}], "seed": 4}
        parts = [
            {"type": "text", "text": "a"},
            {"type": "image_url"},
            {"type": "text", "text": "b"},
        ]
        await link.ask("POST", "/chat/completions", asking(parts, **more), traceparent="00-1-2-01")
        await link.ask("POST", "/chat/completions", asking(max_completion_tokens=9, max_tokens=3))
    first, second = seen
    assert (first.temperature, first.top_p, first.max_tokens) == (0, None, None)
    assert (first.stop, first.tools, first.raw["seed"]) == (("END",), [{"type": "function"}], 4)
    assert (first.prompt, first.traceparent) == ("ab", "00-1-2-01")
    assert (second.max_tokens, second.stop) == (9, ())

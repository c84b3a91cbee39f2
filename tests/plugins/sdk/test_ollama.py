"""The example that asks Ollama: its lines, models and errors, against recorded shapes."""

import json
from typing import Any

import pytest

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk.chat import Chunks, read_request
from loomproxy.plugins.sdk.wire import Lines
from tests.plugins.sdk import shipped
from tests.plugins.sdk.speak import asking, served
from tests.plugins.sdk.upstream import Provider, answer, chunked, provider

CHAT = shipped.module("ollama", "ollama_chat")
RECORDED = ("ollama-text", "ollama-tools")


def plugin(upstream: Provider, **config: Any) -> Any:
    """The example, initialised to ask a provider of ours."""
    return served(shipped.module("ollama").plugin, {"endpoint": upstream.url, **config})


def asked(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What Ollama is asked."""
    body = CHAT.body_of(
        read_request({"model": "m", "messages": messages and [*messages], **more}), ""
    )
    assert isinstance(body, dict)
    return body


def without_ids(whole: dict[str, Any]) -> dict[str, Any]:
    """A completion without the ids that are made anew each time."""
    del whole["id"]
    for call in whole["choices"][0]["message"].get("tool_calls", ()):
        if call["id"] != "call_own":
            assert call.pop("id").startswith("call_")
    return whole


@pytest.mark.parametrize("name", RECORDED)
def test_every_split_of_a_recorded_stream_means_the_same(name: str) -> None:
    text = shipped.recorded(f"{name}.ndjson")

    def lines(*pieces: bytes) -> list[str]:
        found = Lines()
        return [line for piece in pieces for line in found.feed(piece)]

    for at in range(1, len(text)):
        assert lines(text[:at], text[at:]) == lines(text)
    chunks, translated = Chunks("m"), CHAT.Answer()
    made = [
        chunk
        for line in lines(*(text[at : at + 1] for at in range(len(text))))
        for piece in translated.take(line)
        for chunk in chunks.take(piece)
    ]
    whole = shipped.completion([*made, *chunks.end()])
    assert without_ids(whole) == shipped.golden(name)


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_recorded_stream_reaches_the_proxy(name: str, stream: bool) -> None:
    text = shipped.recorded(f"{name}.ndjson")
    said = chunked([text[at : at + 90] for at in range(0, len(text), 90)], "application/x-ndjson")
    async with provider(said) as upstream, plugin(upstream, keep_alive="10m") as link:
        got = await link.ask("POST", "/chat/completions", asking(stream=stream))
        if stream:
            assert got.events[-1] == "[DONE]"
            whole = shipped.completion([json.loads(event) for event in got.events[:-1]])
        else:
            whole = got.json
            del whole["created"]
    assert without_ids(whole) == shipped.golden(name)
    assert upstream.asked[-1].first == "POST /api/chat HTTP/1.1"
    assert upstream.asked[-1].json["keep_alive"] == "10m"


def test_messages_images_and_tools_find_their_places() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    tool = {"type": "function", "function": {"name": "f"}}
    pixel = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    body = asked(
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "See"}, pixel]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "7"},
        {"role": "function", "name": "g", "content": "8"},
        tools=[tool],
    )
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "See", "images": ["iVBO"]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "7", "tool_name": "f"},
        {"role": "tool", "content": "8", "tool_name": "g"},
    ]
    assert body["tools"] == [tool]
    hello = {"role": "user", "content": "x"}
    assert "tools" not in asked(hello, tools=[tool], tool_choice="none")


def test_what_bounds_and_steers_an_answer_is_translated() -> None:
    body = asked(
        {"role": "user", "content": "x"},
        temperature=0,
        seed=7,
        max_tokens=9,
        stop=["END"],
        plugin_specific={"think": False, "options": {"num_ctx": 8192}},
    )
    assert body["options"] == {
        "temperature": 0,
        "seed": 7,
        "num_predict": 9,
        "stop": ["END"],
        "num_ctx": 8192,
    }
    assert (body["think"], body["stream"]) == (False, True)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}, {"type": "array"}),
        ({"type": "json_schema", "json_schema": {}}, "json"),
    ],
)
def test_the_form_of_an_answer(form: dict[str, Any], expected: Any) -> None:
    assert asked({"role": "user", "content": "x"}, response_format=form).get("format") == expected


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "input_audio"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a"}}]},
        {"role": "assistant", "content": "", "tool_calls": ["f"]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "f", "arguments": "[" * 99_999}}],
        },
    ],
)
def test_what_ollama_cannot_do_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(sdk.PluginError, match=r"messages\[0\]") as caught:
        asked(message)
    assert caught.value.code == "invalid_request"


def test_a_request_does_not_choose_another_model_in_its_own_words() -> None:
    own = {"model": "larger", "stream": False, "think": True, "options": {"num_ctx": 9}}
    said = asked({"role": "user", "content": "x"}, plugin_specific=own)
    assert (said["model"] != "larger", said["stream"], said["think"]) == (True, True, True)
    assert said["options"] == {"num_ctx": 9}
    with pytest.raises(sdk.PluginError, match="options"):
        asked({"role": "user", "content": "x"}, plugin_specific={"options": "x"})


async def test_models_are_those_that_were_pulled_and_health_is_ollamas() -> None:
    details = {"family": "llama", "parameter_size": "3.2B"}
    tags = {"models": [{"name": "llama3.2:latest", "size": 1, "details": details}]}
    async with provider(answer(tags), answer({"version": "0.12.0"})) as upstream:
        async with plugin(upstream) as link:
            (model,) = (await link.ask("GET", "/models")).json
            healthy = (await link.ask("GET", "/health")).json
            first, second = upstream.asked
        gone = upstream.url
    assert (model["id"], model["metadata"]) == ("llama3.2:latest", details)
    assert (healthy["healthy"], healthy["details"]) == (True, {"ollama": "0.12.0"})
    assert (first.first, second.first) == ("GET /api/tags HTTP/1.1", "GET /api/version HTTP/1.1")
    made = shipped.module("ollama").plugin
    async with served(made, {"endpoint": gone}) as link:
        unhealthy = (await link.ask("GET", "/health")).json
    assert unhealthy["healthy"] is False
    assert "no connection" in unhealthy["message"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (answer({"error": "model 'x' not found"}, "404 Not Found"), "model_not_found"),
        (answer({"error": "does not support tools"}, "400 Bad Request"), "invalid_request"),
        (chunked([b'{"error":"the runner has stopped"}\n']), "provider_unavailable"),
        (chunked([b'{"message":{"content":"x"}}\n{"error":"oops"}\n']), "provider_unavailable"),
        (chunked([b'{"message":{"content":"x"}}\n\n']), "provider_unavailable"),
        (chunked([b"what?\n"]), "provider_unavailable"),
        (chunked([b"[]\n"]), "provider_unavailable"),
    ],
)
async def test_errors_are_told_as_a_status_or_as_a_line(said: Any, code: str) -> None:
    async with provider(said) as upstream, plugin(upstream) as link:
        got = await link.ask("POST", "/chat/completions", asking(stream=True))
    error = json.loads(got.events[-1])["error"] if got.status == 200 else got.json
    assert (error["code"], error["transient"]) == (code, code == "provider_unavailable")
    assert "Ollama" in error["message"] or upstream.url in error["message"]

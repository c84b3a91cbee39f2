"""The example that translates Anthropic's Messages API: both ways, against recorded shapes."""

import json
from typing import Any

import pytest

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk.chat import Chunks, read_request
from tests.plugins.sdk import shipped
from tests.plugins.sdk.speak import Link, asking, served
from tests.plugins.sdk.upstream import Provider, answer, chunked, provider

REQUESTS = shipped.module("anthropic-python", "anthropic_request")
ANSWERS = shipped.module("anthropic-python", "anthropic_answer")
RECORDED = ("anthropic-text", "anthropic-tools")


def asked(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What Anthropic is asked."""
    request = read_request({"model": "claude", "messages": messages, **more})
    body = REQUESTS.body_of(request, 4096)
    assert isinstance(body, dict)
    return body


def answered(pieces: list[bytes]) -> dict[str, Any]:
    """What an answer in such pieces means."""
    chunks, translated = Chunks("claude"), ANSWERS.Answer()
    made: list[dict[str, Any]] = []
    for event in shipped.events(pieces):
        for piece in translated.take(event):
            made += chunks.take(piece)
    assert translated.ended
    return shipped.completion([*made, *chunks.end()])


@pytest.mark.parametrize("name", RECORDED)
def test_every_split_of_a_recorded_stream_means_the_same(name: str) -> None:
    text, meant = shipped.recorded(f"{name}.sse"), shipped.golden(name)
    assert answered([text]) == meant
    assert answered([text[at : at + 1] for at in range(len(text))]) == meant
    assert answered([text.replace(b"\n", b"\r\n")]) == meant
    for at in range(1, len(text)):
        assert shipped.events([text[:at], text[at:]]) == shipped.events([text])


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [13, 600])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_recorded_stream_reaches_the_proxy(name: str, size: int, stream: bool) -> None:
    text = shipped.recorded(f"{name}.sse")
    said = chunked([text[at : at + size] for at in range(0, len(text), size)])
    async with provider(said) as upstream, plugin(upstream) as link:
        got = await link.ask("POST", "/chat/completions", asking(stream=stream))
        if stream:
            assert got.events[-1] == "[DONE]"
            whole = shipped.completion([json.loads(event) for event in got.events[:-1]])
        else:
            whole = got.json
            del whole["created"]
    assert whole == shipped.golden(name)
    assert upstream.asked[-1].first == "POST /v1/messages HTTP/1.1"
    assert upstream.asked[-1].fields["x-api-key"] == "sk-ant-secret"
    assert upstream.asked[-1].fields["anthropic-version"] == "2023-06-01"


def plugin(upstream: Provider, **config: Any) -> Any:
    """The example, initialised to ask a provider of ours."""
    made = shipped.module("anthropic-python").plugin
    return served(made, {"api_key": "sk-ant-secret", "endpoint": upstream.url, **config})


def turn(role: str, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


PIXEL = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
}
CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
IDLE_CALL = {"id": "t2", "type": "function", "function": {"name": "g", "arguments": ""}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_roles_are_turns_and_the_system_stands_apart() -> None:
    body = asked(
        [
            turn("system", "Be brief."),
            turn("user", "One."),
            turn("developer", [text("Be kind.")]),
            turn("user", "Two."),
            turn("assistant", "Three."),
        ]
    )
    assert body["system"] == [text("Be brief."), text("Be kind.")]
    assert body["messages"] == [
        turn("user", [text("One."), text("Two.")]),
        turn("assistant", [text("Three.")]),
    ]


def test_images_and_documents_are_sources() -> None:
    cached = {**text("See"), "cache_control": {"type": "ephemeral"}}
    link = {"type": "image_url", "image_url": "https://x.example/a.png"}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}}
    (user,) = asked([turn("user", [cached, PIXEL, link, file])])["messages"]
    png = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert user["content"] == [
        cached,
        {"type": "image", "source": png},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {"type": "document", "source": pdf},
    ]


def test_calls_of_tools_are_blocks_and_their_results_one_turn() -> None:
    body = asked(
        [
            turn("user"),
            turn("assistant", "", tool_calls=[CALL, IDLE_CALL]),
            turn("tool", "7", tool_call_id="t1"),
            turn("tool", [text("8")], tool_call_id="t2"),
            turn("user", "And?"),
        ]
    )
    assert body["messages"][1:] == [
        turn(
            "assistant",
            [
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        ),
        turn(
            "user",
            [
                {"type": "tool_result", "tool_use_id": "t1", "content": "7"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [text("8")]},
                text("And?"),
            ],
        ),
    ]


def test_what_bounds_and_steers_an_answer_is_translated() -> None:
    hello = [{"role": "user", "content": "x"}]
    plain = asked(hello)
    assert (plain["max_tokens"], plain["stream"]) == (4096, True)
    assert plain.keys() == {"model", "messages", "max_tokens", "stream"}
    body = asked(
        hello,
        max_completion_tokens=9,
        temperature=1.7,
        top_p=1,
        stop="END",
        user="u-1",
        response_format={"type": "text"},
        plugin_specific={"thinking": {"type": "enabled", "budget_tokens": 1024}},
    )
    assert (body["max_tokens"], body["temperature"], body["stop_sequences"]) == (9, 1.0, ["END"])
    assert (body["metadata"], body["thinking"]["type"]) == ({"user_id": "u-1"}, "enabled")
    assert "top_p" not in body
    assert asked(hello, temperature=0, top_p=0.5)["temperature"] == 0
    assert asked(hello, top_p=0.5)["top_p"] == 0.5


TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {"x": 1}}}
NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": NAMED}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_tools_and_their_choice(more: dict[str, Any], expected: Any) -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    body = asked([{"role": "user", "content": "x"}], tools=[TOOL, NAMED, own], **more)
    assert body["tools"] == [
        {"name": "f", "description": "F.", "input_schema": {"x": 1}},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        own,
    ]
    assert body.get("tool_choice") == expected


@pytest.mark.parametrize(
    ("message", "more", "named"),
    [
        (turn("user"), {"n": 2}, "n:"),
        (turn("user"), {"response_format": {"type": "json_object"}}, "response_format"),
        (turn("function"), {}, "messages[0].role"),
        (turn("tool"), {}, "messages[0].tool_call_id"),
        (turn("user", [{"type": "input_audio"}]), {}, "messages[0].content[0]"),
        (turn("user", [{"type": "image_url"}]), {}, "messages[0].content[0]: has no URL"),
        (turn("user", [{"type": "image_url", "image_url": "data:x,y"}]), {}, "base64"),
        (turn("assistant", tool_calls=[{"id": "t"}]), {}, "messages[0].tool_calls[0]"),
        (
            turn("assistant", tool_calls=[{"id": "t", "function": {"arguments": "{"}}]),
            {},
            "arguments: is no JSON",
        ),
        (
            turn("assistant", tool_calls=[{"id": "t", "function": {"arguments": "[" * 99_999}}]),
            {},
            "arguments: is no JSON",
        ),
        (turn("assistant", None, function_call={"name": "f"}), {}, "messages[0].function_call"),
        (turn("user"), {"functions": [{"name": "f"}]}, "functions"),
        (turn("user"), {"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        (turn("user"), {"tools": [TOOL], "tool_choice": {}}, "tool_choice"),
    ],
)
def test_what_anthropic_cannot_do_is_refused_by_name(
    message: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    with pytest.raises(sdk.PluginError) as caught:
        asked([message], **more)
    assert caught.value.code == "invalid_request"
    assert named in caught.value.message


def test_what_is_empty_is_left_out() -> None:
    said = asked([turn("system", ""), turn("user", "a"), turn("assistant", ""), turn("user", "b")])
    assert "system" not in said
    assert said["messages"] == [{"role": "user", "content": [text("a"), text("b")]}]


def test_a_request_does_not_choose_another_model_in_its_own_words() -> None:
    own = {"model": "dearer", "stream": False, "top_k": 3}
    said = asked([turn("user")], plugin_specific=own)
    assert (said["model"], said["stream"], said["top_k"]) == ("claude", True, 3)


def test_what_anthropic_calls_itself_is_no_call_of_the_client() -> None:
    def piece(kind: str, index: int, **more: Any) -> bytes:
        said = {"type": f"content_block_{kind}", "index": index, **more}
        return b"data: " + json.dumps(said).encode() + b"\n\n"

    def arguments(index: int, json_text: str) -> bytes:
        delta = {"type": "input_json_delta", "partial_json": json_text}
        return piece("delta", index, delta=delta)

    def tool(kind: str, name: str) -> dict[str, Any]:
        return {"type": kind, "id": name, "name": name, "input": {}}

    whole = answered(
        [
            piece("start", 0, content_block=tool("server_tool_use", "web_search")),
            arguments(0, '{"query": "x"}'),
            piece("stop", 0),
            piece("start", 1, content_block=tool("tool_use", "first")),
            arguments(1, '{"a": 1}'),
            piece("stop", 1),
            piece("start", 2, content_block=tool("server_tool_use", "web_search")),
            arguments(2, '{"query": "y"}'),
            piece("stop", 2),
            piece("start", 3, content_block=tool("tool_use", "second")),
            piece("stop", 3),
            b'data: {"type": "message_stop"}\n\n',
        ]
    )
    calls = [each["function"] for each in whole["choices"][0]["message"]["tool_calls"]]
    assert calls == [
        {"name": "first", "arguments": '{"a": 1}'},
        {"name": "second", "arguments": "{}"},
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a_new_one", "stop"),
    ],
)
def test_why_an_answer_ended(reason: str, expected: str) -> None:
    text = shipped.recorded("anthropic-text.sse").replace(b'"end_turn"', f'"{reason}"'.encode())
    assert answered([text])["choices"][0]["finish_reason"] == expected


def refusal(kind: str, message: str = "No.") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("status", "kind", "code", "transient"),
    [
        (400, "invalid_request_error", "invalid_request", False),
        (401, "authentication_error", "authentication_failed", False),
        (403, "permission_error", "authentication_failed", False),
        (404, "not_found_error", "model_not_found", False),
        (413, "request_too_large", "invalid_request", False),
        (429, "rate_limit_error", "rate_limit_exceeded", True),
        (500, "api_error", "provider_unavailable", True),
        (529, "overloaded_error", "provider_unavailable", True),
    ],
)
async def test_an_error_has_the_same_code_as_a_status_and_as_an_event(
    status: int, kind: str, code: str, transient: bool
) -> None:
    opening = shipped.recorded("anthropic-text.sse").partition(b"event: content_block_stop")[0]
    event = f"event: error\ndata: {json.dumps(refusal(kind))}\n\n".encode()
    said = [
        answer(refusal(kind), f"{status} X", Retry_After="11"),
        chunked([event]),
        chunked([opening, event]),
    ]
    async with provider(*said) as upstream, plugin(upstream) as link:
        first = await said_to(link)
        second = await said_to(link)
        third = await said_to(link)
    for got in (first.json, second.json, json.loads(third.events[-1])["error"]):
        assert (got["code"], got["transient"]) == (code, transient)
        assert "No." in got["message"]
    assert first.json["details"] == {"status": status, "retry_after": 11.0}
    assert third.status == 200, "it came after the first chunk"


async def said_to(link: Link) -> Any:
    """What a request for a stream is answered."""
    return await link.ask("POST", "/chat/completions", asking(stream=True))


async def test_an_empty_account_is_not_the_clients_fault() -> None:
    body = refusal("invalid_request_error", "Your credit balance is too low.")
    async with provider(answer(body, "400 X")) as upstream, plugin(upstream) as link:
        got = await said_to(link)
    assert (got.status, got.json["code"]) == (429, "quota_exceeded")


@pytest.mark.parametrize(
    "event", [b"", b"data: {\n\n", b'data: {"type":"message_start"}\n\n', b"data: []\n\n"]
)
async def test_a_stream_that_breaks_off_or_makes_no_sense_is_unavailable(event: bytes) -> None:
    opening = shipped.recorded("anthropic-text.sse").partition(b"event: message_delta")[0]
    async with provider(chunked([opening, event])) as upstream, plugin(upstream) as link:
        got = await said_to(link)
    error = json.loads(got.events[-1])["error"]
    assert (error["code"], error["transient"]) == ("provider_unavailable", True)


async def test_models_are_asked_or_named_with_what_is_known_of_them() -> None:
    listed = {"data": [{"id": "claude-sonnet-4-5-20250929", "display_name": "Claude Sonnet 4.5"}]}
    async with provider(answer(listed)) as upstream:
        async with plugin(upstream, beta="b-1") as link:
            (model,) = (await link.ask("GET", "/models")).json
        config = {"models": "claude-opus-4-5, claude-x", "prices": "claude-x=1/2.5,"}
        async with plugin(upstream, **config) as link:
            opus, unknown = (await link.ask("GET", "/models")).json
            wrong = {"api_key": "k", "prices": "cheap"}
            refused = await link.ask("POST", "/initialize", wrong)
    assert model["name"] == "Claude Sonnet 4.5"
    assert "input_cost_per_mtoken" not in model, "nobody said a price"
    assert upstream.asked[0].first == "GET /v1/models?limit=1000 HTTP/1.1"
    assert upstream.asked[0].fields["anthropic-beta"] == "b-1"
    assert "output_cost_per_mtoken" not in opus
    assert (unknown["input_cost_per_mtoken"], unknown["output_cost_per_mtoken"]) == (1.0, 2.5)
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")

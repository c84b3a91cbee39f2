"""The contract's structs take what the contract says, in JSON, and nothing else."""

import json
from typing import Any, get_args

import msgspec
import pytest

from loomproxy.config.shape import keys_of
from loomproxy.plugins import contract
from loomproxy.plugins.contract import (
    Capabilities,
    ChatRequest,
    ChatResponse,
    ConfigField,
    HealthStatus,
    Metadata,
    ModelInfo,
    PluginError,
    StreamChunk,
    Usage,
    Validation,
)

MESSAGE = {"role": "user", "content": "hello"}
REQUEST = {"model": "m", "messages": [MESSAGE]}
RESPONSE = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
}
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "h"}}],
}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def read(struct: type, body: object) -> Any:
    return msgspec.json.decode(json.dumps(body).encode(), type=struct)


def test_the_codes_are_those_of_the_contract() -> None:
    assert set(get_args(contract.ErrorCode)) == {
        "invalid_request",
        "content_filter",
        "model_not_found",
        "rate_limit_exceeded",
        "quota_exceeded",
        "authentication_failed",
        "provider_unavailable",
        "timeout",
        "internal_error",
    }


@pytest.mark.parametrize(
    ("struct", "names"),
    [
        (
            Metadata,
            """name version plugin_api_version provider_type description author homepage license
            capabilities config_schema""",
        ),
        (
            Capabilities,
            "streaming function_calling vision embeddings fine_tuning custom_capabilities",
        ),
        (ConfigField, "name type required description default sensitive validation"),
        (Validation, "min_length max_length pattern min max enum"),
        (
            ModelInfo,
            """id name description context_window max_output_tokens cost_per_mtoken
            input_cost_per_mtoken output_cost_per_mtoken capabilities deprecated metadata""",
        ),
        (HealthStatus, "healthy message latency_ms timestamp details"),
    ],
)
def test_names_are_those_that_loom_gives_them(struct: Any, names: str) -> None:
    assert [key.name for key in keys_of(struct)] == names.split()


def test_every_key_that_is_read_by_the_walk_is_described() -> None:
    for struct in (Metadata, Capabilities, ConfigField, Validation, ModelInfo, HealthStatus):
        for key in keys_of(struct):
            assert key.description.endswith("."), key.name


@pytest.mark.parametrize(
    ("struct", "body"),
    [
        (ChatRequest, REQUEST),
        (ChatRequest, {**REQUEST, "temperature": 0, "max_tokens": 1, "top_p": 1, "stop": "x"}),
        (ChatRequest, {**REQUEST, "stop": ["x"], "stream": True, "tools": [{}], "later": 1}),
        (ChatRequest, {"model": "m", "messages": [{"role": "tool", "tool_call_id": "1"}]}),
        (ChatRequest, {"model": "m", "messages": [{"role": "user", "content": [{"a": 1}]}]}),
        (ChatResponse, RESPONSE),
        (ChatResponse, {**RESPONSE, "usage": {**USAGE, "cost_usd": 0.1}}),
        (StreamChunk, CHUNK),
        (StreamChunk, {**CHUNK, "choices": [], "usage": USAGE, "done": True}),
        (PluginError, {"code": "timeout", "message": "m", "later": 1}),
        (Usage, USAGE),
    ],
)
def test_what_the_contract_allows(struct: type, body: object) -> None:
    decoded = read(struct, body)
    assert read(struct, msgspec.to_builtins(decoded)) == decoded


@pytest.mark.parametrize(
    ("struct", "body"),
    [
        (ChatRequest, {"model": "m"}),
        (ChatRequest, {"messages": [MESSAGE]}),
        (ChatRequest, {**REQUEST, "model": ""}),
        (ChatRequest, {**REQUEST, "messages": []}),
        (ChatRequest, {**REQUEST, "messages": [{"role": "king", "content": "x"}]}),
        (ChatRequest, {**REQUEST, "temperature": 2.1}),
        (ChatRequest, {**REQUEST, "temperature": "1"}),
        (ChatRequest, {**REQUEST, "top_p": -0.1}),
        (ChatRequest, {**REQUEST, "max_tokens": 0}),
        (ChatRequest, {**REQUEST, "max_tokens": 1.5}),
        (ChatRequest, {**REQUEST, "frequency_penalty": -2.1}),
        (ChatRequest, {**REQUEST, "presence_penalty": 2.1}),
        (ChatRequest, {**REQUEST, "stream": "yes"}),
        (ChatResponse, {**RESPONSE, "object": "chat.completion.chunk"}),
        (ChatResponse, {**RESPONSE, "choices": None}),
        (ChatResponse, {**RESPONSE, "usage": {**USAGE, "total_tokens": -1}}),
        (StreamChunk, {**CHUNK, "object": "chat.completion"}),
        (PluginError, {"error": "boom"}),
        (PluginError, {"code": "boom", "message": "m"}),
        (Usage, {**USAGE, "prompt_tokens": 1.5}),
    ],
)
def test_what_the_contract_does_not_allow(struct: type, body: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(struct, body)


def test_an_absent_number_is_not_zero() -> None:
    assert read(ChatRequest, REQUEST).temperature is None
    assert read(ChatRequest, {**REQUEST, "temperature": 0}).temperature == 0

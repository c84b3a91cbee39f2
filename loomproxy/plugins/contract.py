"""The plugin contract, version 1, as types: what a plugin and the proxy say to one another.

A plugin answers HTTP on a socket that it was given. Six calls, JSON both ways:

    GET  /metadata           Metadata
    POST /initialize         the plugin's configuration, a flat object → {}
    GET  /health             HealthStatus; 200 also when it is not healthy
    GET  /models             a list of ModelInfo
    POST /chat/completions   ChatRequest → ChatResponse, or an event stream of StreamChunk
    POST /cleanup            → {}

2xx is success; anything else carries a PluginError. What comes from a plugin may have more keys
than these, for the contract grows by adding; in a manifest, which people write, an unknown key is a
mistake and refused there.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import field

from loomproxy.config.key import Base, count, group, number, text

API_VERSION: Final = "1.0.0"
"""Of this contract. A plugin's own must have the same major number."""

TOKEN_VARIABLE: Final = "LOOM_PLUGIN_TOKEN"  # noqa: S105 - the name of a variable
SOCKET_VARIABLE: Final = "LOOM_PLUGIN_SOCKET"
HOST_VARIABLE: Final = "LOOM_PLUGIN_HOST"
PORT_VARIABLE: Final = "LOOM_PLUGIN_PORT"
"""How a supervised plugin learns its token and where to listen: a Unix socket, or host and port."""

ErrorCode = Literal[
    "invalid_request",
    "content_filter",
    "model_not_found",
    "rate_limit_exceeded",
    "quota_exceeded",
    "authentication_failed",
    "provider_unavailable",
    "timeout",
    "internal_error",
]


class Wire(Base, frozen=True, forbid_unknown_fields=False):
    """What travels between plugin and proxy; keys that we do not know are passed over."""


class Capabilities(Wire, frozen=True):
    """What a plugin, or one of its models, can do."""

    streaming: Annotated[bool, group("Answers `stream: true` with an event stream.")] = False
    function_calling: Annotated[bool, group("Takes tools, and calls them.")] = False
    vision: Annotated[bool, group("Takes images in messages.")] = False
    embeddings: Annotated[bool, group("Makes embeddings.")] = False
    fine_tuning: Annotated[bool, group("Can be fine-tuned.")] = False
    custom_capabilities: Annotated[
        dict[Annotated[str, text(kind="text")], bool], group("Further ones, of the plugin's own.")
    ] = field(default_factory=dict)


class Validation(Wire, frozen=True):
    """What a value of the configuration must satisfy, besides its type."""

    min_length: Annotated[
        int | None, count("Of text, in code points; at least so many.", low=0)
    ] = None
    max_length: Annotated[int | None, count("Of text, in code points; at most so many.", low=0)] = (
        None
    )
    pattern: Annotated[
        str | None, text("What the whole text must match: a regular expression.", "text_regex")
    ] = None
    min: Annotated[
        float | None, number("Of a number; this is still allowed.", low=-1e300, high=1e300)
    ] = None
    max: Annotated[
        float | None, number("Of a number; this is still allowed.", low=-1e300, high=1e300)
    ] = None
    enum: Annotated[tuple[Any, ...] | None, group("The only values; 1 and 1.0 are the same.")] = (
        None
    )


class ConfigField(Wire, frozen=True):
    """One key of a plugin's configuration."""

    name: Annotated[str, text("The key, as in `plugins.config` and in POST /initialize.", "name")]
    type: Annotated[Literal["string", "int", "float", "bool"], group("What a value is.")]
    required: Annotated[bool, group("Without it the plugin is not started.")] = False
    description: Annotated[str, text("What it means, for people.", "prose")] = ""
    default: Annotated[
        Any, group("What the plugin gets where the configuration is silent. None: nothing.")
    ] = None
    sensitive: Annotated[bool, group("A secret: never shown, in no log and no answer.")] = False
    validation: Annotated[Validation | None, group("What a value must satisfy.")] = None


class Metadata(Wire, frozen=True):
    """What a plugin says of itself."""

    name: Annotated[str, text("What people call it.")]
    version: Annotated[str, text("Its own version (semver.org).", "semver")]
    plugin_api_version: Annotated[str, text("The version of this contract it keeps.", "semver")]
    provider_type: Annotated[
        str,
        text(
            "Its unique name: what `model: NAME/…` and `provider_id` say.",
            "provider_type",
            advice="Write one such as acme or acme-2.",
        ),
    ]
    description: Annotated[str, text("What it does.", "prose")] = ""
    author: Annotated[str, text("Who made it.")] = ""
    homepage: Annotated[str, text("Where to read on.")] = ""
    license: Annotated[str, text("As SPDX has it.")] = ""
    capabilities: Annotated[Capabilities, group("What it can do.")] = Capabilities()
    config_schema: Annotated[
        tuple[ConfigField, ...], group("The keys of its configuration; others are refused.")
    ] = ()


class ModelInfo(Wire, frozen=True):
    """One model that a plugin serves. Prices are US dollars per million tokens; None: unknown."""

    id: Annotated[str, text("What `model` says.", "model")]
    name: Annotated[str, text("What people call it.")] = ""
    description: Annotated[str, text("What it is good for.", "prose")] = ""
    context_window: Annotated[int, count("Tokens in and out together; 0: unknown.", low=0)] = 0
    max_output_tokens: Annotated[int, count("Tokens of one answer; 0: unknown.", low=0)] = 0
    cost_per_mtoken: Annotated[
        float | None, number("The price where the two below are silent.", low=0.0, high=1e6)
    ] = None
    input_cost_per_mtoken: Annotated[
        float | None, number("Of the prompt's tokens.", low=0.0, high=1e6)
    ] = None
    output_cost_per_mtoken: Annotated[
        float | None, number("Of the answer's tokens.", low=0.0, high=1e6)
    ] = None
    capabilities: Annotated[Capabilities, group("What it can do.")] = Capabilities()
    deprecated: Annotated[bool, group("It will go away.")] = False
    metadata: Annotated[
        dict[Annotated[str, text(kind="argument")], Any], group("Whatever else there is to say.")
    ] = field(default_factory=dict)


class HealthStatus(Wire, frozen=True):
    """How a plugin is."""

    healthy: Annotated[bool, group("Whether it can serve.")]
    message: Annotated[str, text("Why, for people.", "remark")] = ""
    latency_ms: Annotated[float, number("How long its own check took.", low=-1e300, high=1e300)] = (
        0.0
    )
    checked_at: Annotated[str, text("RFC 3339, with or without offset; for people.", "remark")] = (
        field(default="", name="timestamp")
    )
    details: Annotated[
        dict[Annotated[str, text(kind="argument")], Any], group("Whatever else there is to say.")
    ] = field(default_factory=dict)


class PluginError(Wire, frozen=True):
    """What went wrong, as a plugin says it."""

    code: ErrorCode
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    transient: bool = False  # the same request may succeed a moment later


class Usage(Wire, frozen=True):
    """Tokens of one completion."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)]
    completion_tokens: Annotated[int, msgspec.Meta(ge=0)]
    total_tokens: Annotated[int, msgspec.Meta(ge=0)]
    cost_usd: float | None = None


class Message(Wire, frozen=True):
    """One turn of a conversation. `content` is text, or parts, or None beside tool calls."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: dict[str, Any] | None = None


class ChatRequest(Wire, frozen=True):
    """What a plugin is asked to complete. Absent numbers are None, so that 0 can be said."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    user: str | None = None
    plugin_specific: dict[str, Any] | None = None


class Choice(Wire, frozen=True):
    """One of the answers."""

    index: int
    message: Message
    finish_reason: str | None = None


class ChatResponse(Wire, frozen=True):
    """A whole completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Delta(Wire, frozen=True):
    """What one chunk adds to a message."""

    role: str | None = None
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None


class ChunkChoice(Wire, frozen=True):
    """One of the answers, as it grows; `finish_reason` on its last chunk."""

    index: int
    delta: Delta
    finish_reason: str | None = None


class StreamChunk(Wire, frozen=True):
    """The data of one event of a stream; the last carries `usage`, after it comes `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None

"""A chat as a handler sees it, and as the wire has it: requests, replies, deltas, chunks.

Pure translation. A handler may answer with text, a `Reply` or a whole `chat.completion`, or may
yield text, `Delta`s, `Usage` or whole chunks; the proxy may ask for one answer or for a stream.
Everything passes through chunks: what was yielded is joined when no stream was asked for, and what
was returned is taken apart when one was.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Union

from loomproxy.plugins.sdk.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

Chunk = dict[str, Any]

_RANGES: Final = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
_KINDS: Final = {
    "n": (int, "whole number"),
    "response_format": (dict, "object"),
    "plugin_specific": (dict, "object"),
}
_KINDS_OF_FORM: Final = {"type": (str, "text")}
_KINDS_OF_MESSAGE: Final = {
    "name": (str, "text"),
    "tool_calls": (list, "list"),
    "tool_call_id": (str, "text"),
}
_ROLES: Final = frozenset(("system", "developer", "user", "assistant", "tool", "function"))


@dataclasses.dataclass(frozen=True)
class Request:
    """What the plugin is asked to complete. What is absent is None, so that 0 can be said."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None  # or `max_completion_tokens`, its later name
    stop: tuple[str, ...] = ()
    tools: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    raw: dict[str, Any] = dataclasses.field(default_factory=dict)  # all of it, as it came
    request_id: str = ""
    traceparent: str = ""

    @property
    def prompt(self) -> str:
        """The text of the last message of a user; "" when there is none."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                return text_of(message)
        return ""


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, whose content may be text, parts or nothing."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens of one completion. Yield or return it whenever the provider tells."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)  # further keys, as they are

    def as_dict(self) -> dict[str, Any]:
        """Return what the contract calls `usage`."""
        total = self.prompt_tokens + self.completion_tokens
        cost = {} if self.cost_usd is None else {"cost_usd": self.cost_usd}
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
            **cost,
            **self.details,
        }


@dataclasses.dataclass(frozen=True)
class Delta:
    """What one chunk adds to an answer. Plain text is short for `Delta(content=text)`.

    A piece of a tool call carries the `index` of its call. `finish_reason` may be said at any time:
    it leaves with the last chunk. `more` holds further keys of the delta, such as
    `reasoning_content`.
    """

    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    index: int = 0  # of the answer, when several were asked for
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reply:
    """A whole answer. Plain text is short for `Reply(text)`."""

    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


Piece = Union[str, Delta, Reply, Usage, Chunk]  # noqa: UP007 - Python 3.9 knows no `|` here
"""What a handler may yield; it may also return each but Usage."""


def read_request(body: Any, request_id: str = "", traceparent: str = "") -> Request:
    """Return the request that a body means; `invalid_request` when it is none."""
    if not isinstance(body, dict):
        raise _invalid("The body is no JSON object.")
    _check_messages(body.get("messages"))
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise _invalid("model: is no text. Say which model to ask.")
    for name, (low, high) in _RANGES.items():
        _check_number(body, name, low, high)
    _check_kinds(body, _KINDS, "")
    _check_kinds(body.get("response_format") or {}, _KINDS_OF_FORM, "response_format.")
    stop = body.get("stop")
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _invalid("stop: is neither text nor a list of texts.")
    return Request(
        model=body["model"],
        messages=body["messages"],
        stream=_stream(body),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        max_tokens=_max_tokens(body),
        stop=tuple(texts),
        tools=_tools(body),
        raw=body,
        request_id=request_id,
        traceparent=traceparent,
    )


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages: is no list with at least one message.")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise _invalid(f"messages[{index}].role: is none of {', '.join(sorted(_ROLES))}.")
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        if not (content is None or isinstance(content, (str, list))) or not all(
            isinstance(part, dict) and isinstance(part.get("type", ""), str) for part in parts
        ):
            raise _invalid(f"messages[{index}].content: is neither text nor a list of parts.")
        _check_kinds(message, _KINDS_OF_MESSAGE, f"messages[{index}].")


def _check_kinds(body: dict[str, Any], kinds: Mapping[str, tuple[type, str]], place: str) -> None:
    """Refuse what no handler could read; what else is within is between it and its provider."""
    for name, (kind, what) in kinds.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise _invalid(f"{place}{name}: is no {what}.")


def _check_number(body: dict[str, Any], name: str, low: int, high: int) -> None:
    value = body.get(name)
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise _invalid(f"{name}: is no number from {low} to {high}.")


def _stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream: is neither true nor false.")
    return bool(stream)


def _max_tokens(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _invalid(f"{name}: is no whole number above 0.")
            return value
    return None


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _invalid("tools: is no list of objects.")
    return tools


def _invalid(message: str) -> PluginError:
    return PluginError("invalid_request", message)


class Chunks:
    """Makes the chunks of one stream from what a handler yields or returns."""

    def __init__(self, model: str) -> None:
        self._words = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion.chunk",
            # The contract wants wall time here.
            "created": int(time.time()),  # noqa: TID251 - see above: seconds since 1970
            "model": model,
        }
        self._usage: dict[str, Any] | None = None
        self._reasons: dict[int, str | None] = {}  # of each answer that was begun

    def take(self, piece: Any) -> Iterator[Chunk]:
        """Yield the chunks that one piece makes: usually one, none for Usage."""
        if isinstance(piece, str):
            yield from self._delta(Delta(content=piece))
        elif isinstance(piece, Delta):
            yield from self._delta(piece)
        elif isinstance(piece, Usage):
            self._usage = piece.as_dict()
        elif isinstance(piece, Reply):
            yield from self._reply(piece)
        elif isinstance(piece, dict):
            yield from self._whole(piece)
        else:
            raise TypeError(f"A chat handler gave a {type(piece).__name__}; see sdk.Piece.")

    def end(self) -> Iterator[Chunk]:
        """Yield the last chunks: each answer's reason to end, and the usage with the last one."""
        if not self._reasons:
            yield from self._delta(Delta(content=""))
        indexes = sorted(self._reasons)
        for index in indexes:
            choice = {"index": index, "delta": {}, "finish_reason": self._reasons[index] or "stop"}
            usage = self._usage if index == indexes[-1] else None
            yield {**self._words, "choices": [choice], **({"usage": usage} if usage else {})}

    def _delta(self, delta: Delta) -> Iterator[Chunk]:
        words: dict[str, Any] = {} if delta.index in self._reasons else {"role": "assistant"}
        self._reasons.setdefault(delta.index, None)
        if delta.content is not None:
            words["content"] = delta.content
        if delta.tool_calls:
            words["tool_calls"] = [
                {"index": place, **call} for place, call in enumerate(delta.tool_calls)
            ]
        words.update(delta.more)
        reason = delta.finish_reason or ("tool_calls" if delta.tool_calls else None)
        if reason:
            self._reasons[delta.index] = reason
        if words:
            choice = {"index": delta.index, "delta": words, "finish_reason": None}
            yield {**self._words, "choices": [choice]}

    def _reply(self, reply: Reply) -> Iterator[Chunk]:
        if reply.usage:
            self._usage = reply.usage.as_dict()
        yield from self._delta(
            Delta(reply.content, reply.tool_calls, reply.finish_reason, more=reply.more)
        )

    def _whole(self, answer: Chunk) -> Iterator[Chunk]:
        """Take a chunk or a whole completion of the OpenAI dialect; its id and model stay."""
        for name in ("id", "created", "model"):
            if answer.get(name):
                self._words[name] = answer[name]
        if answer.get("usage"):
            self._usage = dict(answer["usage"])
        for choice in answer.get("choices") or ():
            words = dict(choice.get("delta") or choice.get("message") or {})
            words.pop("role", None)
            yield from self._delta(
                Delta(
                    words.pop("content", None),
                    words.pop("tool_calls", None),
                    choice.get("finish_reason"),
                    choice.get("index", 0),
                    words,
                )
            )


class Joined:
    """Joins chunks to the one answer that they are the pieces of."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        for name in ("id", "created", "model", "usage"):
            if name in chunk:
                self._answer[name] = chunk[name]
        for piece in chunk["choices"]:
            index = piece["index"]
            choice = self._choices.setdefault(
                index,
                {
                    "index": index,
                    "message": {"role": "assistant", "content": None},
                    "finish_reason": None,
                },
            )
            _join(choice["message"], piece["delta"])
            choice["finish_reason"] = piece["finish_reason"] or choice["finish_reason"]

    def completion(self) -> dict[str, Any]:
        """Return the whole answer."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        for choice in choices:
            calls = choice["message"].get("tool_calls")
            if calls is not None:
                choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
            elif choice["message"]["content"] is None:
                choice["message"]["content"] = ""
        return {"object": "chat.completion", **self._answer, "choices": choices}


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", {})
            for piece in value:
                words = dict(piece)
                _join_call(calls.setdefault(words.pop("index"), {}), words)
        elif isinstance(value, str) and isinstance(message.get(name), str) and name != "role":
            message[name] += value
        elif value is not None or name not in message:  # null adds nothing to what was said
            message[name] = value


def _join_call(call: dict[str, Any], piece: dict[str, Any]) -> None:
    """Join a piece of one tool call: its arguments grow, all else is said once.

    Many providers say it again in each piece, as "" or null.
    """
    for name, value in piece.items():
        if name == "function":
            function = call.setdefault("function", {})
            arguments = function.get("arguments", "") + (value.get("arguments") or "")
            function.update((key, word) for key, word in value.items() if word)
            function["arguments"] = arguments
        elif value:
            call[name] = value

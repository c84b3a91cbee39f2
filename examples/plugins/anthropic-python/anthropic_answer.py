"""The events of an answer of Anthropic's Messages API, as the pieces of an OpenAI chat.

Pure translation, no I/O: `Answer.take` gets one event after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loomproxy.plugins import sdk

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ERRORS = {
    "invalid_request_error": "invalid_request",
    "request_too_large": "invalid_request",
    "authentication_error": "authentication_failed",
    "permission_error": "authentication_failed",
    "not_found_error": "model_not_found",
    "rate_limit_error": "rate_limit_exceeded",
    "billing_error": "quota_exceeded",
    "timeout_error": "timeout",
    "overloaded_error": "provider_unavailable",
    "api_error": "provider_unavailable",
}


class Answer:
    """One answer, as far as its events have come."""

    def __init__(self) -> None:
        self.ended = False
        self._usage: dict[str, int] = {}
        self._calls: dict[int, int] = {}  # the number of a tool call, by that of its block
        self._silent: set[int] = set()  # tool calls of which no argument has come

    def take(self, event: sdk.Event) -> Iterator[sdk.Piece]:
        """Yield what one event means; raises PluginError for an error event."""
        try:
            data = json.loads(event.data)
            take = getattr(self, f"_{data['type']}", None)
            pieces = list(take(data)) if take is not None else []  # new kinds may come any day
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"Anthropic sent an event that cannot be read ({error!r})."
            raise sdk.PluginError("provider_unavailable", message) from error
        yield from pieces

    def _message_start(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        message = data["message"]
        self._count(message.get("usage"))
        yield {"id": message["id"], "model": message["model"], "choices": []}

    def _content_block_start(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        block = data["content_block"]
        if block["type"] == "text" and block.get("text"):
            yield block["text"]
        elif block["type"] == "tool_use":
            given = json.dumps(block["input"]) if block.get("input") else ""
            call = self._calls[data["index"]] = len(self._calls)
            if not given:
                self._silent.add(call)
            yield sdk.Delta(
                tool_calls=[
                    {
                        "index": call,
                        "id": block["id"],
                        "type": "function",
                        "function": {"name": block["name"], "arguments": given},
                    }
                ]
            )

    def _content_block_delta(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        delta = data["delta"]
        if delta["type"] == "text_delta":
            yield delta["text"]
        elif delta["type"] == "thinking_delta":
            yield sdk.Delta(more={"reasoning_content": delta["thinking"]})
        elif delta["type"] == "input_json_delta" and delta["partial_json"]:
            call = self._calls.get(data["index"])  # None: Anthropic's own tool, which it calls
            if call is not None:
                self._silent.discard(call)
                yield self._arguments(call, delta["partial_json"])

    def _content_block_stop(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        call = self._calls.get(data["index"])
        if call in self._silent:  # A call without arguments: here nothing, in OpenAI's dialect {}.
            self._silent.discard(call)
            yield self._arguments(call, "{}")

    def _message_delta(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        self._count(data.get("usage"))
        reason = data["delta"].get("stop_reason")
        if reason:
            yield sdk.Delta(finish_reason=REASONS.get(reason, "stop"))

    def _message_stop(self, _data: dict[str, Any]) -> Iterator[sdk.Piece]:
        self.ended = True
        read = self._usage.get("cache_read_input_tokens", 0)
        written = self._usage.get("cache_creation_input_tokens", 0)
        yield sdk.Usage(
            # Anthropic counts what came from or went into the cache apart, OpenAI within.
            prompt_tokens=self._usage.get("input_tokens", 0) + read + written,
            completion_tokens=self._usage.get("output_tokens", 0),
            details={"prompt_tokens_details": {"cached_tokens": read}} if read else {},
        )

    def _error(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        error = data["error"]
        code = ERRORS.get(error["type"], "internal_error")
        raise sdk.PluginError(code, f"Anthropic: {error['message']} ({error['type']})")

    def _arguments(self, call: int, text: str) -> sdk.Delta:
        return sdk.Delta(tool_calls=[{"index": call, "function": {"arguments": text}}])

    def _count(self, usage: Any) -> None:
        """Take the counts of an event: each is of the answer so far, and the last one holds."""
        for name, count in (usage or {}).items():
            if isinstance(count, int):
                self._usage[name] = count

"""OpenAI's chat as Ollama's /api/chat has it, and its lines as the pieces of an answer.

Pure translation, no I/O.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from loomproxy.plugins import sdk

OPTIONS = {  # of OpenAI's, and what Ollama calls them
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
REASONS = {"stop": "stop", "length": "length"}


def body_of(request: sdk.Request, keep_alive: str) -> dict[str, Any]:
    """Return the body of POST /api/chat."""
    raw = request.raw
    options = {ours: raw[name] for name, ours in OPTIONS.items() if raw.get(name) is not None}
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    if request.stop:
        options["stop"] = list(request.stop)
    names: dict[str, str] = {}
    messages = [message_of(message, at, names) for at, message in enumerate(request.messages)]
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream": True,  # always: the SDK joins the pieces when the client wants one answer
        "options": options,
    }
    if request.tools and raw.get("tool_choice") != "none":
        body["tools"] = request.tools
    if keep_alive:
        body["keep_alive"] = keep_alive
    body.update(format_of(raw.get("response_format")))
    # What OpenAI has no word for, such as `think`, or `options` with `num_ctx`; which model
    # answers, and how, is not for it to say.
    more = dict(raw.get("plugin_specific") or {})
    own = more.pop("options", {})
    if not isinstance(own, dict):
        raise sdk.PluginError("invalid_request", "plugin_specific.options: is no object.")
    options.update(own)
    return {**body, **more, "model": body["model"], "stream": body["stream"]}


def message_of(message: dict[str, Any], index: int, names: dict[str, str]) -> dict[str, Any]:
    """Return one message; `names` remembers which function each tool call meant."""
    role = {"developer": "system", "function": "tool"}.get(message["role"], message["role"])
    ours: dict[str, Any] = {"role": role, "content": sdk.text_of(message)}
    parts = message.get("content")
    images = [
        image_of(part, f"messages[{index}].content[{at}]")
        for at, part in enumerate(parts if isinstance(parts, list) else [])
        if part.get("type") != "text"
    ]
    if images:
        ours["images"] = images
    calls = [
        call_of(call, f"messages[{index}].tool_calls[{at}]", names)
        for at, call in enumerate(message.get("tool_calls") or [])
    ]
    if calls:
        ours["tool_calls"] = calls
    if role == "tool":
        name = names.get(message.get("tool_call_id", ""), message.get("name"))
        ours.update({"tool_name": name} if name else {})
    return ours


def image_of(part: dict[str, Any], place: str) -> str:
    """Return an image as Ollama takes it: its data in base64, and nothing else."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    head, comma, data = str(url).partition(",")
    if part.get("type") != "image_url" or not comma or not head.endswith(";base64"):
        raise sdk.PluginError(
            "invalid_request", f"{place}: Ollama takes text, and images as data:image/…;base64,…."
        )
    return data


def call_of(call: Any, place: str, names: dict[str, str]) -> dict[str, Any]:
    """Return a tool call of an earlier answer; Ollama wants its arguments as an object."""
    try:
        function = call["function"]
        names[call.get("id", "")] = function["name"]
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError):
        message = f"{place}: is no call of a function with arguments in JSON."
        raise sdk.PluginError("invalid_request", message) from None
    return {"function": {"name": function["name"], "arguments": arguments}}


def format_of(form: Any) -> dict[str, Any]:
    """Return how the answer must look: any JSON, or JSON of a schema."""
    if not isinstance(form, dict) or form.get("type") in {None, "text"}:
        return {}
    schema = form.get("json_schema")
    if form["type"] == "json_schema" and isinstance(schema, dict):
        return {"format": schema.get("schema") or "json"}
    return {"format": "json"}


class Answer:
    """One answer, as far as its lines have come."""

    def __init__(self) -> None:
        self.ended = False
        self._calls = 0

    def take(self, line: str) -> Iterator[sdk.Piece]:
        """Yield what one line means; raises PluginError for one that is an error."""
        if not line.strip():
            return
        try:
            data = json.loads(line)
            pieces = list(self._pieces(data))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"Ollama sent a line that cannot be read ({error!r})."
            raise sdk.PluginError("provider_unavailable", message) from error
        yield from pieces

    def _pieces(self, data: dict[str, Any]) -> Iterator[sdk.Piece]:
        if "error" in data:
            raise sdk.PluginError("provider_unavailable", f"Ollama: {data['error']}")
        message = data.get("message") or {}
        if message.get("thinking"):
            yield sdk.Delta(more={"reasoning_content": message["thinking"]})
        if message.get("content"):
            yield message["content"]
        for call in message.get("tool_calls") or ():
            yield self._call(call.get("id"), call["function"])
        if data.get("done"):
            self.ended = True
            reason = (
                "tool_calls" if self._calls else REASONS.get(str(data.get("done_reason")), "stop")
            )
            yield sdk.Delta(finish_reason=reason)
            # A prompt that was in Ollama's cache is not counted: then the field is absent.
            yield sdk.Usage(data.get("prompt_eval_count", 0), data.get("eval_count", 0))

    def _call(self, given_id: str | None, function: dict[str, Any]) -> sdk.Delta:
        """Return a tool call; most of Ollama's have no id, OpenAI's clients need one."""
        call = {
            "index": self._calls,
            "id": given_id or f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {
                "name": function["name"],
                "arguments": json.dumps(function.get("arguments") or {}),
            },
        }
        self._calls += 1
        return sdk.Delta(tool_calls=[call])

"""An OpenAI chat request as the body of a request to Anthropic's Messages API.

Pure translation, no I/O. What cannot be said there is refused by name rather than left out, where
leaving it out would change what the answer means.
"""

from __future__ import annotations

import json
from typing import Any

from loomproxy.plugins import sdk

Block = dict[str, Any]

CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


def body_of(request: sdk.Request, max_tokens: int) -> dict[str, Any]:
    """Return the body; `max_tokens` is used where the request says none: Anthropic wants one."""
    raw = request.raw
    refuse(raw)
    system, messages = conversation(request.messages)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens or max_tokens,
        "stream": True,  # always: the SDK joins the pieces when the client wants one answer
    }
    if system:
        body["system"] = system
    if request.temperature is not None:
        body["temperature"] = min(1.0, request.temperature)  # OpenAI's goes to 2
    if request.top_p not in {None, 1}:  # some models refuse it beside temperature; 1 says nothing
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [tool_of(tool) for tool in request.tools]
        body.update(choice_of(raw))
    if isinstance(raw.get("user"), str):
        body["metadata"] = {"user_id": raw["user"]}
    # What OpenAI has no word for, such as `thinking` or `top_k`; which model answers, and how,
    # is not for it to say.
    more = raw.get("plugin_specific") or {}
    return {**body, **more, "model": body["model"], "stream": body["stream"]}


def refuse(raw: dict[str, Any]) -> None:
    """Refuse what Anthropic cannot do, and what an answer would silently lack."""
    if raw.get("n") not in {None, 1}:
        raise invalid("n: Anthropic gives one answer. Ask several times.")
    form = raw.get("response_format")
    if isinstance(form, dict) and form.get("type") not in {None, "text"}:
        raise invalid("response_format: only text. For JSON, give a tool and require it.")
    if raw.get("functions"):
        raise invalid("functions: are not supported. Use tools.")


def conversation(messages: list[dict[str, Any]]) -> tuple[list[Block], list[dict[str, Any]]]:
    """Return the system's blocks, and the turns: user and assistant, one after the other.

    Neighbours of the same role become one turn; results of tools are the user's.
    """
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if role in {"system", "developer"}:
            system += content_of(message, index)
            continue
        if role == "function":
            raise invalid(f"messages[{index}].role: function is not supported. Use tool.")
        if message.get("function_call"):
            raise invalid(f"messages[{index}].function_call: is not supported. Use tool_calls.")
        blocks = [result_of(message, index)] if role == "tool" else content_of(message, index)
        if role == "assistant":
            blocks += calls_of(message, index)
        if not blocks:  # Nothing was said, and a turn without blocks is none.
            continue
        turn = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == turn:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": turn, "content": blocks})
    return system, turns


def content_of(message: dict[str, Any], index: int) -> list[Block]:
    """Return a message's content as blocks."""
    content = message.get("content")
    if not content:  # A block without text is none that Anthropic takes.
        return []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [block_of(part, f"messages[{index}].content[{at}]") for at, part in enumerate(parts)]


def block_of(part: dict[str, Any], place: str) -> Block:
    """Return one part of a content as a block. `cache_control` is Anthropic's own, and stays."""
    kind = part.get("type")
    cache = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    if kind in {"text", "refusal"} and isinstance(part.get(kind), str):
        return {"type": "text", "text": part[kind], **cache}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return {"type": "image", "source": source_of(url, place), **cache}
    if kind == "file" and isinstance(part.get("file"), dict):
        source = source_of(part["file"].get("file_data"), place)
        return {"type": "document", "source": source, **cache}
    raise invalid(
        f"{place}: Anthropic takes no part of type {kind!r}. Use text, image_url or file."
    )


def source_of(url: Any, place: str) -> Block:
    """Return where an image or a document comes from: data within, or a URL."""
    if not isinstance(url, str):
        raise invalid(f"{place}: has no URL.")
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    head, comma, data = url.partition(",")
    media_type, _, encoding = head.removeprefix("data:").partition(";")
    if not url.startswith("data:") or not comma or encoding.split(";")[-1] != "base64":
        raise invalid(f"{place}: is neither an http URL nor `data:TYPE;base64,…`.")
    return {"type": "base64", "media_type": media_type, "data": data}


def calls_of(message: dict[str, Any], index: int) -> list[Block]:
    """Return the tool calls of an assistant's message as blocks."""
    blocks = []
    for at, call in enumerate(message.get("tool_calls") or ()):
        place = f"messages[{index}].tool_calls[{at}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or "id" not in call:
            raise invalid(f"{place}: has no id or no function.")
        try:
            given = json.loads(function.get("arguments") or "{}")
        except (TypeError, ValueError, RecursionError):
            raise invalid(f"{place}.function.arguments: is no JSON.") from None
        name = function.get("name")
        blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": given})
    return blocks


def result_of(message: dict[str, Any], index: int) -> Block:
    """Return what a tool answered."""
    if not isinstance(message.get("tool_call_id"), str):
        raise invalid(f"messages[{index}].tool_call_id: is missing.")
    content = message.get("content")
    blocks = content if isinstance(content, str) else content_of(message, index)
    return {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": blocks}


def tool_of(tool: dict[str, Any]) -> Block:
    """Return a tool that may be called. One of Anthropic's own goes through as it is."""
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        return tool
    return {
        "name": function.get("name"),
        **({"description": function["description"]} if function.get("description") else {}),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }


def choice_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Return whether tools must be called, and whether several at once."""
    asked = raw.get("tool_choice")
    choice: Block | None = None
    if isinstance(asked, str):
        if asked not in CHOICES:
            raise invalid(f"tool_choice: {asked!r} is none of {', '.join(CHOICES)}.")
        choice = dict(CHOICES[asked])
    elif isinstance(asked, dict):
        function = asked.get("function")
        if not isinstance(function, dict) or "name" not in function:
            raise invalid("tool_choice: names no function.")
        choice = {"type": "tool", "name": function["name"]}
    if raw.get("parallel_tool_calls") is False and choice != CHOICES["none"]:
        choice = {**(choice or CHOICES["auto"]), "disable_parallel_tool_use": True}
    return {"tool_choice": choice} if choice else {}


def invalid(message: str) -> sdk.PluginError:
    """Return the error for a request that cannot be translated."""
    return sdk.PluginError("invalid_request", message)

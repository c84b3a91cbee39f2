"""Providers in the dialects that our examples speak to, just as much as an examination asks for."""

import asyncio
import itertools
import json
from typing import Any

from loomproxy.plugins.conformance.chatting import NO_MODEL
from tests.plugins.sdk import shipped
from tests.plugins.sdk.upstream import Asked, answer, chunked

KEY = "sk-fake-7c1e5a"
MODEL = "model-1"
CLAUDE = "claude-sonnet-4-5-20250929"
LLAMA = "llama3.2"
_NUMBERS = itertools.count()
WORDS = ("Hello", ", ", "you", ".")


async def openai(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """OpenAI's dialect."""
    if asked.fields.get("authorization") != f"Bearer {KEY}":
        await _say(writer, answer({"error": {"message": "no key"}}, "401 Unauthorized"))
        return
    if asked.first.startswith("GET "):
        await _say(writer, answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
        return
    question = asked.json
    base = {"id": "chatcmpl-1", "created": 1, "model": MODEL}
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    if not question.get("stream"):
        message = {"role": "assistant", "content": "".join(WORDS)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        whole = {**base, "object": "chat.completion", "choices": choices, "usage": usage}
        await _say(writer, answer(whole))
        return
    base["object"] = "chat.completion.chunk"
    parts: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        for word in WORDS
    ]
    parts.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    parts.append({**base, "choices": [], "usage": usage})
    events = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
    await _say(writer, *chunked([*events, b"data: [DONE]\n\n"]))


async def anthropic(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Anthropic's Messages API; it says what was recorded of it, in the name of the model asked."""
    if asked.fields.get("x-api-key") != KEY:
        await _say(writer, _anthropic_error("authentication_error", "401 Unauthorized"))
    elif asked.first.startswith("GET "):
        listed = [{"type": "model", "id": CLAUDE, "display_name": "Model"}]
        await _say(writer, answer({"data": listed, "has_more": False}))
    elif asked.json["model"] == NO_MODEL:
        await _say(writer, _anthropic_error("not_found_error", "404 Not Found"))
    else:
        own = f"msg_{next(_NUMBERS)}".encode()
        text = shipped.recorded("anthropic-text.sse").replace(b"msg_01", own)
        await _say(writer, *chunked(_cut(text)))


def _anthropic_error(kind: str, status: str) -> bytes:
    return answer({"type": "error", "error": {"type": kind, "message": "no"}}, status)


async def ollama(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Ollama's API, likewise."""
    if asked.first.startswith("GET /api/version "):
        await _say(writer, answer({"version": "0.12.0"}))
    elif asked.first.startswith("GET "):
        await _say(writer, answer({"models": [{"name": LLAMA, "details": {}}]}))
    elif asked.json["model"] == NO_MODEL:
        await _say(writer, answer({"error": "model not found"}, "404 Not Found"))
    else:
        lines = _cut(shipped.recorded("ollama-text.ndjson"))
        await _say(writer, *chunked(lines, "application/x-ndjson"))


def _cut(text: bytes) -> list[bytes]:
    return [text[at : at + 90] for at in range(0, len(text), 90)]


async def _say(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()

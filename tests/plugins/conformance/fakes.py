"""Providers in the dialects that our examples speak to, just as much as an examination asks for."""

import asyncio
import json
from typing import Any

from tests.plugins.sdk.upstream import Asked, answer, chunked

KEY = "sk-fake-7c1e5a"
MODEL = "model-1"
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


async def _say(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()

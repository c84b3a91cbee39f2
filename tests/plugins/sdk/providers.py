"""What providers say whose shapes were recorded: for examples that are started as they are shipped.

Give one to `upstream.provider`, and its `url` to the example's `endpoint`.
"""

import asyncio
import itertools

from tests.plugins.sdk import shipped
from tests.plugins.sdk.upstream import Asked, answer, chunked

_NUMBERS = itertools.count(1)


async def anthropic(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """One model, whose answer is always the same but for its id."""
    path = asked.first.split()[1]
    if path.startswith("/v1/models"):
        listed = {"data": [{"id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5"}]}
        writer.write(answer(listed))
    elif asked.json["model"] != "claude-sonnet-4-5":
        error = {"type": "not_found_error", "message": f"model: {asked.json['model']}"}
        writer.write(answer({"type": "error", "error": error}, "404 Not Found"))
    else:
        text = shipped.recorded("anthropic-text.sse")
        text = text.replace(b"msg_01", b"msg_%d" % next(_NUMBERS))
        text = text.replace(b"claude-sonnet-4-5-20250929", b"claude-sonnet-4-5")
        await _slowly(writer, text.split(b"\n\n"), b"\n\n", "text/event-stream")


async def ollama(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """One model, whose answer is always the same."""
    path = asked.first.split()[1]
    if path == "/api/version":
        writer.write(answer({"version": "0.12.0"}))
    elif path == "/api/tags":
        writer.write(answer({"models": [{"name": "llama3.2:latest", "details": {}}]}))
    elif asked.json["model"] != "llama3.2:latest":
        writer.write(answer({"error": "model not found"}, "404 Not Found"))
    else:
        text = shipped.recorded("ollama-text.ndjson")
        await _slowly(writer, text.split(b"\n"), b"\n", "application/x-ndjson")


async def _slowly(writer: asyncio.StreamWriter, pieces: list[bytes], end: bytes, kind: str) -> None:
    """Each piece is a chunk of its own, and some time passes between two."""
    for piece in chunked([piece + end for piece in pieces if piece], kind):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.002)

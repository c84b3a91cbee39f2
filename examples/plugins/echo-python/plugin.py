"""Echo: answers with what the user said last, word by word. The smallest plugin there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from loomproxy.plugins import sdk


@dataclass(frozen=True)
class Config:
    """What `plugins.config.echo` may say."""

    delay: float = sdk.option(0.0, "Seconds before each word.", min=0.0, max=60.0)


plugin = sdk.Plugin(
    "echo",
    version="1.0.0",
    name="Echo",
    description="Repeats the last message of the user; needs no account.",
    config=Config,
)
plugin.model("echo-1", name="Echo 1", context_window=8192, max_output_tokens=8192)


@plugin.chat
async def chat(request: sdk.Request) -> AsyncIterator[sdk.Piece]:
    """Yield the words of the last message; a word is a token here."""
    said = sum(len(sdk.text_of(message).split()) for message in request.messages)
    words = request.prompt.split()
    kept = words[: request.max_tokens]
    for index, word in enumerate(kept):
        if plugin.config.delay:
            await asyncio.sleep(plugin.config.delay)
        yield word if index == 0 else f" {word}"
    yield sdk.Usage(prompt_tokens=said, completion_tokens=len(kept))
    if len(kept) < len(words):
        yield sdk.Delta(finish_reason="length")


if __name__ == "__main__":
    plugin.run()

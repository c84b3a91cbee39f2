"""Ollama: models on a machine of your own, in OpenAI's dialect.

The translation is in `ollama_chat`; this file asks.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ollama_chat import Answer, body_of

from loomproxy.plugins import sdk


@dataclass(frozen=True)
class Config:
    """What `plugins.config.ollama` may say."""

    endpoint: str = sdk.option(
        "http://127.0.0.1:11434", "Where Ollama listens.", pattern="https?://.+"
    )
    keep_alive: str = sdk.option("", "How long a model stays loaded: 10m, -1. Empty: Ollama's own.")
    load_timeout: float = sdk.option(
        300.0, "Seconds until an answer begins; loading a model takes long.", min=1.0, max=3600.0
    )

    @functools.cached_property
    def client(self) -> sdk.Client:
        """What asks Ollama."""
        return sdk.Client(self.endpoint, timeouts=sdk.Timeouts(first_byte_s=self.load_timeout))


plugin = sdk.Plugin(
    "ollama",
    version="1.0.0",
    name="Ollama",
    description="Models of a local Ollama, in OpenAI's dialect.",
    homepage="https://ollama.com",
    capabilities=("function_calling", "vision"),
    config=Config,
)


@plugin.cleanup
async def cleanup() -> None:
    """Close what is open."""
    await plugin.config.client.aclose()


@plugin.health
async def health() -> sdk.Health:
    """Ollama must be there: a plugin without it is of no use."""
    version = await plugin.config.client.get("/api/version")
    return sdk.Health(details={"ollama": version.get("version", "")})


@plugin.models
async def models() -> list[sdk.Model]:
    """List what was pulled."""
    listed = await plugin.config.client.get("/api/tags")
    return [
        sdk.Model(entry["name"], metadata=entry.get("details") or {}) for entry in listed["models"]
    ]


@plugin.chat
async def chat(request: sdk.Request) -> AsyncIterator[sdk.Piece]:
    """Ask, and pass on what comes as it comes."""
    answer = Answer()
    body = body_of(request, plugin.config.keep_alive)
    async with plugin.config.client.stream("/api/chat", body) as stream:
        async for line in stream.lines():
            for piece in answer.take(line):
                yield piece
    if not answer.ended:
        raise sdk.PluginError("provider_unavailable", "Ollama broke off in the middle.")


if __name__ == "__main__":
    plugin.run()

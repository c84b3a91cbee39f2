"""Anthropic: OpenAI's chat dialect on top of the Messages API, both ways, streaming and tools.

The translation is in `anthropic_request` and `anthropic_answer`; this file asks.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anthropic_answer import Answer
from anthropic_request import body_of

from loomproxy.plugins import sdk


@dataclass(frozen=True)
class Config:
    """What `plugins.config.anthropic` may say."""

    api_key: str = sdk.secret("From console.anthropic.com.")
    endpoint: str = sdk.option(
        "https://api.anthropic.com", "Where the Messages API is.", pattern="https?://.+"
    )
    version: str = sdk.option("2023-06-01", "The field anthropic-version.")
    beta: str = sdk.option("", "The field anthropic-beta: what to try, separated by commas.")
    max_tokens: int = sdk.option(
        4096, "The longest answer where a request says nothing.", min=1, max=1_000_000
    )
    models: str = sdk.option("", "Which models to serve, by commas. Empty: Anthropic is asked.")
    prices: str = sdk.option(
        "",
        "Dollars per million tokens in and out, by the beginning of an id: claude-x=3/15, …",
    )

    @functools.cached_property
    def client(self) -> sdk.Client:
        """What asks Anthropic, with the key; a new configuration has a new one."""
        fields = {"x-api-key": self.api_key, "anthropic-version": self.version}
        if self.beta:
            fields["anthropic-beta"] = self.beta
        return sdk.Client(self.endpoint, fields=fields)

    @functools.cached_property
    def price_list(self) -> dict[str, tuple[float, float]]:
        """What `prices` says."""
        prices = {}
        for text in filter(None, map(str.strip, self.prices.split(","))):
            start, _, price = text.partition("=")
            dollars = price.split("/")
            try:
                prices[start.strip()] = (float(dollars[0]), float(dollars[1]))
            except (IndexError, ValueError):
                raise sdk.PluginError(
                    "invalid_request", f"prices: {text!r} is none. Write claude-x=3/15."
                ) from None
        return prices


plugin = sdk.Plugin(
    "anthropic",
    version="1.0.0",
    name="Anthropic",
    description="Claude through the Messages API, in OpenAI's dialect.",
    homepage="https://docs.anthropic.com/en/api/messages",
    capabilities=("function_calling", "vision"),
    config=Config,
)


@plugin.initialize
async def initialize() -> None:
    """Refuse a configuration now that would fail later."""
    for name in ("client", "price_list"):
        getattr(plugin.config, name)


@plugin.cleanup
async def cleanup() -> None:
    """Close what is open."""
    await plugin.config.client.aclose()


@plugin.models
async def models() -> list[sdk.Model]:
    """List the models of the configuration, or else those that the key may use."""
    named = [name.strip() for name in plugin.config.models.split(",") if name.strip()]
    if named:
        return [model(name) for name in named]
    listed = await plugin.config.client.get("/v1/models?limit=1000")
    return [model(entry["id"], entry.get("display_name", "")) for entry in listed["data"]]


def model(name: str, title: str = "") -> sdk.Model:
    """Return what there is to say of a model. Prices are the operator's to say: they change."""
    dollars_in, dollars_out = next(
        (prices for start, prices in plugin.config.price_list.items() if name.startswith(start)),
        (None, None),
    )
    return sdk.Model(
        name,
        name=title,
        input_cost_per_mtoken=dollars_in,
        output_cost_per_mtoken=dollars_out,
    )


@plugin.chat
async def chat(request: sdk.Request) -> AsyncIterator[sdk.Piece]:
    """Ask, and pass on what comes as it comes."""
    body = body_of(request, plugin.config.max_tokens)
    answer = Answer()
    try:
        async with plugin.config.client.stream("/v1/messages", body) as stream:
            async for event in stream.events():
                for piece in answer.take(event):
                    yield piece
    except sdk.PluginError as error:
        # The one refusal whose status misleads: it is the account that is empty.
        if error.code == "invalid_request" and "credit balance" in error.message:
            raise sdk.PluginError("quota_exceeded", error.message) from error
        raise
    if not answer.ended:
        raise sdk.PluginError("provider_unavailable", "Anthropic broke off in the middle.")


if __name__ == "__main__":
    plugin.run()

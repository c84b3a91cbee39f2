"""What a plugin says of its models, of what it can do, and of how it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

_CAPABILITIES: Final = ("streaming", "function_calling", "vision", "embeddings", "fine_tuning")


class ModelWords(TypedDict, total=False):
    """What there is to say of a model; see `Model`."""

    name: str
    description: str
    context_window: int
    max_output_tokens: int
    cost_per_mtoken: float | None
    input_cost_per_mtoken: float | None
    output_cost_per_mtoken: float | None
    capabilities: Sequence[str]
    deprecated: bool
    metadata: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """One model. Tokens: 0 is unknown. Prices are US dollars per million tokens: None is unknown.

    Without `capabilities` it can what its plugin can.
    """

    id: str
    name: str = ""
    description: str = ""
    context_window: int = 0
    max_output_tokens: int = 0
    cost_per_mtoken: float | None = None
    input_cost_per_mtoken: float | None = None
    output_cost_per_mtoken: float | None = None
    capabilities: Sequence[str] = ()
    deprecated: bool = False
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_dict(self, capabilities: Sequence[str]) -> dict[str, Any]:
        """Return the contract's ModelInfo; `capabilities` are those of the plugin."""
        words = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) not in (None, "", 0, (), {})
        }
        words["capabilities"] = capabilities_of(self.capabilities or capabilities)
        return words


@dataclasses.dataclass(frozen=True)
class Health:
    """How the plugin is, when yes or no does not say enough."""

    healthy: bool = True
    message: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def capabilities_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the contract's Capabilities: its own words as keys, all others as custom ones."""
    told = {word: True for word in words if word in _CAPABILITIES}
    custom = {word: True for word in words if word not in _CAPABILITIES}
    streaming = {"streaming": True}  # The SDK streams whatever a handler gives.
    return {**streaming, **told, **({"custom_capabilities": custom} if custom else {})}

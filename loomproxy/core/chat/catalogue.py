"""Which provider answers which model: the names that clients use, and the list they get of them.

A name is `provider_type/model`, or a model that exactly one provider serves. Where what stands
before the first slash is the name of a provider, it is that provider which is meant, ready or not:
no request ever goes to another because the first is away.

Made once for each snapshot, asked once for each chat.
"""

import difflib
from collections.abc import Iterable
from typing import Final

import msgspec

from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.provider import Model, Provider

NAMES_SHOWN_MAX: Final = 5
"""In one message."""

NAME_CHARS_SHOWN_MAX: Final = 64
"""Of a name that a client made up: it can be as long as a body."""

NAMES_COMPARED_MAX: Final = 100
NAME_CHARS_COMPARED_MAX: Final = 64
"""Bounds of the search for a name that was meant: it takes about a millisecond then."""

OTHER_MODELS: Final = "(other)"
"""What logs and metrics call a model that its provider does not list: clients choose that name."""


class Target(msgspec.Struct, frozen=True):
    """Who answers."""

    provider: Provider
    model: str  # as the provider calls it
    listed: bool = True  # by the provider; False: it lists none, and the client chose this name

    @property
    def label(self) -> str:
        """What metrics call the model."""
        return self.model if self.listed else OTHER_MODELS


class Catalogue:
    """The models of all providers of a snapshot."""

    __slots__ = ("_by_model", "_entries", "_own", "_providers", "_qualified", "listing")

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._providers = {provider.provider_type: provider for provider in providers}
        self._own = {
            name: dict.fromkeys(model.id for model in provider.models)
            for name, provider in self._providers.items()
        }
        self._by_model: dict[str, list[str]] = {}
        self._entries: dict[str, bytes] = {}
        for name, provider in self._providers.items():
            for model in provider.models:
                self._by_model.setdefault(model.id, []).append(name)
                if provider.ready:
                    self._entries[f"{name}/{model.id}"] = _entry(provider, model)
        self._qualified = [
            f"{name}/{model}" for model, names in self._by_model.items() for name in names
        ]
        # What GET /v1/models answers: those of providers that are ready.
        self.listing = b'{"object":"list","data":[%b]}' % b",".join(self._entries.values())

    def find(self, name: str) -> Target | Complaint:
        """Who answers `name`, or why nobody does. Here the aliases of operators will come first."""
        provider_type, slash, model = name.partition("/")
        if slash and provider_type in self._providers:
            return self.find_in(provider_type, model)
        candidates = self._by_model.get(name, [])
        if len(candidates) == 1:
            return self.find_in(candidates[0], name)
        if candidates:
            shown = _shown([f"{candidate}/{name}" for candidate in candidates])
            return complaints.of_fault(
                faults.CHAT_INVALID,
                f"Several providers serve the model {name!r}; say which: {shown}.",
                param="model",
            )
        return self._unknown(name, self._qualified)

    def find_in(self, provider_type: str, model: str) -> Target | Complaint:
        """Who answers `model` of one provider; "" is its first. Or why nobody does."""
        provider = self._providers.get(provider_type)
        if provider is None:
            return complaints.of_fault(
                faults.MODEL_NOT_FOUND,
                f"There is no provider {provider_type[:NAME_CHARS_SHOWN_MAX]!r}; there are: "
                f"{_shown(sorted(self._providers)) or 'none'}.",
                param="provider_id",
            )
        if not provider.ready:
            why = provider.reason.rstrip(".") or "nothing of it is ready"
            return complaints.of_fault(
                faults.POOL_UNAVAILABLE, f"The provider {provider_type} is not available: {why}."
            )
        own = self._own[provider_type]
        model = model or next(iter(own), "")
        if not model:
            return complaints.of_fault(
                faults.CHAT_INVALID,
                f"The provider {provider_type} lists no models; say which in `model`.",
                param="model",
            )
        if own and model not in own:
            prefix = f"{provider_type}/"
            return self._unknown(prefix + model, [prefix + each for each in own])
        return Target(provider, model, listed=bool(own))

    def entry(self, name: str) -> bytes | None:
        """What GET /v1/models/NAME answers, or None."""
        owners = self._by_model.get(name, [])
        bare = f"{owners[0]}/{name}" if len(owners) == 1 else name
        return self._entries.get(name) or self._entries.get(bare)

    def _unknown(self, name: str, names: list[str]) -> Complaint:
        close = difflib.get_close_matches(
            name[:NAME_CHARS_COMPARED_MAX], names[:NAMES_COMPARED_MAX], n=NAMES_SHOWN_MAX
        )
        hint = f" Did you mean {_shown(close)}?" if close else ""
        shown = name[:NAME_CHARS_SHOWN_MAX]
        return complaints.of_fault(
            faults.MODEL_NOT_FOUND,
            f"No provider serves the model {shown!r}.{hint} GET /v1/models lists all there are.",
            param="model",
        )


def _shown(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    return f"{shown}, …" if len(names) > NAMES_SHOWN_MAX else shown


def _entry(provider: Provider, model: Model) -> bytes:
    entry: dict[str, object] = {
        "id": f"{provider.provider_type}/{model.id}",
        "object": "model",
        "created": provider.published_at,
        "owned_by": provider.provider_type,
    }
    more = {
        "name": model.name,
        "description": model.description,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "capabilities": model.capabilities,
        "deprecated": model.deprecated,
    }
    entry |= {name: value for name, value in more.items() if value}
    entry["input_cost_per_mtoken"] = model.input_cost_per_mtoken
    entry["output_cost_per_mtoken"] = model.output_cost_per_mtoken
    return msgspec.json.encode(entry)

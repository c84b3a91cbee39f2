"""From a manifest and a list of models to what workers are told: a `Provider` of core."""

from typing import Final

from loomproxy.config.address import base_url
from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.endpoint import EndpointSpec
from loomproxy.plugins.contract import Capabilities, ModelInfo
from loomproxy.plugins.manifest import Found, Manifest

CHAT_PATH: Final = "/chat/completions"
"""Where a plugin answers, below its base (contract)."""


def provider(
    found: Found,
    models: tuple[ModelInfo, ...],
    endpoints: tuple[EndpointSpec, ...],
    *,
    reason: str,
    published_at: int,
) -> Provider:
    """One plugin as the node publishes it.

    `models` are those of its manifest or of GET /models. `endpoints` are its replicas; the ones
    that are to get no new exchanges have `enabled=False`. `reason` is for clients, while none is
    enabled.
    """
    manifest = found.manifest
    metadata = manifest.metadata
    return Provider(
        provider_type=metadata.provider_type,
        endpoints=endpoints,
        models=tuple(_model(model, metadata.capabilities) for model in models),
        reason=reason,
        tongue=Tongue.OPENAI if manifest.type == "builtin" else Tongue.PLUGIN,
        streaming=metadata.capabilities.streaming,
        target=_target(manifest).encode(),
        request_timeout_s=manifest.request_timeout_s,
        idle_timeout_s=manifest.idle_timeout_s,
        published_at=published_at,
    )


def remote_endpoint(manifest: Manifest) -> EndpointSpec:
    """Where a plugin is that somebody else runs, and what it is shown; it has an `endpoint`."""
    address, _ = base_url(manifest.endpoint)
    shown = None if manifest.auth is None else manifest.auth.field
    return EndpointSpec(address, secrets=() if shown is None else (shown,))


def builtin_endpoint(manifest: Manifest) -> EndpointSpec:
    """Where a builtin provider's upstream is, and what it is shown."""
    return remote_endpoint(manifest)


def base_path(manifest: Manifest) -> str:
    """The path below which a plugin answers: of its `endpoint`, else none."""
    return base_url(manifest.endpoint)[1] if manifest.endpoint else ""


def models_path(manifest: Manifest) -> str:
    """Where the list of models is asked for, base included."""
    path = manifest.path_map.models if manifest.type == "builtin" else "/models"
    return base_path(manifest) + path


def _target(manifest: Manifest) -> str:
    path = manifest.path_map.chat_completions if manifest.type == "builtin" else CHAT_PATH
    return base_path(manifest) + path


def _model(info: ModelInfo, of_plugin: Capabilities) -> Model:
    """One model. Where it has but one price, that is the price of both directions."""
    price = info.cost_per_mtoken
    into, out = info.input_cost_per_mtoken, info.output_cost_per_mtoken
    # A model that says nothing of itself can do what its plugin says.
    said = info.capabilities if info.capabilities != Capabilities() else of_plugin
    return Model(
        id=info.id,
        name=info.name or info.id,
        description=info.description,
        context_window=info.context_window,
        max_output_tokens=info.max_output_tokens,
        input_cost_per_mtoken=price if into is None else into,
        output_cost_per_mtoken=price if out is None else out,
        capabilities=_flags(said),
        deprecated=info.deprecated,
    )


def _flags(capabilities: Capabilities) -> dict[str, bool]:
    """All in one mapping; one of the contract's own is never overridden by a custom one."""
    ours = {
        name: getattr(capabilities, name)
        for name in capabilities.__struct_fields__
        if name != "custom_capabilities"
    }
    return {**capabilities.custom_capabilities, **ours}

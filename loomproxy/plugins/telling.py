"""What operators are told of a plugin, as plain values made at that moment."""

from collections.abc import Mapping
from pathlib import Path

from loomproxy.config.problem import Problems
from loomproxy.plugins.plugin import Plugin
from loomproxy.plugins.reasons import reason
from loomproxy.plugins.schema import masked
from loomproxy.plugins.status import PluginStatus, State
from loomproxy.plugins.usage import Usage


def status(plugin: Plugin, usages: Mapping[int, Usage]) -> PluginStatus:
    """How `plugin` is."""
    wish = plugin.serving.goal.wish if plugin.serving is not None else plugin.goal.wish
    manifest = wish.manifest
    metadata = manifest.metadata
    return PluginStatus(
        provider_type=plugin.provider_type,
        name=metadata.name,
        version=metadata.version,
        state=plugin.state,
        manifest=str(wish.path),
        kind=_kind(plugin),
        required=manifest.required,
        models=tuple(model.id for model in plugin.models),
        generations=tuple(each.status(usages) for each in plugin.generations),
        restarts=plugin.restarts,
        reloads=plugin.reloads,
        reloads_failed=plugin.reloads_failed,
        last_error=plugin.trouble,
        reason=plugin.reason,
        config=masked(metadata.config_schema, wish.config),
    )


def refused_status(path: str, claimed: str, why: Problems) -> PluginStatus:
    """What is told of a manifest that nothing can be made of; its folder lends it a name."""
    name = claimed or Path(path).parent.name
    return PluginStatus(
        provider_type=name,
        name=name,
        version="",
        state=State.INVALID,
        manifest=path,
        last_error=str(why),
        reason=reason(name, State.INVALID, crashed=False),
    )


def _kind(plugin: Plugin) -> str:
    manifest = plugin.goal.wish.manifest
    if manifest.type == "builtin":
        return "builtin"
    return "process" if manifest.command else "remote"

"""The keys that concern provider plugins: the node's own, never sent to workers."""

from typing import Annotated, Any

from msgspec import field

from loomproxy.config.key import DAY_S, Base, duration, group, text

PluginName = Annotated[str, text(kind="provider_type")]


class Desired(Base, frozen=True):
    """What is wanted of one plugin, wherever it is installed."""

    enabled: Annotated[
        bool, group("`false`: do not run it. A plugin that is disabled on its host stays so.")
    ] = True
    version: Annotated[
        str,
        text(
            "Run this version alone; where another one is installed, what serves goes on, and the "
            "plugin says why it does not change. Empty: whichever is installed.",
            "optional_semver",
        ),
    ] = ""
    config: Annotated[
        str,
        text(
            "Which entry of `plugins.config` it is told. Empty: that of its own name.",
            "optional_name",
        ),
    ] = ""


class Plugins(Base, frozen=True):
    """Provider plugins: where their folders are, and what each is told."""

    directory: Annotated[
        str,
        text(
            "Where plugins are looked for, each a folder with its manifest, at any depth; relative "
            "to this file. Empty: there are none.",
        ),
    ] = ""
    auto_start: Annotated[
        bool, group("Start plugins by themselves. `false`: none, whatever its manifest says.")
    ] = True
    health_check_interval_s: Annotated[
        float,
        duration("How often each is probed, where its manifest does not say.", low=0.1, high=DAY_S),
    ] = 60.0
    watch: Annotated[
        bool, group("Follow what changes in the directory: reload, add and remove plugins.")
    ] = True
    config: Annotated[
        dict[PluginName, dict[Annotated[str, text(kind="name")], Any]],
        group(
            "The configuration of each plugin, by its provider_type: what its manifest's "
            "`config_schema` asks for."
        ),
    ] = field(default_factory=dict)
    desired: Annotated[
        dict[PluginName, Desired],
        group(
            "What is wanted of each plugin, by its provider_type, beyond what its manifest says."
        ),
    ] = field(default_factory=dict)


class Guests(Base, frozen=True):
    """The one key of a file that holds all this."""

    plugins: Annotated[Plugins, group("Provider plugins.")] = Plugins()

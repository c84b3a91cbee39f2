"""Which commands there are, and where; nothing of them is imported before it is asked for.

`--version` and a typing mistake are answered in the time that Python and click need.
"""

# ruff: noqa: PLC0415 - importing late is what this module is for.

from collections.abc import Callable
from typing import Final

import click

import loomproxy


def _serve() -> click.Command:
    from loomproxy.cli.serve import serve

    return serve


def _check() -> click.Command:
    from loomproxy.cli.check import check

    return check


def _reload() -> click.Command:
    from loomproxy.cli.operate import reload

    return reload


def _drain() -> click.Command:
    from loomproxy.cli.operate import drain

    return drain


def _status() -> click.Command:
    from loomproxy.cli.status import status

    return status


def _plugins() -> click.Command:
    from loomproxy.cli.plugins import plugins

    return plugins


def _cluster() -> click.Command:
    from loomproxy.cli.cluster import cluster

    return cluster


def _version() -> click.Command:
    from loomproxy.cli.version import version

    return version


_COMMANDS: Final[dict[str, tuple[str, Callable[[], click.Command]]]] = {
    "serve": ("Serve a configuration, or one pool without a file.", _serve),
    "check": ("Say everything that is wrong with a configuration.", _check),
    "reload": ("Publish the configuration anew in a running instance.", _reload),
    "drain": ("Have a running instance finish what it does and leave.", _drain),
    "status": ("Show workers, pools, endpoints and plugins of a running instance.", _status),
    "plugins": ("Show and run provider plugins; test one, or begin a new one.", _plugins),
    "cluster": ("Show the instances that share a store; publish what all run.", _cluster),
    "version": ("Say which version this is.", _version),
}


class _Commands(click.Group):
    """Knows its commands by name; imports one to run it."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The commands that people call."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now; or None."""
        return _COMMANDS[cmd_name][1]() if cmd_name in _COMMANDS else None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (text, _) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(loomproxy.__version__, message="loomproxy %(version)s")
def cli() -> None:
    """loomproxy: an edge proxy for apps and AI providers, in one file."""

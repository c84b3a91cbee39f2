"""Which commands there are, and where; nothing of them is imported before it is asked for."""

import importlib
from typing import Final

import click

import loomproxy

_COMMANDS: Final = {
    "serve": "Serve a configuration, or one pool without a file.",
    "check": "Say everything that is wrong with a configuration.",
    "reload": "Publish the configuration anew in a running instance.",
    "drain": "Have a running instance finish what it does and leave.",
    "status": "Show workers, pools and endpoints of a running instance.",
    "version": "Say which version this is.",
}
_HIDDEN: Final = ("worker", "demo")
_MODULES: Final = {
    "reload": "operate",
    "drain": "operate",
    "worker": "roles",
    "demo": "roles",
}


class _Commands(click.Group):
    """Knows its commands by name; imports one to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """The commands that people call."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's signature
        """The command of this name, imported now; or None."""
        if cmd_name not in _COMMANDS and cmd_name not in _HIDDEN:
            return None
        module = importlib.import_module(f"loomproxy.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # click's signature
        """The help's list, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(loomproxy.__version__, message="loomproxy %(version)s")
def cli() -> None:
    """loomproxy: an edge proxy for apps and AI providers, in one file."""


def main() -> None:
    """Run the command of this process's argv, and leave with its exit status."""
    cli(prog_name="loomproxy")

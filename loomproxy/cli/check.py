"""`loomproxy check`: everything that is wrong with a configuration, at once."""

import sys

import click

from loomproxy.cli.source import from_file, show
from loomproxy.config.problem import Problems


@click.command()
@click.argument("file", type=click.Path())
def check(file: str) -> None:
    """Say everything that is wrong with the configuration in FILE; exit 0 if nothing is, else 1."""
    config = from_file(file)
    if isinstance(config, Problems):
        show(config)
        sys.exit(1)
    dynamic = config.dynamic
    counts = (
        (len(config.static.listeners), "listener"),
        (len(dynamic.routes), "route"),
        (len(dynamic.pools), "pool"),
    )
    text = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    click.echo(f"{file}: good ({text})")

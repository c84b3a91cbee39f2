"""Where a configuration comes from: a file, or the arguments of `serve`; loaded and compiled."""

from collections.abc import Sequence

import click

from loomproxy.config.judge import judged
from loomproxy.config.load import load, quick
from loomproxy.config.model import Config
from loomproxy.config.problem import Problems


def from_file(file: str) -> Config | Problems:
    """The configuration in `file`, if it can be compiled and the files it names can be used."""
    return judged(load(file))


def from_arguments(
    listen: str, to: Sequence[str], workers: int | None, admin: str | None
) -> Config | Problems:
    """The configuration that stands for everything to one pool."""
    return judged(quick(listen, to, workers=workers, admin=admin))


def show(problems: Problems) -> None:
    """Every problem on stderr, and how many they are."""
    for problem in problems.items:
        click.echo(str(problem), err=True)
    count = len(problems.items)
    click.echo(f"{count} problem{'' if count == 1 else 's'}", err=True)

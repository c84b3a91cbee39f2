"""`loomproxy reload` and `loomproxy drain`: commands for a running instance."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loomproxy.cli.client import TOKEN_VARIABLE, Instance, instance


def instance_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which instance is meant; the command is given it, first."""

    @click.option("--admin", metavar="ADDRESS", help="The instance's admin address.")
    @click.option("--pid", type=int, help="The instance whose node has this pid.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help=f"Holds its admin.token, for a TCP address. Else: ${TOKEN_VARIABLE}.",
    )
    @functools.wraps(command)
    def given_it(
        admin: str | None, pid: int | None, token_file: Path | None, **more: object
    ) -> None:
        command(instance(admin, pid, token_file), **more)

    return given_it


@click.command()
@instance_options
def reload(at: Instance) -> None:
    """Publish the configuration anew; exit 1, with every reason, when the old one was kept."""
    answer = at.ask("POST", "/api/v1/reload")
    if answer.value["ok"]:
        click.echo(f"published as revision {answer.value['revision']}")
        return
    for problem in answer.value["problems"]:
        click.echo(problem, err=True)
    click.echo(f"kept revision {answer.value['revision']}", err=True)
    sys.exit(1)


@click.command()
@instance_options
def drain(at: Instance) -> None:
    """Have the instance finish what it does and leave; does not wait for that."""
    at.ask("POST", "/api/v1/drain")
    click.echo("draining")

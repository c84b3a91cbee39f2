"""`loomproxy reload` and `loomproxy drain`: commands for a running instance."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from loomproxy.cli.client import ask, find

Command = TypeVar("Command", bound=Callable[..., Any])


def instance_options(command: Command) -> Command:
    """The options that say which instance is meant."""
    command = click.option("--pid", type=int, help="The instance whose node has this pid.")(command)
    return click.option("--admin", metavar="ADDRESS", help="The instance's admin address.")(command)


@click.command()
@instance_options
def reload(admin: str | None, pid: int | None) -> None:
    """Publish the configuration anew; exit 1, with every reason, when the old one was kept."""
    answer = ask(find(admin, pid), "POST", "/api/v1/reload")
    if answer.value["ok"]:
        click.echo(f"published as revision {answer.value['revision']}")
        return
    for problem in answer.value["problems"]:
        click.echo(problem, err=True)
    click.echo(f"kept revision {answer.value['revision']}", err=True)
    sys.exit(1)


@click.command()
@instance_options
def drain(admin: str | None, pid: int | None) -> None:
    """Have the instance finish what it does and leave; does not wait for that."""
    ask(find(admin, pid), "POST", "/api/v1/drain")
    click.echo("draining")

"""`loomproxy plugins test` and `new`: for whoever writes a plugin; no proxy is needed."""

# ruff: noqa: PLC0415 - what examines is imported when somebody asks for it.

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loomproxy.plugins.conformance.verdict import Verdict


@click.command("test")
@click.argument("target", metavar="DIR|URL")
@click.option(
    "--config",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="One key of the plugin's configuration; may be repeated.",
)
@click.option(
    "--config-file",
    type=click.Path(dir_okay=False),
    help="The plugin's configuration, YAML or JSON.",
)
@click.option(
    "--token", default="", help="The token that a running plugin expects.", metavar="TOKEN"
)
@click.option("--model", default="", help="The model to chat with; else the first it serves.")
@click.option(
    "--timeout",
    "within_s",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds that one call may take.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def test(  # noqa: PLR0913 - each an option of the command
    *,
    target: str,
    pairs: tuple[str, ...],
    config_file: str | None,
    token: str,
    model: str,
    within_s: float,
    as_json: bool,
) -> None:
    """Hold a plugin to the contract, clause by clause.

    The exit status is 1 when a clause fails. DIR is a plugin's folder: it is started as the proxy
    would start it, and ended afterwards. URL is that of a plugin which runs already, as
    http://127.0.0.1:8090 or unix:/run/acme.sock.
    """
    from loomproxy.plugins.conformance import report
    from loomproxy.plugins.conformance.examine import examine
    from loomproxy.plugins.conformance.target import target as target_of
    from loomproxy.process import environment

    if not (token.isascii() and token.isprintable()):
        raise click.BadParameter("it has signs that no field can hold.", param_hint="--token")
    subject = target_of(
        target,
        environment(),
        config=_from_file(config_file) if config_file else {},
        words=_words(pairs),
        token=token,
        model=model,
        within_s=within_s,
    )

    def told(verdict: "Verdict") -> None:
        if not as_json:
            click.echo(report.line(verdict))

    verdicts = asyncio.run(examine(subject, told))
    click.echo(
        report.document(target, verdicts) if as_json else f"\n{report.summary(target, verdicts)}"
    )
    sys.exit(0 if all(verdict.ok for verdict in verdicts) else 1)


def _words(pairs: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` each."""
    words = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{name!r} is not KEY=VALUE.", param_hint="--config")
        words[name] = value
    return words


def _from_file(file: str) -> Mapping[str, object]:
    """A mapping in a YAML or JSON file, its references resolved as the proxy's configuration's."""
    from loomproxy.config.problem import Problems
    from loomproxy.plugins.conformance.target import config_file

    config = config_file(Path(file))
    if isinstance(config, Problems):
        raise click.BadParameter(str(config), param_hint="--config-file")
    return config


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--lang",
    type=click.Choice(["python", "node", "go"]),
    default="python",
    show_default=True,
    help="What it is to be written in.",
)
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False),
    default="plugins",
    show_default=True,
    help="Where its folder goes.",
)
def new(*, name: str, lang: str, parent: str) -> None:
    """Begin a plugin: a folder that passes `test` at once."""
    from loomproxy.plugins.scaffold.scaffold import ScaffoldError, scaffold

    try:
        made = scaffold(name, lang, Path(parent))
    except ScaffoldError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(f"{made.folder}: {', '.join(made.files)}")
    click.echo("Next:")
    for step in made.steps:
        click.echo(f"  {step}")

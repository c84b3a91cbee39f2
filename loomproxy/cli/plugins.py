"""`loomproxy plugins`: the plugins of a running instance, shown and run.

What plugins say of themselves is not ours: it reaches a terminal without its control characters.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import click

from loomproxy.cli.client import Instance, answered, plain
from loomproxy.cli.operate import instance_options
from loomproxy.cli.status import table

COMMAND_TIMEOUT_S: Final = 4000.0
"""How long a command may take: a manifest may give a start an hour. Who loses patience before
presses Ctrl-C; the instance goes on with what it was told."""

FOLLOW_WAIT_S: Final = 25
"""How long `logs -f` waits for a line before it asks again: as long as it may."""

LINES_MAX: Final = 1000
"""Log lines that one question brings; an instance keeps fewer."""

_LOCAL: Final = ("test", "new")
_SHOWN_LINES: Final = 10  # of the log, in `show`
_SHOWN_PIDS: Final = 3
_CELL_CHARS_MAX: Final = 80
_MIB: Final = 1 << 20
_DONE: Final = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "reload": "reloaded",
    "enable": "enabled",
    "disable": "disabled",
}


class _Plugins(click.Group):
    """Has two commands for whoever writes a plugin, who needs no instance: imported to be run."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Those that ask an instance, then those that do not."""
        return [*self.commands, *_LOCAL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; or None."""
        if cmd_name not in _LOCAL:
            return super().get_command(ctx, cmd_name)
        from loomproxy.cli import plugins_local  # noqa: PLC0415 - see above

        return plugins_local.test if cmd_name == "test" else plugins_local.new


@click.group(cls=_Plugins)
def plugins() -> None:
    """Show and run the provider plugins of a running instance; test one, or begin a new one."""


@plugins.command(name="list")
@instance_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def list_(at: Instance, *, as_json: bool) -> None:
    """Show every plugin in a line."""
    found = answered(at.ask("GET", _target()))["plugins"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(overview(found) if found else "no plugins")


@plugins.command()
@click.argument("plugin", metavar="TYPE")
@instance_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def show(at: Instance, plugin: str, *, as_json: bool) -> None:
    """Show all of one plugin, and the last it said."""
    value = answered(at.ask("GET", _target(plugin)))
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    lines = answered(at.ask("GET", _target(plugin, f"logs?limit={_SHOWN_LINES}")))["lines"]
    click.echo(details(value, lines))


@plugins.command()
@click.argument("plugin", metavar="TYPE")
@instance_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what it says from now on.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, LINES_MAX),
    default=100,
    show_default=True,
    help="How many of the last lines.",
)
def logs(at: Instance, plugin: str, lines: int, *, follow: bool) -> None:
    """Show what a plugin wrote to stdout and stderr."""
    answer = answered(at.ask("GET", _target(plugin, f"logs?limit={lines}")))
    _say(answer["lines"])
    with contextlib.suppress(KeyboardInterrupt):  # As people end it.
        while follow:
            more = f"logs?since={answer['last']}&limit={LINES_MAX}&wait_s={FOLLOW_WAIT_S}"
            answer = answered(at.ask("GET", _target(plugin, more)))
            _say(answer["lines"])


def _command(action: str, text: str) -> None:
    """A command that the instance carries out."""

    @plugins.command(name=action, help=text)
    @click.argument("plugin", metavar="TYPE")
    @instance_options
    def command(at: Instance, plugin: str) -> None:
        answer = at.ask("POST", _target(plugin, action), timeout_s=COMMAND_TIMEOUT_S)
        done = _DONE[action]
        if "state" not in answer.value:
            answered(answer)
        if answer.value["ok"]:
            click.echo(f"{plugin} {done}: it is {answer.value['state']}")
            return
        for problem in answer.value["problems"]:
            click.echo(plain(problem), err=True)
        click.echo(f"{plugin} not {done}: it is {answer.value['state']}", err=True)
        sys.exit(1)


_command("start", "Start a plugin; done when it serves.")
_command("stop", "Let a plugin finish what it has, and end it.")
_command("restart", "Stop a plugin, then start it.")
_command("reload", "Replace what serves by what the folder holds now.")
_command("enable", "Want a plugin again, and start it.")
_command("disable", "Stop a plugin until it is enabled.")


def _target(plugin: str | None = None, rest: str = "") -> str:
    """The page of all plugins, of one, or below one."""
    target = "/api/v1/plugins"
    if plugin is not None:
        if "/" in plugin or plugin in {"", ".", ".."}:
            raise click.ClickException(
                f"'{plain(plugin)}' names no plugin; expected its provider_type, as `loomproxy "
                "plugins list` shows it."
            )
        target += f"/{quote(plugin, safe='')}"
    return f"{target}/{rest}" if rest else target


def overview(found: Sequence[Any]) -> str:
    """All plugins, a line each."""
    heads = (
        *("TYPE", "STATE", "GEN", "PID", "RESTARTS", "IN FLIGHT", "RSS MiB", "CPU s"),
        *("P50 ms", "P99 ms", "MODELS / LAST ERROR"),
    )
    return table(heads, [_line(plugin) for plugin in found])


def _line(plugin: Any) -> Sequence[object]:  # JSON
    replicas = list(_replicas(plugin))
    pids = [str(replica["pid"]) for _, replica in replicas if replica["pid"]]
    more = ", …" if len(pids) > _SHOWN_PIDS else ""
    return (
        plain(plugin["provider_type"]),
        plugin["state"],
        plugin["generations"][0]["number"] if plugin["generations"] else "-",
        int(pids[0]) if len(pids) == 1 else ", ".join(pids[:_SHOWN_PIDS]) + more or "-",
        plugin["restarts"],
        plugin["in_flight"],
        _mib(sum(replica["rss_bytes"] for _, replica in replicas)),
        _tenths(sum(replica["cpu_s"] for _, replica in replicas)) if pids else "-",
        _tenths(plugin["latency_p50_ms"]),
        _tenths(plugin["latency_p99_ms"]),
        _cut(plain(_first(plugin["last_error"]) or ", ".join(plugin["models"]) or "-")),
    )


def details(plugin: Any, lines: Sequence[Any]) -> str:  # JSON
    """All of one plugin, and the last lines it said."""
    blocks = [_facts(plugin)]
    if plugin["generations"]:
        blocks.append(_processes(plugin))
    if plugin["config"]:
        blocks.append("\n".join(["CONFIG", *_config(plugin["config"])]))
    if lines:
        blocks.append("\n".join(["LAST LINES", *(f"  {_said(line)}" for line in lines)]))
    return "\n\n".join(blocks)


def _facts(plugin: Any) -> str:  # JSON
    required = ", required" if plugin["required"] else ""
    failed = f"{plugin['reloads_failed']} failed"
    facts = [
        ("plugin", f"{plugin['provider_type']} ({plugin['name']}) {plugin['version']}".rstrip()),
        ("state", plugin["state"] + required),
        ("kind", plugin["kind"]),
        ("manifest", plugin["manifest"]),
        ("models", ", ".join(plugin["models"])),
        ("requests", f"{plugin['requests']}, {plugin['in_flight']} in flight{_times(plugin)}"),
        ("restarts", str(plugin["restarts"])),
        ("reloads", f"{plugin['reloads']}, {failed}"),
        ("last error", plugin["last_error"]),
        ("clients are told", plugin["reason"]),
    ]
    width = max(len(name) for name, _ in facts)
    below = "\n" + " " * (width + 2)
    return "\n".join(
        f"{name.ljust(width)}  {below.join(map(plain, text.splitlines()))}"
        for name, text in facts
        if text
    )


def _times(plugin: Any) -> str:  # JSON
    p50, p99 = plugin["latency_p50_ms"], plugin["latency_p99_ms"]
    return "" if p50 is None else f"; p50 {_tenths(p50)} ms, p99 {_tenths(p99)} ms"


def _processes(plugin: Any) -> str:  # JSON
    heads = (
        *("GEN", "VERSION", "REPLICA", "STATE", "PID", "STARTS", "IN FLIGHT", "RSS MiB", "CPU s"),
        *("ADDRESS", "LAST EXIT / MESSAGE"),
    )
    rows: list[Sequence[object]] = [
        (
            generation["number"],
            plain(generation["version"]),
            replica["number"],
            replica["state"],
            replica["pid"] or "-",
            replica["starts"],
            replica["in_flight"],
            _mib(replica["rss_bytes"]),
            _tenths(replica["cpu_s"]) if replica["pid"] else "-",
            plain(replica["address"]),
            _cut(plain("; ".join(filter(None, (replica["last_exit"], replica["message"]))))),
        )
        for generation, replica in _replicas(plugin)
    ]
    return table(heads, rows)


def _replicas(plugin: Any) -> Iterator[tuple[Any, Any]]:  # JSON
    """Each replica, with its generation."""
    for generation in plugin["generations"]:
        for replica in generation["replicas"]:
            yield generation, replica


def _config(config: Mapping[str, object]) -> list[str]:
    return [f"  {plain(key)}: {plain(json.dumps(value))}" for key, value in config.items()]


def _say(lines: Sequence[Any]) -> None:
    for line in lines:
        click.echo(_said(line))


def _said(line: Any) -> str:  # JSON
    """A line, with who said it: generation, replica and stream."""
    return f"{line['generation']}.{line['replica']} {line['stream']} | {plain(line['text'])}"


def _first(text: str) -> str:
    """The first line, and that there are more."""
    line, _, more = text.partition("\n")
    return f"{line} …" if more else line


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_CHARS_MAX else text[: _CELL_CHARS_MAX - 1] + "…"


def _mib(size_bytes: int) -> object:
    return round(size_bytes / _MIB, 1) if size_bytes else "-"


def _tenths(value: float | None) -> object:
    return "-" if value is None else round(value, 1)

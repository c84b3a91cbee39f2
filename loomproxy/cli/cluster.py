"""`loomproxy cluster`: who is there, who leads, what is published; asked of a running instance."""

import difflib
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from loomproxy.cli.client import Instance, answered, plain
from loomproxy.cli.operate import instance_options
from loomproxy.cli.status import cluster_lines, table
from loomproxy.cluster.store import DOCUMENT_BYTES_MAX
from loomproxy.config.load import read_text
from loomproxy.process import environment

ROOT: Final = "/api/v1/cluster"

LOOK_EVERY_S: Final = 0.1
"""How often `publish --wait` looks whether all instances run it."""

_DIGEST_CHARS: Final = 12
_CELL_CHARS_MAX: Final = 60

_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
_limit_option = click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many, the newest first.",
)


def _why_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a new revision carries with it, and how long to wait for it."""
    command = click.option(
        "--wait",
        type=click.FloatRange(0, 600),
        default=10.0,
        show_default=True,
        help="Seconds to wait until every active instance runs it; 0: do not wait.",
    )(command)
    command = click.option(
        "--expected",
        type=click.IntRange(0),
        help="Refuse, if this is not the number of the newest revision any more.",
    )(command)
    command = click.option("--note", default="", help="Why.")(command)
    return click.option("--author", help="Who; default: $USER.")(command)


@click.group()
def cluster() -> None:
    """Show the instances that share a store; publish what all of them run."""


@cluster.command()
@instance_options
@_json_option
def status(at: Instance, *, as_json: bool) -> None:
    """Show every instance in a line, and what this one knows of the cluster."""
    known = answered(at.ask("GET", ROOT))
    answer = at.ask("GET", "/api/v1/instances")
    instances = answer.value.get("instances")
    if as_json:
        click.echo(json.dumps({"cluster": known, "instances": instances}, indent=2))
    else:
        click.echo("\n".join([*cluster_lines(known), "", instances_table(instances or [])]))
    if instances is None:
        answered(answer)


@cluster.command()
@instance_options
@_json_option
def leases(at: Instance, *, as_json: bool) -> None:
    """Show every lease: who holds it, its fencing token, and for how long."""
    found = answered(at.ask("GET", f"{ROOT}/leases"))["leases"]
    click.echo(json.dumps(found, indent=2) if as_json else leases_table(found))


@cluster.command()
@instance_options
@_limit_option
@_json_option
def events(at: Instance, limit: int, *, as_json: bool) -> None:
    """Show what happened lately: who came, left and led, what was published."""
    found = answered(at.ask("GET", f"{ROOT}/events?limit={limit}"))["events"]
    heads = ("AT", "WHAT", "INSTANCE", "DETAIL")
    rows = [(e["at"], e["kind"], plain(e["instance_id"]), plain(e["detail"])) for e in found]
    click.echo(json.dumps(found, indent=2) if as_json else table(heads, rows))


@cluster.command(name="step-down")
@click.argument("lease", default="leader")
@instance_options
def step_down(at: Instance, lease: str) -> None:
    """Ask the holder of a lease (default: the leader's) to let another instance have it."""
    owner = answered(at.ask("POST", f"{ROOT}/leases/{_segment(lease)}/step-down"))["owner"]
    click.echo(f"{plain(owner)} is asked to let {plain(lease)} go")


@cluster.command()
@click.argument("instance_id", metavar="INSTANCE")
@instance_options
def evict(at: Instance, instance_id: str) -> None:
    """Take an instance's leases away at once, and have it drain and leave."""
    answered(at.ask("POST", f"{ROOT}/instances/{_segment(instance_id)}/evict"))
    click.echo(f"{plain(instance_id)} is evicted")


@cluster.command()
@click.argument("file", type=click.Path(dir_okay=False))
@instance_options
@_why_options
def publish(at: Instance, file: str, *, wait: float, **why: Any) -> None:
    """Publish the configuration in FILE to every instance; it is checked first."""
    body = _read(file).encode()
    target = f"{ROOT}/revisions?{_query(**why)}"
    head = answered(at.ask("POST", target, body=body))["revision"]
    click.echo(f"published as revision {head['number']}")
    _await(at, head["number"], wait)


@cluster.command()
@click.argument("number", type=click.IntRange(0))
@instance_options
@_why_options
def rollback(at: Instance, number: int, *, wait: float, **why: Any) -> None:
    """Publish revision NUMBER again, as a new one; 0: every instance runs its own file."""
    target = f"{ROOT}/revisions/{number}/rollback?{_query(**why)}"
    head = answered(at.ask("POST", target))["revision"]
    click.echo(f"published revision {number} again, as revision {head['number']}")
    _await(at, head["number"], wait)


@cluster.command(name="list")
@instance_options
@_limit_option
@_json_option
def list_(at: Instance, limit: int, *, as_json: bool) -> None:
    """Show what was published."""
    found = answered(at.ask("GET", f"{ROOT}/revisions?limit={limit}"))["revisions"]
    click.echo(json.dumps(found, indent=2) if as_json else revisions_table(found))


@cluster.command()
@click.argument("number", type=click.IntRange(1))
@instance_options
def show(at: Instance, number: int) -> None:
    """Show the document of a revision."""
    click.echo(_document(at, number), nl=False)


@cluster.command()
@click.argument("before")
@click.argument("after", default="newest")
@instance_options
def diff(at: Instance, before: str, after: str) -> None:
    """Show what differs: each side is a revision's number, `newest`, or a file. 1 if it differs."""
    sides = [_side(at, text) for text in (before, after)]
    names = [f"revision {text}" if text.isdigit() else text for text in (before, after)]
    lines = difflib.unified_diff(
        sides[0].splitlines(keepends=True), sides[1].splitlines(keepends=True), names[0], names[1]
    )
    differs = False
    for line in lines:
        differs = True
        click.echo(line if line.endswith("\n") else f"{line}\n", nl=False)
    sys.exit(1 if differs else 0)


def instances_table(found: Sequence[Any]) -> str:
    """A line for each instance."""
    heads = ("INSTANCE", "STATUS", "LEADS", "REVISION", "SEEN s", "HOST", "ZONE", "VERSION", "NOTE")
    return table(heads, [_instance(one) for one in found])


def _instance(one: Any) -> Sequence[object]:  # JSON
    problems = one["problems"]
    lagging = f"refuses {one['refused']}: {plain(problems[0])}" if problems else "lags"
    return (
        plain(one["instance_id"]),
        one["status"],
        "yes" if one["leader"] else "",
        one["revision"],
        round(one["silent_s"], 1),
        plain(one["hostname"]),
        plain(one["zone"]),
        plain(one["version"]),
        _cut(lagging) if one["lagging"] else "",
    )


def leases_table(found: Sequence[Any]) -> str:
    """A line for each lease."""
    heads = ("LEASE", "HOLDER", "TOKEN", "FOR s", "SINCE", "NOTE")
    rows = [
        (
            plain(one["name"]),
            plain(one["instance_id"] or one["owner"]) if one["remaining_s"] else "nobody",
            one["token"],
            round(one["remaining_s"], 1),
            one["acquired_at"],
            "asked to step down" if one["leaving"] else "",
        )
        for one in found
    ]
    return table(heads, rows)


def revisions_table(found: Sequence[Any]) -> str:
    """A line for each revision."""
    heads = ("REVISION", "AT", "AUTHOR", "DIGEST", "NOTE")
    rows = [
        (
            one["number"],
            one["published_at"],
            plain(one["author"]),
            one["digest"][:_DIGEST_CHARS] or "own file",
            _cut(plain(_remark(one))),
        )
        for one in found
    ]
    return table(heads, rows)


def _remark(one: Any) -> str:  # JSON
    back = one["rolled_back_to"]
    return one["note"] if back is None else f"as revision {back}. {one['note']}".rstrip()


def _await(at: Instance, number: int, wait_s: float) -> None:
    """Wait until every active instance runs a revision; exit status 1 where one does not."""
    end = time.monotonic() + wait_s
    while wait_s:
        active = [
            one
            for one in answered(at.ask("GET", "/api/v1/instances"))["instances"]
            if one["status"] == "active"
        ]
        behind = [one for one in active if one["revision"] < number]
        refusing = [one for one in behind if one["refused"] >= number]
        if not behind:
            click.echo(f"{len(active)} of {len(active)} instances run it")
            return
        if time.monotonic() > end or len(refusing) == len(behind):
            click.echo(f"{len(active) - len(behind)} of {len(active)} instances run it", err=True)
            click.echo(instances_table(behind), err=True)
            sys.exit(1)
        time.sleep(LOOK_EVERY_S)


def _document(at: Instance, number: int) -> str:
    document = answered(at.ask("GET", f"{ROOT}/revisions/{number}"))["document"]
    return document or ""


def _side(at: Instance, text: str) -> str:
    if text == "newest":
        heads = answered(at.ask("GET", f"{ROOT}/revisions?limit=1"))["revisions"]
        return _document(at, heads[0]["number"]) if heads else ""
    if text.isdigit():
        return _document(at, int(text)) if int(text) else ""
    return _read(text)


def _read(file: str) -> str:
    try:
        return read_text(file, DOCUMENT_BYTES_MAX)
    except OSError as error:
        raise click.ClickException(f"{file}: it cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise click.ClickException(f"{file}: it {error}.") from None


def _query(*, author: str | None, note: str, expected: int | None) -> str:
    who = environment().get("USER", "") if author is None else author
    given = {"author": who, "note": note}
    if expected is not None:
        given["expected"] = str(expected)
    return urlencode(given)


def _segment(name: str) -> str:
    if not name or name in {".", ".."}:
        raise click.ClickException("an empty name was given; expected that of a lease or instance.")
    return quote(name, safe="")


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_CHARS_MAX else text[: _CELL_CHARS_MAX - 1] + "…"


@cluster.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Print what would be run, and change nothing.")
def migrate(file: str, *, dry_run: bool) -> None:
    """Bring the store that the configuration FILE names up to date; instances do so by themselves.

    For whoever lets another user than the instances' change the schema, and with --dry-run for
    whoever wants to read first what that is.
    """
    from loomproxy.cli import migrate as itself  # noqa: PLC0415 - needs the stores, others do not

    itself.migrate(file, dry_run=dry_run)

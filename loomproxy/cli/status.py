"""`loomproxy status`: a running instance, as a table or as JSON."""

import json
from collections.abc import Sequence
from typing import Any

import click

from loomproxy.cli.client import Instance, plain
from loomproxy.cli.operate import instance_options

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


@click.command()
@instance_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(at: Instance, *, as_json: bool) -> None:
    """Show workers, pools, endpoints and plugins."""
    value = at.ask("GET", "/api/v1/status").value
    click.echo(json.dumps(value, indent=2) if as_json else text(value))


def text(status: Any) -> str:  # JSON
    """All of it, for people."""
    blocks = [_node(status["node"]), _listeners(status["listeners"]), _workers(status["workers"])]
    if status["pools"]:
        blocks.append(_pools(status["pools"]))
    if status.get("plugins"):
        blocks.append(_plugins(status["plugins"]))
    if status.get("cluster"):
        blocks.append("\n".join(cluster_lines(status["cluster"])))
    return "\n\n".join(blocks)


def cluster_lines(known: Any) -> list[str]:  # JSON
    """What an instance knows of its cluster; `loomproxy cluster` tells more."""
    role = "leads" if known["leads"] else "does not lead"
    store = f"away: {plain(known['away'])}" if known["away"] else f"{known['latency_ms']} ms"
    lines = [
        f"this instance  {plain(known['instance_id'])} ({known['incarnation'][:8]}), {role}",
        f"store          {known['store']}, {store}",
        f"published      runs {known['running']}, newest {known['newest']}",
    ]
    if known["refused"]:
        lines.append(f"refused        {known['refused']}")
        lines += [f"  {plain(problem)}" for problem in known["problems"]]
    if known["replaced"]:
        lines.append("replaced       another process uses the name of this instance")
    return lines


def _node(node: Any) -> str:  # JSON
    ready = "ready" if node["ready"] else "not ready"
    file = node["config"] or "the command line"
    up = _duration(node["uptime_s"])
    reloads = f"{node['reloads']} reloads, {node['reloads_refused']} refused"
    restarts = f"{node['worker_restarts']} worker restarts"
    lines = [
        f"loomproxy {node['version']}, pid {node['pid']}: {node['state']}, {ready}, up {up}",
        f"revision {node['revision']} of {file}; {reloads}; {restarts}",
    ]
    if node["waiting_for"]:
        lines.append(f"waiting for startup gate: {node['waiting_for']}")
    lines += [f"last reload refused: {problem}" for problem in node["reload_problems"]]
    return "\n".join(lines)


def _listeners(listeners: Any) -> str:  # JSON
    rows = [(each["name"], each["address"]) for each in listeners]
    return table(("LISTENER", "ADDRESS"), rows)


def _workers(workers: Any) -> str:  # JSON
    heads = ("WORKER", "PID", "STATE", "REVISION", "CONNECTIONS", "IN FLIGHT", "REQ/S", "REQUESTS")
    rows = [
        (
            each["slot"],
            each["pid"] or "-",
            each["state"] + (f" {each['backoff_s']} s" if "backoff_s" in each else ""),
            each["revision"] or "-",
            *(each.get(key, "-") for key in ("connections", "in_flight", "requests_per_s")),
            each.get("requests", "-"),
        )
        for each in workers
    ]
    return table(heads, rows)


def _pools(pools: Any) -> str:  # JSON
    heads = ("POOL", "ENDPOINT", "WEIGHT", "STATE", "IN FLIGHT", "KEEPALIVE", "WAITING")
    rows = []
    for pool in pools:
        for place, endpoint in enumerate(pool["endpoints"]):
            name, waiting = (pool["name"], pool["waiting"]) if place == 0 else ("", "")
            rows.append(
                (
                    name,
                    endpoint["address"],
                    endpoint["weight"],
                    _endpoint_state(endpoint),
                    endpoint["in_flight"],
                    endpoint["keepalive"],
                    waiting,
                )
            )
    return table(heads, rows)


def _plugins(plugins: Any) -> str:  # JSON
    """In short; `loomproxy plugins` tells more."""
    heads = ("PLUGIN", "STATE", "GENERATION", "MODELS", "RESTARTS", "IN FLIGHT", "REQUESTS")
    keys = ("provider_type", "state", "generation", "models", "restarts", "in_flight", "requests")
    return table(heads, [[each[key] for key in keys] for each in plugins])


def _endpoint_state(endpoint: Any) -> str:  # JSON
    """Why it gets traffic, or why not; workers may differ."""
    if not endpoint["enabled"]:
        return "disabled"
    workers = endpoint["workers"]
    words = []
    if endpoint["workers_healthy"] < workers:
        words.append(f"unhealthy to {workers - endpoint['workers_healthy']} of {workers}")
    if endpoint["workers_ejecting"]:
        ejecting = f"ejected by {endpoint['workers_ejecting']} of {workers}"
        words.append(f"{ejecting} for {endpoint['ejected_for_s']} s")
    return ", ".join(words) or "healthy"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under heads, in columns; numbers to the right."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    numbers = [
        bool(rows)
        and all(isinstance(row[column], int | float) or row[column] in {"-", ""} for row in rows)
        for column in range(len(heads))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    """The two largest units, as in `2h 5m`."""
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m {whole % _MINUTE_S}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h {whole % _HOUR_S // _MINUTE_S}m"
    return f"{whole // _DAY_S}d {whole % _DAY_S // _HOUR_S}h"

"""What the proxy's hop before a plugin costs: the plugin asked directly, and through the proxy.

The plugin is the same program both times. Directly it listens on a loopback port, as `transport:
tcp` would have it, and wrk shows it the token; through the proxy it is supervised, on its Unix
socket. Everything but the client has one core, so that CPU times are not blurred by a plugin and a
worker that run at once.
"""

import contextlib
import http.client
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.guest_clients import TEXT
from loadtest.guest_stage import STEADY, Stage, staged, write_steady
from loadtest.load import US_PER_S, Load, Task
from loadtest.processes import LOOPBACK, Process, free_port, running, wait_until
from loadtest.proxies import ROOT
from loadtest.trouble import Trouble
from loadtest.wrk import Requests

ONE = 1  # Connections of the part that looks at latency: nothing waits for anything.
MANY = 32  # And of the part that looks at CPU time.
TOKEN = "a-token-of-the-load-test"  # noqa: S105 - of a plugin that lives for seconds on loopback
CORE, CLIENT_CORE = 0, 1
FIELDS = ("Content-Type: application/json",)


@dataclass(frozen=True)
class Part:
    """One run of wrk."""

    way: str  # directly, or through the proxy
    connections: int
    load: Load
    cpu_us: dict[str, float]  # for each completion, by process


@dataclass(frozen=True)
class Hop:
    """All parts."""

    parts: tuple[Part, ...]

    headings = ("way", "connections", "completions / s", "p50", "p99", "CPU µs per completion")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line of the table for each part."""
        return [
            (
                part.way,
                str(part.connections),
                f"{part.load.per_s:.0f}",
                f"{part.load.p50_us} µs",
                f"{part.load.p99_us} µs",
                ", ".join(f"{name} {cpu:.0f}" for name, cpu in part.cpu_us.items()),
            )
            for part in self.parts
        ]


@dataclass(frozen=True)
class Way:
    """How the plugin is asked."""

    name: str
    port: int
    path: str
    model: str
    whose: dict[str, list[int]]  # processes, by what they are
    fields: tuple[str, ...] = FIELDS


def measure_hop(command: Sequence[str], directory: Path, *, seconds: float) -> Hop:
    """Measure directly and through the proxy, one at a time and many."""
    if shutil.which("wrk") is None:
        raise Trouble("wrk: it is not installed. apt-get install wrk, or leave out --trial hop.")
    write_steady(directory, replicas=1)
    with _alone(directory) as (process, port):
        fields = (*FIELDS, f"Authorization: Bearer {TOKEN}")
        whose = {"plugin": [process.pid]}
        way = Way("directly", port, "/chat/completions", "steady-1", whose, fields)
        parts = [_part(way, each, directory, seconds) for each in (ONE, MANY)]
    plugins = directory / "plugins"
    with staged(command, directory, plugins=plugins, workers=1, core=CORE) as stage:
        log = directory / "output.log"
        wait_until(lambda: bool(stage.pids()), stage.process, what="plugin", log=log)
        whose = {"worker": _workers(stage), "plugin": stage.pids()}
        model = f"{STEADY}/steady-1"
        way = Way("through the proxy", stage.port, "/v1/chat/completions", model, whose)
        parts += [_part(way, each, directory, seconds) for each in (ONE, MANY)]
    return Hop(tuple(parts))


def _part(way: Way, connections: int, directory: Path, seconds: float) -> Part:
    asked = {"model": way.model, "messages": [{"role": "user", "content": TEXT}]}
    requests = Requests(
        way.path,
        0,
        connections=connections,
        fields=way.fields,
        method="POST",
        body=json.dumps(asked).encode(),
    )
    status, _ = requests.answer_of(way.port)
    if status != http.HTTPStatus.OK:
        raise Trouble(f"{way.name}: answered {status} instead of 200.")
    before = {name: _cpu_s(pids) for name, pids in way.whose.items()}
    load = requests.run(Task(way.port, seconds, CLIENT_CORE, directory))
    if load.failed:
        raise Trouble(f"{way.name}: {load.failed} failed: {load.failures}")
    cpu_us = {
        name: (_cpu_s(pids) - before[name]) * US_PER_S / load.done
        for name, pids in way.whose.items()
    }
    return Part(way.name, connections, load, cpu_us)


def _cpu_s(pids: Sequence[int]) -> float:
    """The CPU seconds of these processes."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _workers(stage: Stage) -> list[int]:
    return [each["pid"] for each in stage.node.ask("GET", "/api/v1/status")["workers"]]


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[tuple[Process, int]]:
    """The plugin by itself, initialised."""
    port = free_port()
    variables = {
        "LOOM_PLUGIN_HOST": LOOPBACK,
        "LOOM_PLUGIN_PORT": str(port),
        "LOOM_PLUGIN_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),
    }
    argv = ["env", *(f"{name}={value}" for name, value in variables.items()), sys.executable]
    argv.append(str(directory / "plugins" / STEADY / "plugin.py"))
    log = directory / "alone.log"
    with running(argv, core=CORE, log=log, directory=ROOT) as process:
        wait_until(lambda: _initialized(port), process, what="plugin", log=log)
        yield process, port


def _initialized(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5.0)
    with contextlib.closing(connection):
        try:
            fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request("POST", "/initialize", b"{}", fields)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

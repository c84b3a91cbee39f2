"""`loadtest/plugins`: plugins replaced and killed under load, and what their hop costs.

Four trials, each with a node of its own:

* *reload*: the code of a plugin is saved again and again while clients ask without a pause; each
  time it is waited for until answers come from the new code. Not one request may fail. The first
  20 are followed by themselves; after these the node would wait, and is told by command.
* *kill*: its processes are killed (SIGKILL) one after the other under the same load. What was in
  flight at the one that died may fail, and nothing else.
* *hop*: one request at a time and many, to the plugin itself and through the proxy: the CPU time
  of each process for each completion, and the latency that the proxy adds.
* *memory*: the resident and the proportional memory of each plugin's processes, idle.
"""

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtest import machine
from loadtest.accounting import memory_of
from loadtest.guest_clients import Account, Client
from loadtest.guest_hop import Hop, measure_hop
from loadtest.guest_stage import STEADY, Stage, staged, write_steady
from loadtest.load import percentile
from loadtest.processes import raise_on_sigterm
from loadtest.proxies import OURS, ROOT, all_proxies
from loadtest.report import table
from loadtest.trouble import Trouble, check_bounds, status_of
from loadtest.workloads import MIB_BYTES

TRIALS = ("reload", "kill", "hop", "memory")
MODEL = f"{STEADY}/steady-1"
WORKERS = 2
CLIENTS_DEFAULT = 16
RELOADS_DEFAULT = 200
KILLS_DEFAULT = 20
WATCHED = 20  # Changes of files that are followed within a minute; a command always is.
SERVING_WITHIN_S = 30.0
POLL_S = 0.005  # How finely a change is noticed by who waits for it.


@dataclass
class Changed:
    """What a trial with changes under load found."""

    changes: int = 0
    took_s: float = 0.0
    requests: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    waited_s: list[float] = field(default_factory=list)  # for each change, until it served

    @property
    def line(self) -> tuple[str, ...]:
        """It, as a line of the table."""
        return (
            f"{self.changes}",
            f"{self.requests}",
            f"{sum(self.failed.values())} {self.failed or ''}".strip(),
            f"{self.requests / self.took_s:.0f}",
            f"{percentile(self.waited_s, 50) * 1000:.0f} ms",
            f"{percentile(self.waited_s, 99) * 1000:.0f} ms",
            f"{max(self.waited_s, default=0.0) * 1000:.0f} ms",
        )


class Crowd:
    """Clients that ask without a pause, half of them for streams."""

    def __init__(self, stage: Stage, size: int) -> None:
        self.account = Account()
        self._enough = asyncio.Event()
        self._clients = [
            Client(stage.port, self.account, model=MODEL, stream=number % 2 == 0)
            for number in range(size)
        ]

    async def first_answers(self) -> None:
        """Ask until it answers: the plugin may still be starting."""
        deadline_at = time.monotonic() + SERVING_WITHIN_S
        client = self._clients[0]
        while not await client.ask():
            if time.monotonic() > deadline_at:
                raise Trouble(f"the plugin does not answer: {dict(self.account.failed)}")
            await asyncio.sleep(POLL_S * 10)
        self.account.failed.clear()

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Let all of them ask."""
        for client in self._clients:
            group.create_task(client.live(self._enough))

    def end(self) -> None:
        """It is enough."""
        self._enough.set()


async def reload_under_load(stage: Stage, options: argparse.Namespace) -> Changed:
    """Save the code `options.reloads` times; each time wait until the new one answers."""
    found = Changed()
    crowd = Crowd(stage, options.clients)
    await crowd.first_answers()
    began_at = time.monotonic()
    async with asyncio.TaskGroup() as group:
        crowd.begin(group)
        for version in range(2, options.reloads + 2):
            saved_at = time.monotonic()
            stage.save(version)
            if found.changes >= WATCHED:
                target = f"/api/v1/plugins/{STEADY}/reload"
                await asyncio.to_thread(stage.node.ask, "POST", target)
            await _until(lambda version=version: crowd.account.version >= version, stage)
            found.waited_s.append(time.monotonic() - saved_at)
            found.changes += 1
        crowd.end()
    found.took_s = time.monotonic() - began_at
    found.requests = crowd.account.done
    found.failed = dict(crowd.account.failed)
    return found


async def kill_under_load(stage: Stage, options: argparse.Namespace) -> Changed:
    """Kill a process `options.kills` times; each time wait until all replicas serve again."""
    found = Changed()
    crowd = Crowd(stage, options.clients)
    await crowd.first_answers()
    wanted = len(stage.plugin()["generations"][0]["replicas"])
    began_at = time.monotonic()
    async with asyncio.TaskGroup() as group:
        crowd.begin(group)
        for _ in range(options.kills):
            await _until_replicas(stage, wanted)
            pids = stage.pids()
            os.kill(pids[found.changes % len(pids)], signal.SIGKILL)
            killed_at = time.monotonic()
            found.changes += 1
            await _until_replicas(stage, wanted, gone=pids[(found.changes - 1) % len(pids)])
            found.waited_s.append(time.monotonic() - killed_at)
        crowd.end()
    found.took_s = time.monotonic() - began_at
    found.requests = crowd.account.done
    found.failed = dict(crowd.account.failed)
    return found


async def _until_replicas(stage: Stage, wanted: int, *, gone: int = 0) -> None:
    """Wait until so many replicas are ready, none of them `gone`; start what was given up."""
    deadline_at = time.monotonic() + SERVING_WITHIN_S
    while True:
        plugin = await asyncio.to_thread(stage.plugin)
        ready = [
            each
            for each in plugin["generations"][0]["replicas"]
            if each["state"] == "ready" and each["pid"] != gone
        ]
        if len(ready) >= wanted:
            return
        if plugin["state"] == "failed" or any(
            each["state"] == "failed" for each in plugin["generations"][0]["replicas"]
        ):
            # Five crashes in a minute are too many, and this is what an operator would do then.
            await asyncio.to_thread(stage.node.ask, "POST", f"/api/v1/plugins/{STEADY}/start")
        if time.monotonic() > deadline_at:
            raise Trouble(f"the replicas do not come back: {plugin}")
        await asyncio.sleep(POLL_S * 4)


async def _until(holds: Any, stage: Stage) -> None:
    deadline_at = time.monotonic() + SERVING_WITHIN_S
    while not holds():
        if time.monotonic() > deadline_at:
            raise Trouble(f"what was saved does not serve: {stage.plugin()}")
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True)
class Idle:
    """The memory of one plugin that nobody asks."""

    provider_type: str
    state: str
    processes: int
    rss_bytes: int
    pss_bytes: int


def idle_memory(stage: Stage) -> list[Idle]:
    """Look at every plugin of the stage, once each has begun or given up.

    One whose provider is not there never does either; the table has its state.
    """
    deadline_at = time.monotonic() + SERVING_WITHIN_S
    while True:
        plugins = stage.node.ask("GET", "/api/v1/plugins")["plugins"]
        settled = all(each["state"] not in {"starting", "backoff"} for each in plugins)
        if settled or time.monotonic() > deadline_at:
            break
        time.sleep(POLL_S * 20)
    found = []
    for each in plugins:
        pids = stage.pids(each["provider_type"]) if each["kind"] == "process" else []
        memory = [one for pid in pids for one in memory_of(pid)]
        found.append(
            Idle(
                each["provider_type"],
                each["state"],
                len(memory),
                sum(one.rss_bytes for one in memory),
                sum(one.pss_bytes for one in memory),
            )
        )
    return found


def run_trial(name: str, options: argparse.Namespace) -> Any:
    """One trial; what it found."""
    with tempfile.TemporaryDirectory(prefix="loadtest-") as temporary:
        directory = Path(temporary)
        if name == "hop":
            return measure_hop(options.loomproxy, directory, seconds=options.seconds)
        plugins = directory / "plugins"
        if name == "memory":
            plugins = options.plugins
        else:
            write_steady(directory, replicas=2 if name == "kill" else 1)
        with staged(options.loomproxy, directory, plugins=plugins, workers=WORKERS) as stage:
            if name == "memory":
                return idle_memory(stage)
            trial = reload_under_load if name == "reload" else kill_under_load
            return asyncio.run(trial(stage, options))


CHANGES = ("changes", "requests", "failed", "requests / s", "p50", "p99", "worst")


def render(found: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines: list[str] = []
    for name, what in found.items():
        lines += ["", f"## {name}", ""]
        if isinstance(what, Changed):
            lines += table(CHANGES, [what.line])
        elif isinstance(what, Hop):
            lines += table(what.headings, what.rows)
        else:
            rows = [
                (
                    one.provider_type,
                    one.state,
                    str(one.processes),
                    f"{one.rss_bytes / MIB_BYTES:.1f} MiB",
                    f"{one.pss_bytes / MIB_BYTES:.1f} MiB",
                )
                for one in what
            ]
            lines += table(("plugin", "state", "processes", "RSS", "PSS"), rows)
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/plugins", description=__doc__)
    describe.add_argument("--trial", action="append", choices=TRIALS, help="this one (repeatable)")
    describe.add_argument("--reloads", type=int, default=RELOADS_DEFAULT)
    describe.add_argument("--kills", type=int, default=KILLS_DEFAULT)
    describe.add_argument("--clients", type=int, default=CLIENTS_DEFAULT, help="at a time")
    describe.add_argument("--seconds", type=float, default=5.0, help="of each part of `hop`")
    describe.add_argument(
        "--plugins", type=Path, default=ROOT / "examples" / "plugins", help="whose memory"
    )
    describe.add_argument(
        "--loomproxy",
        type=shlex.split,
        default=list(OURS),
        metavar="COMMAND",
        help='how loomproxy is started, such as "dist/loomproxy.pyz"; default: this source tree',
    )
    describe.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return describe


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant: Trouble says which option."""
    bounds = (
        ("--reloads", options.reloads, 1, 10_000),
        ("--kills", options.kills, 1, 1000),
        ("--clients", options.clients, 1, 1000),
        ("--seconds", options.seconds, 1, 600),
    )
    check_bounds(bounds)


def carry_out(options: argparse.Namespace, command: str) -> int:
    """Try as told and write what was found; 1 when a reload cost a request."""
    check(options)
    known = {proxy.name: proxy for proxy in all_proxies(loomproxy=tuple(options.loomproxy))}
    where = machine.describe(ROOT, {"loomproxy": known["loomproxy"].version()})
    found = {name: run_trial(name, options) for name in options.trial or TRIALS}
    facts = [*machine.lines(where), f"command: `{command}`"]
    sys.stdout.write("\n".join(f"* {line}" for line in facts) + "\n" + render(found))
    if options.json is not None:
        figures = {
            name: [asdict(one) for one in what] if isinstance(what, list) else asdict(what)
            for name, what in found.items()
        }
        whole = {"machine": asdict(where), "command": command, "found": figures}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    reload = found.get("reload")
    return 1 if reload is not None and reload.failed else 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    return status_of(lambda: carry_out(options, shlex.join(["loadtest/plugins", *argv])))

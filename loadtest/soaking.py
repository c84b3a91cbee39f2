"""`loadtest/soak`: mixed traffic and injected faults for minutes, and whether anything is left.

It starts a node, an upstream that answers well and one in trouble (`loadtest.soak_upstream`), and
clients (`loadtest.soak_clients`), which are this process. Each minute the configuration is
published anew. When the load is over, the node must be as it was: same processes, descriptors and
tasks, no connection, nothing in flight.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import shlex
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from loadtest import machine
from loadtest.processes import (
    LOOPBACK,
    Process,
    free_port,
    raise_descriptor_limit,
    raise_on_sigterm,
    running,
    wait_until,
)
from loadtest.proxies import OURS, ROOT, all_proxies
from loadtest.soak_clients import DOING, Account, Client
from loadtest.soak_report import Soaked, render
from loadtest.soak_upstream import payload
from loadtest.soak_watch import Look, Node, differences
from loadtest.trouble import Trouble, check_bounds, status_of

MINUTES_DEFAULT = 10.0
MINUTES_MAX = 24 * 60.0
CLIENTS_DEFAULT = 32
CLIENTS_MAX = 1000
WORKERS_DEFAULT = 2
TROUBLED_ENDPOINTS = 2
RELOAD_EVERY_S = 60.0
LOOK_EVERY_S = 5.0
SETTLE_WITHIN_S = 30.0  # Idle connections to upstreams are kept for 4 s, stalled ones for 1 s.
LAST_LINES_S = 1.0  # The access log's last lines join others for 0.2 s.
PATIENCE = "1s"  # Of the proxy with the troubled upstream.
PROBE = "/size/6/probe"  # What is asked until there is an answer; none of a client's.
ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one soak lives."""

    directory: Path
    port: int
    upstream_ports: tuple[int, ...]

    def configure(self, *, workers: int, revision: int) -> Path:
        """Write the configuration; each revision differs from the one before."""
        well, *troubled = [f"http://{LOOPBACK}:{port}" for port in self.upstream_ports]
        patience = dict.fromkeys(("connect", "response", "idle", "queue"), PATIENCE)
        config = {
            "node": {"workers": workers, "runtime_directory": str(self.directory)},
            "listeners": [{"name": "public", "address": f"{LOOPBACK}:{self.port}"}],
            "access_log": {"path": str(self.directory / "access.log")},
            "pools": {"well": {"endpoints": [well]}, "troubled": {"endpoints": troubled}},
            "routes": [
                {
                    "match": {"path_prefix": "/trouble"},
                    "rewrite": {"strip_prefix": "/trouble"},
                    "pool": "troubled",
                    "timeouts": patience,
                },
                {"pool": "well", "response_headers": {"set": {"X-Revision": str(revision)}}},
            ],
        }
        path = self.directory / "loomproxy.json"
        path.write_text(json.dumps(config))
        return path


def answers(port: int) -> bool:
    """Tell whether `port` answers a small request as it should, yet."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", PROBE)
            return connection.getresponse().read() == payload(PROBE, 6)
        except (OSError, http.client.HTTPException):
            return False


@contextlib.asynccontextmanager
async def started(options: argparse.Namespace, place: Place) -> AsyncIterator[Process]:
    """Start upstream and node; end both on leaving."""
    log, ours = place.directory / "upstream.log", place.directory / "output.log"
    ports = [str(port) for port in place.upstream_ports]
    # The safe path would hide the tree from a program that is a part of it.
    python = ["env", f"PYTHONPATH={ROOT}", sys.executable]
    argv = [*python, "-m", "loadtest.soak_upstream", str(options.seed), *ports]
    with running(argv, core=None, log=log, directory=ROOT) as process:
        wait_until(partial(answers, place.upstream_ports[0]), process, what="upstream", log=log)
        config = place.configure(workers=options.workers, revision=1)
        argv = [*options.loomproxy, "serve", str(config)]
        with running(argv, core=None, log=ours, directory=ROOT) as node:
            wait_until(partial(answers, place.port), node, what="loomproxy", log=ours)
            yield node


async def soak(options: argparse.Namespace, place: Place) -> Soaked:
    """Carry out the whole soak; Trouble where it cannot go on."""
    found = Soaked(Account())
    async with started(options, place) as process:
        node = Node(process.pid, place.directory)
        await _warm(options, place, found)
        found.before = await _settled(node, found)
        began_at = time.monotonic()
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(options.clients):
                client = Client(place.port, Random(options.seed + number), found.account)
                group.create_task(client.live(enough))
            watching = group.create_task(_watch(node, found, began_at))
            reloading = group.create_task(_reload(options, place, node, found))
            await asyncio.sleep(options.minutes * 60.0)
            enough.set()
            watching.cancel()
            reloading.cancel()
        found.took_s = time.monotonic() - began_at
        found.after = await _settled(node, found)
        found.interpreter = machine.interpreter_of(process.pid)
        if process.poll() is not None:
            raise Trouble(f"loomproxy left with status {process.returncode} in the soak.")
    await asyncio.sleep(LAST_LINES_S)
    with (place.directory / "access.log").open("rb") as log:
        found.lines = sum(PROBE.encode() not in line for line in log)
    return found


async def _warm(options: argparse.Namespace, place: Place, found: Soaked) -> None:
    """Do each thing once, so that what is opened once is open."""
    client = Client(place.port, Random(options.seed), found.account)
    for kind in DOING:
        await client.do(kind)
    client.leave_all()


async def _settled(node: Node, found: Soaked) -> Look:
    """Look until nothing is held for anybody, or for long enough; the last look."""
    deadline_at = time.monotonic() + SETTLE_WITHIN_S
    while True:
        look = await asyncio.to_thread(
            node.look, at_s=found.took_s, requests=found.account.requests
        )
        as_before = found.before is None or not differences(found.before, look)
        if (look.is_settled and as_before) or time.monotonic() > deadline_at:
            return look
        await asyncio.sleep(1.0)


async def _watch(node: Node, found: Soaked, began_at: float) -> None:
    while True:
        at_s = time.monotonic() - began_at
        look = await asyncio.to_thread(node.look, at_s=at_s, requests=found.account.requests)
        found.looks.append(look)
        await asyncio.sleep(LOOK_EVERY_S)


async def _reload(options: argparse.Namespace, place: Place, node: Node, found: Soaked) -> None:
    """Publish another configuration each minute."""
    while True:
        await asyncio.sleep(RELOAD_EVERY_S)
        place.configure(workers=options.workers, revision=found.reloads + 2)
        await asyncio.to_thread(node.ask, "POST", "/api/v1/reload")
        found.reloads += 1
        account = found.account
        print(f"{account.requests} requests, {account.failed.total()} failed", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/soak", description=__doc__)
    describe.add_argument("--minutes", type=float, default=MINUTES_DEFAULT, help="how long")
    describe.add_argument("--clients", type=int, default=CLIENTS_DEFAULT, help="clients at a time")
    describe.add_argument("--workers", type=int, default=WORKERS_DEFAULT, help="workers to start")
    describe.add_argument("--seed", type=int, default=1, help="of every dice")
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
        ("--minutes", options.minutes, 0.1, MINUTES_MAX),
        ("--clients", options.clients, 1, CLIENTS_MAX),
        ("--workers", options.workers, 1, 64),
    )
    check_bounds(bounds)


def carry_out(options: argparse.Namespace, command: str) -> int:
    """Soak as told and write what was found; 1 when something was wrong."""
    check(options)
    raise_descriptor_limit(4 * options.clients)
    known = {proxy.name: proxy for proxy in all_proxies(loomproxy=tuple(options.loomproxy))}
    where = machine.describe(ROOT, {"loomproxy": known["loomproxy"].version()})
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        ports = tuple(free_port() for _ in range(1 + TROUBLED_ENDPOINTS))
        found = asyncio.run(soak(options, Place(Path(name), free_port(), ports)))
    facts = [*machine.lines(where), f"runs on {found.interpreter}", f"command: `{command}`"]
    sys.stdout.write(render(found, facts))
    if options.json is not None:
        whole = {"machine": asdict(where), "command": command, "soak": found.figures()}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 1 if found.wrong else 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    return status_of(lambda: carry_out(options, shlex.join(["loadtest/soak", *argv])))

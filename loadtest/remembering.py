"""`loadtest/memory`: what a node and its workers hold, idle and with many idle connections.

Resident memory (RSS) counts pages shared between processes once in each; proportional memory (PSS)
divides them, so its sum is what the machine is really short of. Neither counts what the kernel
holds for a connection (its socket and buffers).
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from loadtest import machine, upstream
from loadtest.accounting import KIB_BYTES, Memory, memory_of
from loadtest.comparing import answers
from loadtest.idle_clients import closed_by_other_side, held, raise_descriptor_limit
from loadtest.processes import free_port, raise_on_sigterm, running, wait_until
from loadtest.proxies import OURS, ROOT, Place, all_proxies, loomproxy_argv
from loadtest.report import table
from loadtest.trouble import Trouble

CONNECTIONS_DEFAULT = 10_000
CONNECTIONS_MAX = 25_000  # Loopback has about 28,000 source ports for one address.
WORKERS_DEFAULT = 2
WORKERS_MAX = 64
WARM_UP_CLIENTS = 500  # Afterwards buffers and code paths are there that each connection shares.
MIB_BYTES = KIB_BYTES * KIB_BYTES
HEADINGS = ("process", "started", "warm", "with connections", "PSS of that")


@dataclass(frozen=True, slots=True)
class Held:
    """The memory of every process at three moments, and how many connections the third held."""

    started: list[Memory]
    warm: list[Memory]
    connected: list[Memory]
    connections: int
    interpreter: str  # the Python it ran on

    @property
    def bytes_per_connection(self) -> float:
        """What one idle connection adds to the resident memory of all processes together."""
        more = _rss(self.connected) - _rss(self.warm)
        return more / self.connections


def _rss(processes: Sequence[Memory]) -> int:
    return sum(one.rss_bytes for one in processes)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB_BYTES:.1f} MiB"


def measure(command: tuple[str, ...], *, workers: int, connections: int) -> Held:
    """Start a node, look at it idle, warm and holding `connections`; Trouble if it loses one."""
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx started by root reads its files as somebody else.
        place = Place(directory, free_port(), upstream_port=free_port())
        origin, ours = directory / "upstream.log", directory / "output.log"
        argv = upstream.write(directory, place.upstream_port)
        with running(argv, core=None, log=origin, directory=directory) as process:
            wait_until(partial(answers, place.upstream_port), process, what="upstream", log=origin)
            argv = loomproxy_argv(command, place, workers=workers)
            with running(argv, core=None, log=ours, directory=ROOT) as node:
                wait_until(partial(answers, place.port), node, what="loomproxy", log=ours)
                return _look(node.pid, place.port, connections)


def _look(node_pid: int, port: int, connections: int) -> Held:
    started = memory_of(node_pid)
    with held(port, min(WARM_UP_CLIENTS, connections)):
        pass
    warm = memory_of(node_pid)
    with held(port, connections) as sockets:
        connected = memory_of(node_pid)
        lost = closed_by_other_side(sockets)
    if lost:
        raise Trouble(f"{lost} of {connections} idle connections did not stay open and silent.")
    if [one.pid for one in started] != [one.pid for one in connected]:
        raise Trouble("a process of the node was replaced while we looked: see its log.")
    return Held(started, warm, connected, connections, machine.interpreter_of(node_pid))


def role_of(command: str) -> str:
    """Tell from its argv what a process of the node is."""
    return "worker" if " worker " in f"{command} " else "node"


def render(found: Held, facts: Sequence[str]) -> str:
    """Return the report as Markdown."""
    moments = (found.started, found.warm, found.connected)
    rows: list[tuple[str, ...]] = [
        (
            f"{role_of(started.command)} ({started.pid})",
            _mib(started.rss_bytes),
            _mib(warm.rss_bytes),
            _mib(connected.rss_bytes),
            _mib(connected.pss_bytes),
        )
        for started, warm, connected in zip(*moments, strict=True)
    ]
    together = [_mib(_rss(moment)) for moment in moments]
    rows.append(("all", *together, _mib(sum(one.pss_bytes for one in found.connected))))
    text = "\n".join(f"* {line}" for line in facts) + "\n\n" + "\n".join(table(HEADINGS, rows))
    return (
        f"{text}\n\nRSS but for the last column; {found.connections} connections, each answered"
        f" once and then idle: {found.bytes_per_connection / KIB_BYTES:.1f} KiB of RSS each.\n"
    )


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/memory", description=__doc__)
    describe.add_argument(
        "--connections", type=int, default=CONNECTIONS_DEFAULT, help="idle connections to hold"
    )
    describe.add_argument("--workers", type=int, default=WORKERS_DEFAULT, help="workers to start")
    describe.add_argument(
        "--loomproxy",
        type=shlex.split,
        default=list(OURS),
        metavar="COMMAND",
        help='how loomproxy is started, such as "dist/loomproxy.pyz"; default: this source tree',
    )
    describe.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return describe


def remember(options: argparse.Namespace, command: str) -> None:
    """Measure as told and write what was found."""
    if not 1 <= options.connections <= CONNECTIONS_MAX:
        raise Trouble(f"--connections: {options.connections} is not in 1 to {CONNECTIONS_MAX}.")
    if not 1 <= options.workers <= WORKERS_MAX:
        raise Trouble(f"--workers: {options.workers} is not in 1 to {WORKERS_MAX}.")
    raise_descriptor_limit(options.connections)
    ours = tuple(options.loomproxy)
    known = {proxy.name: proxy for proxy in all_proxies(loomproxy=ours)}
    where = machine.describe(ROOT, {"loomproxy": known["loomproxy"].version()})
    found = measure(ours, workers=options.workers, connections=options.connections)
    facts = [*machine.lines(where), f"runs on {found.interpreter}", f"command: `{command}`"]
    sys.stdout.write(render(found, facts))
    if options.json is not None:
        whole = {"machine": asdict(where), "command": command, "memory": asdict(found)}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    try:
        remember(parser().parse_args(argv), shlex.join(["loadtest/memory", *argv]))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr)
        return 130
    return 0

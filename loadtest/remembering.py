"""`loadtest/memory`: what proxies hold, just started, warm, and with many idle connections.

Resident memory (RSS) counts pages shared between processes once in each; proportional memory (PSS)
divides them, so its sum is what the machine is really short of. Neither counts what the kernel
holds for a connection (its socket and buffers).

One proxy at a time is started and looked at: memory does not wander between rounds as time does.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest import machine
from loadtest.accounting import KIB_BYTES, Memory, memory_of
from loadtest.idle_clients import closed_by_other_side, held
from loadtest.processes import raise_descriptor_limit, raise_on_sigterm
from loadtest.proxies import ROOT, Proxy, all_proxies, chosen
from loadtest.report import table
from loadtest.stage import Door, Size, proxied, upstreams
from loadtest.trouble import Trouble, status_of
from loadtest.upstream import FILES
from loadtest.workloads import MIB_BYTES

CONNECTIONS_DEFAULT = 10_000
CONNECTIONS_MAX = 25_000  # Loopback has about 28,000 source ports for one address.
WORKERS_DEFAULT = 2
WORKERS_MAX = 64
WARM_UP_CLIENTS = 500  # Afterwards buffers and code paths are there that each connection shares.
SPARE_CONNECTIONS = 1000  # To the upstreams, and those of the warm-up that are not closed yet.
HEADINGS = ("proxy", "process", "started", "warm", "with connections", "PSS of that", "KiB each")


@dataclass(frozen=True, slots=True)
class Held:
    """The memory of every process of a proxy at three moments; the third held connections."""

    proxy: str
    started: list[Memory]
    warm: list[Memory]
    connected: list[Memory]
    connections: int
    interpreter: str  # the Python it ran on, if any

    @property
    def bytes_per_connection(self) -> float:
        """What one idle connection adds to the resident memory of all processes together."""
        more = _rss(self.connected) - _rss(self.warm)
        return more / self.connections


def _rss(processes: Sequence[Memory]) -> int:
    return sum(one.rss_bytes for one in processes)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB_BYTES:.1f} MiB"


def measure(proxies: Sequence[Proxy], *, workers: int, connections: int) -> list[Held]:
    """Look at each proxy idle, warm and holding `connections`; Trouble if one of them is lost."""
    size = Size(workers=workers, connections_max=connections + SPARE_CONNECTIONS)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx started by root reads its files as somebody else.
        with upstreams(directory, core=None) as behind:
            return [_measure_one(one, behind, directory, size, connections) for one in proxies]


def _measure_one(
    proxy: Proxy, behind: Mapping[str, Door], directory: Path, size: Size, connections: int
) -> Held:
    with proxied(proxy, behind, directory, size) as subject:
        door = subject.doors[FILES]
        root = door.process.pid
        started = memory_of(root)
        with held(door.port, min(WARM_UP_CLIENTS, connections)):
            pass
        warm = memory_of(root)
        with held(door.port, connections) as sockets:
            connected = memory_of(root)
            lost = closed_by_other_side(sockets)
        if lost:
            raise Trouble(
                f"{proxy.name}: {lost} of {connections} idle connections did not stay open and"
                " silent."
            )
        if [one.pid for one in started] != [one.pid for one in connected]:
            raise Trouble(f"{proxy.name}: a process was replaced while we looked: see its log.")
        return Held(proxy.name, started, warm, connected, connections, subject.interpreter)


def role_of(proxy: str, command: str) -> str:
    """Tell from its argv what a process is: ours by its role, another as it calls itself."""
    if proxy == "loomproxy":
        return "worker" if " worker " in f"{command} " else "node"
    _, titled, title = command.partition(": ")  # As in "nginx: worker process".
    return " ".join(title.split()[:2]) if titled else Path(command.split(maxsplit=1)[0]).name


def rows_of(found: Held) -> list[tuple[str, ...]]:
    """Return a line of the table for each process, and one for all of them together."""
    moments = (found.started, found.warm, found.connected)
    rows: list[tuple[str, ...]] = [
        (
            found.proxy,
            f"{role_of(found.proxy, started.command)} ({started.pid})",
            _mib(started.rss_bytes),
            _mib(warm.rss_bytes),
            _mib(connected.rss_bytes),
            _mib(connected.pss_bytes),
            "",
        )
        for started, warm, connected in zip(*moments, strict=True)
    ]
    together = [_mib(_rss(moment)) for moment in moments]
    pss = _mib(sum(one.pss_bytes for one in found.connected))
    each = f"{found.bytes_per_connection / KIB_BYTES:.1f}"
    return [*rows, (found.proxy, "all", *together, pss, each)]


def render(found: Sequence[Held], facts: Sequence[str]) -> str:
    """Return the report as Markdown."""
    rows = [row for one in found for row in rows_of(one)]
    text = "\n".join(f"* {line}" for line in facts) + "\n\n" + "\n".join(table(HEADINGS, rows))
    return (
        f"{text}\n\nRSS but for the column PSS; {found[0].connections} connections, each answered"
        " once and then idle. KiB each: what one of them adds to the RSS of all processes.\n"
    )


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/memory", description=__doc__)
    describe.add_argument(
        "--proxy",
        action="append",
        choices=[proxy.name for proxy in all_proxies()],
        help="look at this one (repeatable); default: every proxy found here",
    )
    describe.add_argument(
        "--connections", type=int, default=CONNECTIONS_DEFAULT, help="idle connections to hold"
    )
    describe.add_argument(
        "--workers", type=int, default=WORKERS_DEFAULT, help="workers (threads) of each"
    )
    describe.add_argument(
        "--loomproxy",
        type=shlex.split,
        default=(),
        metavar="COMMAND",
        help='how loomproxy is started, such as "dist/loomproxy.pyz"; default: this source tree',
    )
    describe.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return describe


def remember(options: argparse.Namespace, command: str) -> int:
    """Measure as told and write what was found; return the exit status, 0."""
    if not 1 <= options.connections <= CONNECTIONS_MAX:
        raise Trouble(f"--connections: {options.connections} is not in 1 to {CONNECTIONS_MAX}.")
    if not 1 <= options.workers <= WORKERS_MAX:
        raise Trouble(f"--workers: {options.workers} is not in 1 to {WORKERS_MAX}.")
    raise_descriptor_limit(options.connections)
    proxies = chosen(options.proxy, loomproxy=tuple(options.loomproxy))
    where = machine.describe(ROOT, {proxy.name: proxy.version() for proxy in proxies})
    found = measure(proxies, workers=options.workers, connections=options.connections)
    facts = [
        *machine.lines(where),
        *(f"{one.proxy} runs on {one.interpreter}" for one in found if one.interpreter),
        f"workers of each: {options.workers}; command: `{command}`",
    ]
    sys.stdout.write(render(found, facts))
    if options.json is not None:
        memory = [asdict(one) for one in found]
        whole = {"machine": asdict(where), "command": command, "memory": memory}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    return status_of(lambda: remember(options, shlex.join(["loadtest/memory", *argv])))

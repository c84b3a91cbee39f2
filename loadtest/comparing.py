"""`loadtest/compare`: one run that measures every proxy beside the others.

The proxies stand still on one core while one of them is measured; upstream and client share the
other. Rounds are interleaved (every proxy under every workload, then again, each time beginning
with another proxy), so that the machine's mood reaches all of them alike, and medians are reported.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from loadtest import machine, report
from loadtest.accounting import CpuTime, cpu_time_of, machine_busy_s
from loadtest.load import Task
from loadtest.processes import raise_descriptor_limit, raise_on_sigterm
from loadtest.proxies import ROOT, Proxy, all_proxies, chosen
from loadtest.report import DIRECT, Figures, Measurement
from loadtest.stage import Size, Subject, proxied, upstreams
from loadtest.trouble import Trouble, status_of
from loadtest.workloads import BY_NAME, WORKLOADS, Workload

SECONDS_DEFAULT = 3
SECONDS_MAX = 600
ROUNDS_DEFAULT = 3
ROUNDS_MAX = 100
WARM_UP_S = 1
CORES_NEEDED = 2
DESCRIPTORS_EACH = 2  # A proxy holds two for each exchange.


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does: with which proxies, under which workloads, for how long, and where."""

    proxies: tuple[Proxy, ...]
    workloads: tuple[Workload, ...]
    with_direct: bool
    seconds: int
    rounds: int
    proxy_core: int
    client_core: int

    @property
    def cells(self) -> int:
        """How many measurements it takes."""
        return (
            (len(self.proxies) + self.with_direct) * len(self.workloads) * self.rounds
        )  # A bool counts as one.


@contextlib.contextmanager
def subjects(plan: Plan, directory: Path) -> Iterator[list[Subject]]:
    """Start the upstreams and every proxy, each answering; end all of them on leaving."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(upstreams(directory, core=plan.client_core))
        started = [Subject(DIRECT, behind, None)] if plan.with_direct else []
        size = Size(core=plan.proxy_core)
        started += [
            stack.enter_context(proxied(proxy, behind, directory, size)) for proxy in plan.proxies
        ]
        yield started


class Watch:
    """What a process tree, and everybody who is none of ours, used for the length of a `with`."""

    def __init__(self, pid: int) -> None:
        """Watch the tree of process `pid`."""
        self.pid = pid
        self.cpu = CpuTime(0.0, 0.0)
        self.foreign = 0.0  # Cores' worth.

    def __enter__(self) -> None:
        """Look for the first time."""
        self._foreign_s = self._foreign_busy_s()
        self._began_at = time.monotonic()
        self._before = cpu_time_of(self.pid)

    def __exit__(self, *_: object) -> None:
        """Look again, and keep the difference."""
        self.cpu = cpu_time_of(self.pid) - self._before
        foreign_s = self._foreign_busy_s() - self._foreign_s
        self.foreign = max(0.0, foreign_s / (time.monotonic() - self._began_at))

    def _foreign_busy_s(self) -> float:
        """Return the busy seconds of the machine that are neither ours nor of what we started."""
        mine = cpu_time_of(os.getpid())
        return machine_busy_s() - mine.total_s


@contextlib.contextmanager
def blaming(subject: Subject, workload: Workload) -> Iterator[None]:
    """Turn what goes wrong with a load into Trouble that says with whom, and under which load."""
    try:
        yield
    except (Trouble, OSError, http.client.HTTPException, subprocess.SubprocessError) as fault:
        raise Trouble(
            f"{subject.name}, {workload.name}: {fault} Look at its configuration, and whether"
            " the machine is too busy."
        ) from fault


def measure(subject: Subject, workload: Workload, plan: Plan, directory: Path) -> Measurement:
    """Put `workload` on `subject` once, and see what that cost its process tree."""
    door = subject.doors[workload.client.upstream]
    watch = Watch(door.process.pid)
    with blaming(subject, workload):
        task = Task(door.port, plan.seconds, plan.client_core, directory, watch)
        load = workload.client.run(task)
        if door.process.poll() is not None:
            raise Trouble(f"left with status {door.process.returncode} under load.")
        if not load.done:
            raise Trouble(f"no {workload.unit.one} at all; {load}.")
    if subject.access_log is not None:
        os.truncate(subject.access_log, 0)  # Or a long run would fill the disk.
    return Measurement(workload.name, subject.name, watch.cpu, load, watch.foreign)


def warm_up(subject: Subject, workload: Workload, plan: Plan, directory: Path) -> None:
    """See that `subject` does the work of `workload` as it should, then make it do so for a while.

    Trouble when it does not: it would be measured doing something else.
    """
    door = subject.doors[workload.client.upstream]
    with blaming(subject, workload):
        workload.client.verify(door.port)
        workload.client.run(Task(door.port, WARM_UP_S, plan.client_core, directory))


@dataclass(frozen=True, slots=True)
class Found:
    """What one run found: every measurement, and the Python that runs each proxy written in it."""

    measured: list[Measurement]
    interpreters: dict[str, str]


def measure_all(plan: Plan, directory: Path) -> Found:
    """Carry out the plan, telling on standard error how far it is."""
    measured: list[Measurement] = []
    with subjects(plan, directory) as all_subjects:
        said = {one.name: one.interpreter for one in all_subjects}
        for subject, workload in itertools.product(all_subjects, plan.workloads):
            warm_up(subject, workload, plan, directory)
        for number, workload in itertools.product(range(plan.rounds), plan.workloads):
            first = number % len(all_subjects)
            for subject in all_subjects[first:] + all_subjects[:first]:
                one = measure(subject, workload, plan, directory)
                measured.append(one)
                _tell(
                    f"[{len(measured)}/{plan.cells}] {workload.name} {subject.name}:"
                    f" {one.cpu_us:.1f} µs, {one.load.per_s:.0f}/s"
                )
    return Found(measured, {name: python for name, python in said.items() if python})


def reduce(measured: Sequence[Measurement], plan: Plan) -> list[Figures]:
    """Turn measurements into one entry per workload and proxy, in the order of the plan."""
    names = [DIRECT] * plan.with_direct + [proxy.name for proxy in plan.proxies]
    return [
        report.figures(
            [one for one in measured if (one.workload, one.proxy) == (workload.name, name)]
        )
        for workload in plan.workloads
        for name in names
    ]


def render(found: Sequence[Figures], plan: Plan, facts: Sequence[str]) -> str:
    """Return the whole report as Markdown, which reads well on a terminal too."""
    lines = list(facts)
    lines.append(
        f"core {plan.proxy_core} for the proxy, core {plan.client_core} for upstream and client;"
        f" median of {plan.rounds} rounds of {plan.seconds} s"
    )
    text = "\n".join(f"* {line}" for line in lines)
    for workload in plan.workloads:
        mine = [one for one in found if one.workload == workload.name]
        rows = [report.row(one, mine, workload.unit) for one in mine]
        table = report.table(report.headings(workload.unit), rows)
        heading = (
            f"**{workload.name}**: {workload.meaning}, {workload.client.connections} connections"
        )
        text += f"\n\n{heading}\n\n" + "\n".join(table)
    return text + "\n"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/compare", description=__doc__)
    names = [proxy.name for proxy in all_proxies()]
    describe.add_argument(
        "--proxy",
        action="append",
        choices=[DIRECT, *names],
        help="measure this one (repeatable); default: direct and every proxy found here",
    )
    describe.add_argument(
        "--workload",
        action="append",
        choices=list(BY_NAME),
        help="put this load on (repeatable); default: all",
    )
    describe.add_argument(
        "--seconds", type=int, default=SECONDS_DEFAULT, help="length of one measurement, 1 to 600"
    )
    describe.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT, help="rounds, 1 to 100")
    describe.add_argument(
        "--loomproxy",
        type=shlex.split,
        default=(),
        metavar="COMMAND",
        help='how loomproxy is started, such as "dist/loomproxy.pyz"; default: this source tree',
    )
    describe.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    describe.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    return describe


def plan_from(options: argparse.Namespace) -> Plan:
    """Check the options against this machine; Trouble says what does not fit."""
    if not 1 <= options.seconds <= SECONDS_MAX:
        raise Trouble(f"--seconds: {options.seconds} is not within 1 and {SECONDS_MAX}.")
    if not 1 <= options.rounds <= ROUNDS_MAX:
        raise Trouble(f"--rounds: {options.rounds} is not within 1 and {ROUNDS_MAX}.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES_NEEDED:
        raise Trouble(f"cores: {cores} may be used, expected two: one for the proxy alone.")
    return Plan(
        proxies=tuple(chosen(options.proxy, loomproxy=tuple(options.loomproxy))),
        workloads=tuple(
            one for one in WORKLOADS if options.workload is None or one.name in options.workload
        ),
        with_direct=options.proxy is None or DIRECT in options.proxy,
        seconds=options.seconds,
        rounds=options.rounds,
        proxy_core=cores[0],
        client_core=cores[1],
    )


def compare(options: argparse.Namespace, command: str) -> int:
    """Measure as told and write what was found; return the exit status, 0."""
    plan = plan_from(options)
    raise_descriptor_limit(DESCRIPTORS_EACH * max(w.client.connections for w in plan.workloads))
    versions = {proxy.name: proxy.version() for proxy in plan.proxies}
    where = machine.describe(ROOT, versions)
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx started by root reads its files as somebody else.
        found = measure_all(plan, directory)
    reduced = reduce(found.measured, plan)
    foreign = [one.foreign for one in found.measured]
    facts = machine.lines(where)
    facts += [f"{name} runs on {python}" for name, python in found.interpreters.items()]
    facts.append(f"command: `{command}`")
    facts.append(
        f"other work on this machine meanwhile: {median(foreign):.2f} cores in the median,"
        f" {max(foreign):.2f} at worst"
    )
    text = render(reduced, plan, facts)
    sys.stdout.write(text)
    if options.markdown is not None:
        options.markdown.write_text(text)
    if options.json is not None:
        whole = {
            "machine": asdict(where),
            "command": command,
            "seconds": plan.seconds,
            "interpreters": found.interpreters,
            "figures": [asdict(one) for one in reduced],
            "rounds": [asdict(one) for one in found.measured],
        }
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    _tell(f"done in {time.monotonic() - began_at:.0f} s")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    return status_of(lambda: compare(options, shlex.join(["loadtest/compare", *argv])))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

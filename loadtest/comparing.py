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
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from loadtest import machine, report, upstream, wrk
from loadtest.accounting import cpu_time_of, machine_busy_s
from loadtest.processes import (
    LOOPBACK,
    Process,
    free_port,
    raise_on_sigterm,
    running,
    wait_until,
)
from loadtest.proxies import ROOT, Place, Proxy, all_proxies
from loadtest.report import DIRECT, Figures, Measurement
from loadtest.trouble import Trouble
from loadtest.workloads import BY_NAME, WORKLOADS, Workload

SECONDS_DEFAULT = 4
SECONDS_MAX = 600
ROUNDS_DEFAULT = 3
ROUNDS_MAX = 100
WARM_UP_S = 1
ANSWER_TIMEOUT_S = 5.0
STATUS_OK = 200
CORES_NEEDED = 2


@dataclass(frozen=True, slots=True)
class Subject:
    """Something wrk can be put on: a running proxy, or the upstream itself."""

    name: str
    process: Process
    port: int
    access_log: Path | None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"


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


def answer_to(port: int, workload: Workload) -> tuple[int, int]:
    """Send one request of `workload` to `port`; return its status and the length of its body."""
    fields = dict(one.split(": ", 1) for one in workload.fields)
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(workload.method, workload.path, workload.body or None, fields)
        response = connection.getresponse()
        return response.status, len(response.read())


def answers(port: int) -> bool:
    """Tell whether `port` answers a small request as it should, yet."""
    try:
        return answer_to(port, WORKLOADS[0])[0] == STATUS_OK
    except (OSError, http.client.HTTPException):
        return False


def verify(subject: Subject, workload: Workload) -> None:
    """Refuse to measure a subject that does not do the work: Trouble when the answer is wrong."""
    expected = (STATUS_OK, workload.response_bytes)
    seen = answer_to(subject.port, workload)
    if seen != expected:
        raise Trouble(
            f"{subject.name}, {workload.name}: status and body length {seen} instead of {expected}."
            " It would be measured doing something else: look at its configuration."
        )


@contextlib.contextmanager
def subjects(plan: Plan, directory: Path) -> Iterator[list[Subject]]:
    """Start the upstream and every proxy, each answering; end all of them on leaving."""
    with contextlib.ExitStack() as stack:
        port, log = free_port(), directory / "upstream.log"
        argv = upstream.write(directory, port)
        process = stack.enter_context(
            running(argv, core=plan.client_core, log=log, directory=directory)
        )
        wait_until(partial(answers, port), process, what="upstream", log=log)
        started = [Subject(DIRECT, process, port, None)] if plan.with_direct else []
        for proxy in plan.proxies:
            home = directory / proxy.name
            home.mkdir()
            place = Place(home, free_port(), upstream_port=port)
            log = place.access_log if proxy.logs_to_output else home / "output.log"
            process = stack.enter_context(
                running(
                    proxy.configure(proxy, place), core=plan.proxy_core, log=log, directory=ROOT
                )
            )
            wait_until(partial(answers, place.port), process, what=proxy.name, log=log)
            started.append(Subject(proxy.name, process, place.port, place.access_log))
        yield started


def measure(subject: Subject, workload: Workload, plan: Plan, directory: Path) -> Measurement:
    """Put `workload` on `subject` once, and see what that cost its process tree."""
    foreign_s = _foreign_busy_s()
    began_at = time.monotonic()
    before = cpu_time_of(subject.process.pid)
    load = wrk.run(
        workload,
        url=subject.url,
        seconds=plan.seconds,
        core=plan.client_core,
        directory=directory,
    )
    used = cpu_time_of(subject.process.pid) - before
    foreign = (_foreign_busy_s() - foreign_s) / (time.monotonic() - began_at)
    if subject.process.poll() is not None:
        raise Trouble(f"{subject.name}: left with status {subject.process.returncode} under load.")
    if not load.requests:
        raise Trouble(f"{subject.name}, {workload.name}: no request was answered; {load}")
    if subject.access_log is not None:
        os.truncate(subject.access_log, 0)  # Or a long run would fill the disk.
    return Measurement(workload.name, subject.name, used, load, max(0.0, foreign))


def _foreign_busy_s() -> float:
    """Return the busy seconds of the machine that belong neither to us nor to what we started."""
    mine = cpu_time_of(os.getpid())
    return machine_busy_s() - mine.total_s


@dataclass(frozen=True, slots=True)
class Found:
    """What one run found: every measurement, and the Python that runs each proxy written in it."""

    measured: list[Measurement]
    interpreters: dict[str, str]


def measure_all(plan: Plan, directory: Path) -> Found:
    """Carry out the plan, telling on standard error how far it is."""
    measured: list[Measurement] = []
    with subjects(plan, directory) as all_subjects:
        said = {one.name: machine.interpreter_of(one.process.pid) for one in all_subjects}
        for subject, workload in itertools.product(all_subjects, plan.workloads):
            verify(subject, workload)
            wrk.run(
                workload,
                url=subject.url,
                seconds=WARM_UP_S,
                core=plan.client_core,
                directory=directory,
            )
        for number, workload in itertools.product(range(plan.rounds), plan.workloads):
            first = number % len(all_subjects)
            for subject in all_subjects[first:] + all_subjects[:first]:
                one = measure(subject, workload, plan, directory)
                measured.append(one)
                _tell(
                    f"[{len(measured)}/{plan.cells}] {workload.name} {subject.name}:"
                    f" {one.cpu_us:.1f} µs, {one.load.requests_per_s:.0f}/s"
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
        table = report.table(report.HEADINGS, [report.row(one, mine) for one in mine])
        heading = f"**{workload.name}**: {workload.meaning}, {workload.connections} connections"
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
    known = all_proxies(loomproxy=tuple(options.loomproxy))
    chosen = [one for one in known if options.proxy is None or one.name in options.proxy]
    for missing in (one for one in chosen if not one.found):
        if options.proxy is not None:
            raise Trouble(f"{missing.name}: {missing.command[0]} is not on this machine.")
        _tell(f"{missing.name}: not on this machine, left out")
    return Plan(
        proxies=tuple(one for one in chosen if one.found),
        workloads=tuple(
            one for one in WORKLOADS if options.workload is None or one.name in options.workload
        ),
        with_direct=options.proxy is None or DIRECT in options.proxy,
        seconds=options.seconds,
        rounds=options.rounds,
        proxy_core=cores[0],
        client_core=cores[1],
    )


def compare(options: argparse.Namespace, command: str) -> None:
    """Measure as told and write what was found."""
    plan = plan_from(options)
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


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    try:
        compare(parser().parse_args(argv), shlex.join(["loadtest/compare", *argv]))
    except Trouble as trouble:
        _tell(str(trouble))
        return 1
    except KeyboardInterrupt:
        _tell("interrupted; all that was started is ended")
        return 130
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""The upstream, the proxy and the lanes between them, for as long as the matrix runs."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.judge import judge
from tests.faults.matrix import Case, Lane, Run, configuration, run_cases
from tests.faults.scenes import SCENES, Scene, play
from tests.support import processes
from tests.support.loom import Loom, Looms, looms
from tests.support.origin import Origin
from tests.support.waiting import eventually

LANES: Final = 16


@dataclass
class Found:
    """What became of the cases."""

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def carry_out(scenes: tuple[Scene, ...] = SCENES, faults: frozenset[str] = frozenset()) -> Found:
    """Run every case of these scenes, of these faults if any are named; judge them."""
    with Origin() as origin, looms("source") as made:
        origin.act = play
        runs, loom, descriptors = asyncio.run(
            _run(origin, made, [Case(scene) for scene in scenes], faults), debug=False
        )
        problems = [*_unrest(loom, descriptors)]
        loom.line(runs[-1].next_path)
        lines: dict[str, list[dict[str, Any]]] = {}
        for line in loom.lines():
            lines.setdefault(line["target"], []).append(line)
        asked = Counter(fact.path for fact in origin.journal.all("request"))
        problems += [
            f"{run.case}: {problem}" for run in runs for problem in judge(run, lines, asked)
        ]
        problems += [f"the upstream: {failure!r}" for failure in origin.failures]
        return Found(runs, problems)


async def _run(
    origin: Origin, made: Looms, clean: list[Case], faults: frozenset[str]
) -> tuple[list[Run], Loom, int]:
    """Run all; what became of it, the proxy, and how many descriptors its worker had before."""
    lanes = [Lane(number, ("127.0.0.1", origin.port)) for number in range(LANES)]
    for lane in lanes:
        await lane.meddler.open()
    try:
        loom = await asyncio.to_thread(made.start, configuration(lanes))
        assert isinstance(loom.http, tuple)
        await asyncio.to_thread(loom.ask, "/nobody")
        (worker,) = loom.workers()
        before = processes.descriptors(worker)
        return await run_cases(lanes, loom.http, clean, faults), loom, before
    finally:
        for lane in lanes:
            await lane.meddler.end()


def _unrest(loom: Loom, descriptors: int) -> Iterator[str]:
    """What is left in flight, waiting or open, or descriptors more than at the start."""
    (worker,) = loom.workers()
    at_rest = ("loomproxy_in_flight", "loomproxy_pool_waiting", "loomproxy_connections")

    def rests() -> bool:
        return (
            not any(loom.metric(name) for name in at_rest)
            and processes.descriptors(worker) <= descriptors
        )

    try:
        eventually(rests, "a worker at rest after all cases")
    except AssertionError:
        for name in at_rest:
            yield f"after all cases {name} is {loom.metric(name)}"
        yield f"{processes.descriptors(worker)} descriptors, {descriptors} at the start"

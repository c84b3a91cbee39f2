"""What every client of a load test is told, and what it tells afterwards.

A workload is data plus the client that drives it: wrk for requests, ours (`events`, `websocket`)
for what wrk cannot do. This module is the seam between them and whoever measures: it knows no
proxy, no protocol and no table.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted and what is timed under a workload, in the words of its table."""

    one: str
    many: str
    timed: str = ""  # What the percentiles are of, where it is not the unit itself.
    paced: bool = False  # At a held rate, what a proxy adds to the time without one says something.


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of a client did and met; times in µs."""

    done: int  # Units completed while it was watched.
    duration_us: int  # How long it was watched.
    p50_us: int
    p99_us: int
    failures: Mapping[str, int] = field(default_factory=dict)  # By kind; over the whole run.

    @property
    def failed(self) -> int:
        """Everything that was not as it had to be."""
        return sum(self.failures.values())

    @property
    def per_s(self) -> float:
        """Throughput over the duration that was watched."""
        return self.done / (self.duration_us / US_PER_S)


@dataclass(frozen=True, slots=True)
class Task:
    """One run: against which port, for how long, from which core, and where to leave files.

    A client enters `watch` when its load is steady and leaves it before it winds down: what the
    proxy uses in between is what the load costs.
    """

    port: int
    seconds: float
    core: int
    directory: Path
    watch: AbstractContextManager[object] = field(default_factory=contextlib.nullcontext)


class Client(Protocol):
    """What puts a load on a port: wrk with a request, or one of ours."""

    @property
    def upstream(self) -> str:
        """Which of the upstreams answers it: `upstream.FILES` or `upstream.LIVE`."""

    @property
    def connections(self) -> int:
        """How many connections it holds at a time."""

    def verify(self, port: int) -> None:
        """Refuse, with Trouble, a port that does not do the work: it would be measured idling."""

    def run(self, task: Task) -> Load:
        """Put the load on and tell what was done; Trouble when that is not possible."""


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of `values` that `percent` % of them do not exceed; 0.0 for none."""
    if not values:
        return 0.0
    rank = -(-len(values) * percent // 100)  # Rounded up: the nearest-rank definition.
    return sorted(values)[max(rank, 1) - 1]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run this process on `core` for the length of a `with` block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

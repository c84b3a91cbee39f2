"""Runs every case: for each scene, each event of its clean run is met with each fault.

Cases run beside one another, each on a lane: a route, a pool of one endpoint that takes one
exchange at a time, and a meddler before the upstream. So a slot that leaks stops its lane, and what
one case does to its connections is nobody else's affair; the proxy and its worker are the same for
all of them.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.client import Client, Seen
from tests.faults.scenes import BY_NAME, Scene
from tests.support.loom import pool, settings, to
from tests.support.meddler import Meddler, Plan

TIMEOUT_S: Final = 2.0
"""Of every phase: what a stall costs. Far above what a busy machine makes of a pause."""

EDGE: Final = 2
"""Of many events of one scene, so many at either end are met; those between are alike."""

SETTLED_WITHIN_S: Final = 3.0
"""How soon the proxy must have closed what it cannot use."""

LOST: Final = ("cut", "cut_after", "close", "close_after", "half_down", "half_up")
SLOW: Final = ("stall", "pause")
FAULTS_AT: Final = {
    "accepted": ("refuse", "cut", "close", "half_down", *SLOW),
    "bytes up": (*LOST, *SLOW, "dribble", "cut_refuse"),
    "bytes down": (*LOST, *SLOW, "dribble"),
    "end down": (*LOST, *SLOW, "dribble", "insert", "insert_late"),
    "fin up": ("cut", *SLOW),
    "fin down": ("cut", *SLOW),
}
"""What means something at each kind of event."""


@dataclass(frozen=True)
class Case:
    """One scene with one fault at one event, the `number`-th of its kind; or without any."""

    scene: Scene
    event: str = ""
    number: int = 0
    fault: str = ""

    def __str__(self) -> str:
        where = f"{self.fault} at {self.event} {self.number}" if self.fault else "nothing wrong"
        return f"{self.scene.name}: {where}"


@dataclass
class Run:
    """What became of a case."""

    case: Case
    path: str
    seen: list[Seen] = field(default_factory=list)
    next_path: str = ""
    next_seen: Seen = field(default_factory=Seen)
    events: list[str] = field(default_factory=list)
    fired_at: int | None = None  # which of the events was met with the fault
    leaked: str = ""

    @property
    def met(self) -> bool:
        """Whether the event came, and with it the fault."""
        return self.fired_at is not None

    @property
    def looks_idle(self) -> bool:
        """Whether the connection stalled behind a whole answer: only its next request can tell."""
        return self.case.fault == "stall" and "end down" in self.events[: self.fired_at]

    @property
    def answered(self) -> bool:
        """Whether some of an answer came down before the fault."""
        return any(event.endswith("down") for event in self.events[: self.fired_at])


def cases_of(scene: Scene, events: list[str]) -> list[Case]:
    """Every fault that can be had at each event of a clean run."""
    cases = []
    for kind in dict.fromkeys(events):
        count = events.count(kind)
        for number in range(count):
            if EDGE <= number < count - EDGE:
                continue
            cases += [Case(scene, kind, number, fault) for fault in FAULTS_AT[kind]]
    if scene.requests > 1:  # Where a request follows at once, nobody can tell its answer from them.
        cases = [case for case in cases if case.fault != "insert_late"]
    first = next(event for event in events if event.endswith("down"))
    cases.append(Case(scene, first, 0, "garble"))  # Later it would be another body.
    return cases


def configuration(lanes: list["Lane"]) -> dict[str, Any]:
    """A pool and a route for each lane, everything in haste."""
    timeouts = dict.fromkeys(
        ("queue", "connect", "response", "idle", "send", "tunnel_idle"), f"{TIMEOUT_S}s"
    )
    pools = {
        lane.name: pool(
            f"http://127.0.0.1:{lane.meddler.port}",
            in_flight_max=1,
            ejection={"failures": 0},
            keepalive={"idle_timeout": "60s"},
            retry_budget={"ratio": 1.0, "retries_min_per_s": 100},
        )
        for lane in lanes
    }
    routes = [to(lane.name, f"/{lane.name}", name=lane.name) for lane in lanes]
    return settings(pools=pools, routes=routes, timeouts=timeouts)


class Lane:
    """One way through the proxy, for one case at a time."""

    def __init__(self, number: int, upstream: tuple[str, int]) -> None:
        self.name = f"lane{number}"
        self.meddler = Meddler(upstream)
        self._numbers = itertools.count()

    def path(self, scene: Scene) -> str:
        """A path that nobody has asked for yet."""
        return f"/{self.name}/{scene.name}/{next(self._numbers)}"

    async def run(self, case: Case, address: tuple[str, int]) -> Run:
        """Run a case from a lane without connections; then see whether all is as before."""
        meddler, scene = self.meddler, case.scene
        run = Run(case, self.path(scene))
        run.leaked = await self._empty()
        if scene.reused:
            await self._ask(BY_NAME["get"], self.path(BY_NAME["get"]), address)
        plan = Plan(case.event, case.number, case.fault) if case.fault else None
        meddler.arm(plan, scene.end_mark)
        client = await Client.to(address)
        run.seen = await client.ask(scene, run.path)
        await meddler.disarm()
        run.leaked += await self._settle()
        run.events, run.fired_at = list(meddler.events), meddler.fired_at
        run.next_path = self.path(BY_NAME["get"])
        if run.seen[-1].keeps and run.seen[-1].complete and not scene.tunnel:
            run.next_seen = (await client.ask(BY_NAME["get"], run.next_path))[0]
        else:
            run.next_seen = await self._ask(BY_NAME["get"], run.next_path, address)
        client.close()
        return run

    async def _ask(self, scene: Scene, path: str, address: tuple[str, int]) -> Seen:
        client = await Client.to(address)
        try:
            return (await client.ask(scene, path))[0]
        finally:
            client.close()

    async def _settle(self) -> str:
        """Wait until at most one clean connection is left; else say what is."""
        links = self.meddler.links
        return await self._until(
            lambda: len(links) <= 1 and not any(link.spoiled for link in links), "after it"
        )

    async def _empty(self) -> str:
        """Have the proxy close every idle connection to this lane's upstream."""
        self.meddler.drop()
        left = await self._until(lambda: not self.meddler.links, "before it")
        if left:
            self.meddler.reset()
        return left

    async def _until(self, claim: Callable[[], bool], when: str) -> str:
        """Wait until this holds of the connections; else say which are left."""
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                await self.meddler.until(claim)
        except TimeoutError:
            return f"{when}: {[str(link) for link in self.meddler.links]} "
        return ""


async def run_cases(
    lanes: list[Lane], address: tuple[str, int], clean: list[Case], faults: frozenset[str]
) -> list[Run]:
    """Run the clean cases, then what can happen at each of their events; of `faults`, or any."""
    runs = await _spread(clean, lanes, address)
    cases = [case for run in runs for case in cases_of(run.case.scene, run.events)]
    chosen = [case for case in cases if not faults or case.fault in faults]
    return runs + await _spread(chosen, lanes, address)


async def _spread(cases: list[Case], lanes: list[Lane], address: tuple[str, int]) -> list[Run]:
    """Run cases, as many at a time as there are lanes."""
    waiting = iter(cases)
    done: list[Run] = []

    async def work(lane: Lane) -> None:
        for case in waiting:
            done.append(await lane.run(case, address))

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    return done

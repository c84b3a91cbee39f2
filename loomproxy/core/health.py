"""What the house says of its health: is it running, should it get traffic, and how is it in detail.

Three questions that are often mixed up, to the harm of those who ask:

* *Liveness* (`/health/live`): it answered, so it is running. An orchestrator restarts what does not
  answer, so nothing else may turn this page red: no broken dependency is repaired by a restart.
* *Readiness* (`/health/ready`): balancers should send traffic. True when the startup gates passed,
  every worker serves what is current, nothing drains, and every required dependency is healthy.
* *Detail* (`/health`): the worst that is known, for people and dashboards. Only *unhealthy* is 503;
  *degraded* still works; *unknown* is no statement, so it does not count.

Bodies are compact JSON with keys in alphabetical order and one newline, because balancers match
the literal `"ready":true`. What dependencies say of themselves is shown to anybody: callers give
plain words, without addresses and error texts.
"""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from loomproxy.core.units import Instant

OK: Final = 200
UNAVAILABLE: Final = 503


class Status(enum.Enum):
    """How well something is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  # works, with less than it should have
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"  # cannot say, or there is none


class Dependency(msgspec.Struct, frozen=True):
    """Something the house leans on."""

    status: Status
    message: str = ""  # "": left out
    latency_ms: float = 0.0  # of the last check; 0: left out
    required: bool = False  # no readiness unless it is healthy


class House(msgspec.Struct, frozen=True):
    """All that the answers are made from."""

    gates_passed: bool
    draining: bool
    workers: int  # slots
    workers_ready: int  # of them, those whose worker serves the current revision
    started_at: Instant
    version: str
    instance_id: str = ""  # "": left out
    waiting_for: str = ""  # the startup gate being waited for, while there is one
    dependencies: Mapping[str, Dependency] = {}  # besides `lifecycle` and `workers`
    metrics: Mapping[str, float] = {}  # a few numbers for people, by name; integers stay integers


class Page(msgspec.Struct, frozen=True):
    """An answer; its content type is application/json."""

    status: int
    body: bytes


def live(now_text: str) -> Page:
    """`/health/live`. `now_text` is the wall-clock moment in RFC 3339, in whole seconds."""
    return _page(OK, {"status": "alive", "timestamp": now_text})


def ready(house: House, now_text: str) -> Page:
    """`/health/ready`: 200 when `is_ready`, else 503 with the reasons among the dependencies."""
    is_so = is_ready(house)
    body = {"dependencies": _listed(house), "ready": is_so, "timestamp": now_text}
    return _page(OK if is_so else UNAVAILABLE, body)


def detail(house: House, now: Instant, now_text: str) -> Page:
    """`/health`: everything known; 503 only when it is unhealthy."""
    overall = status(house)
    body: dict[str, object] = {
        "dependencies": _listed(house),
        "metrics": dict(house.metrics),
        "status": overall.value,
        "timestamp": now_text,
        "uptime_seconds": int(now - house.started_at),
        "version": house.version,
    }
    if house.instance_id:
        body["instance_id"] = house.instance_id
    return _page(UNAVAILABLE if overall is Status.UNHEALTHY else OK, body)


def is_ready(house: House) -> bool:
    """Whether balancers should send traffic here."""
    return (
        house.gates_passed
        and not house.draining
        and 0 < house.workers == house.workers_ready
        and all(
            each.status is Status.HEALTHY for each in house.dependencies.values() if each.required
        )
    )


def status(house: House) -> Status:
    """The worst of all dependencies; unknown ones do not count."""
    known = {dependency.status for dependency in _dependencies(house).values()}
    for bad in (Status.UNHEALTHY, Status.DEGRADED):
        if bad in known:
            return bad
    return Status.HEALTHY


def pools(available: Mapping[str, int], owners: Mapping[str, Dependency]) -> Dependency:
    """How well the pools are, by how many endpoints of each get traffic.

    A pool without any is *degraded*, not worse: the house works, and so do its other pools.
    `owners` are those that some pools stand for, by the pool's name: where one is unknown, as a
    plugin that was stopped, its pool is empty because somebody wants it so, and does not count.
    """
    counts = [
        count
        for name, count in available.items()
        if name not in owners or owners[name].status is not Status.UNKNOWN
    ]
    good = sum(count > 0 for count in counts)
    message = f"{good} of {len(counts)} have an endpoint"
    if not counts:
        return Dependency(Status.UNKNOWN, "there are none")
    return Dependency(Status.HEALTHY if good == len(counts) else Status.DEGRADED, message)


def _dependencies(house: House) -> dict[str, Dependency]:
    """Those that were given, and the house's own two."""
    return {**house.dependencies, "lifecycle": _lifecycle(house), "workers": _workers(house)}


def _lifecycle(house: House) -> Dependency:
    if house.draining:
        return Dependency(Status.DEGRADED, "draining")
    if house.gates_passed:
        return Dependency(Status.HEALTHY, "serving")
    waiting = f"starting, waits for {house.waiting_for}" if house.waiting_for else "starting"
    return Dependency(Status.DEGRADED, waiting)


def _workers(house: House) -> Dependency:
    message = f"{house.workers_ready} of {house.workers} ready"
    if not house.workers_ready:
        return Dependency(Status.UNHEALTHY, message)
    if house.workers_ready < house.workers:
        return Dependency(Status.DEGRADED, message)
    return Dependency(Status.HEALTHY, message)


def _listed(house: House) -> dict[str, dict[str, object]]:
    return {name: _entry(dependency) for name, dependency in _dependencies(house).items()}


def _entry(dependency: Dependency) -> dict[str, object]:
    entry: dict[str, object] = {"status": dependency.status.value}
    if dependency.message:
        entry["message"] = dependency.message
    if dependency.latency_ms:
        entry["latency_ms"] = dependency.latency_ms
    return entry


def _page(code: int, body: Mapping[str, object]) -> Page:
    return Page(code, msgspec.json.encode(body, order="sorted") + b"\n")

"""What balancers, orchestrators and people read on the health pages."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core import health
from loomproxy.core.health import Dependency, House, Status
from loomproxy.core.units import Instant

AT = "2026-01-02T03:04:05Z"


def house(**changes: object) -> House:
    """A house in which all is well."""
    well = House(
        gates_passed=True,
        draining=False,
        workers=2,
        workers_ready=2,
        started_at=Instant(100.0),
        version="1.2.3",
    )
    return msgspec.structs.replace(well, **changes)


def test_live_says_so_and_nothing_else() -> None:
    page = health.live(AT)
    assert page.status == 200
    assert page.body == b'{"status":"alive","timestamp":"2026-01-02T03:04:05Z"}\n'


def test_ready_house() -> None:
    page = health.ready(house(), AT)
    assert page.status == 200
    assert page.body == (
        b'{"dependencies":{"lifecycle":{"message":"serving","status":"healthy"},'
        b'"workers":{"message":"2 of 2 ready","status":"healthy"}},'
        b'"ready":true,"timestamp":"2026-01-02T03:04:05Z"}\n'
    )


@pytest.mark.parametrize(
    ("changes", "name", "entry"),
    [
        ({"draining": True}, "lifecycle", {"message": "draining", "status": "degraded"}),
        ({"gates_passed": False}, "lifecycle", {"message": "starting", "status": "degraded"}),
        (
            {"gates_passed": False, "waiting_for": "workers"},
            "lifecycle",
            {"message": "starting, waits for workers", "status": "degraded"},
        ),
        ({"workers_ready": 1}, "workers", {"message": "1 of 2 ready", "status": "degraded"}),
        ({"workers_ready": 0}, "workers", {"message": "0 of 2 ready", "status": "unhealthy"}),
        (
            {"workers": 0, "workers_ready": 0},
            "workers",
            {"message": "0 of 0 ready", "status": "unhealthy"},
        ),
    ],
)
def test_house_that_is_not_ready_says_why(
    changes: dict[str, object], name: str, entry: dict[str, str]
) -> None:
    page = health.ready(house(**changes), AT)
    assert page.status == 503
    assert b'"ready":false' in page.body
    assert json.loads(page.body)["dependencies"][name] == entry


@pytest.mark.parametrize("status", [Status.DEGRADED, Status.UNHEALTHY, Status.UNKNOWN])
def test_only_required_dependencies_take_the_house_out_of_the_balancer(status: Status) -> None:
    nice = house(dependencies={"cache": Dependency(status)})
    must = house(dependencies={"database": Dependency(status, required=True)})
    assert health.is_ready(nice)
    assert not health.is_ready(must)
    assert health.ready(must, AT).status == 503
    assert health.is_ready(house(dependencies={"db": Dependency(Status.HEALTHY, required=True)}))


def test_detail_of_a_healthy_house() -> None:
    one = house(
        instance_id="edge-1",
        metrics={"workers": 2, "cpu_cores": 2, "load": 0.5},
        dependencies={"database": Dependency(Status.UNKNOWN, "database not configured")},
    )
    page = health.detail(one, Instant(161.9), AT)
    assert page.status == 200
    assert page.body == (
        b'{"dependencies":{"database":{"message":"database not configured","status":"unknown"},'
        b'"lifecycle":{"message":"serving","status":"healthy"},'
        b'"workers":{"message":"2 of 2 ready","status":"healthy"}},'
        b'"instance_id":"edge-1","metrics":{"cpu_cores":2,"load":0.5,"workers":2},'
        b'"status":"healthy","timestamp":"2026-01-02T03:04:05Z","uptime_seconds":61,'
        b'"version":"1.2.3"}\n'
    )


def test_empty_instance_is_left_out() -> None:
    assert b"instance_id" not in health.detail(house(), Instant(100.0), AT).body


def test_latency_is_shown_when_it_was_measured() -> None:
    one = house(
        dependencies={
            "database": Dependency(Status.HEALTHY, "connected", latency_ms=1.5),
            "cache": Dependency(Status.HEALTHY),
        }
    )
    listed = json.loads(health.ready(one, AT).body)["dependencies"]
    assert listed["database"] == {"latency_ms": 1.5, "message": "connected", "status": "healthy"}
    assert listed["cache"] == {"status": "healthy"}


def test_draining_house_still_works() -> None:
    page = health.detail(house(draining=True), Instant(100.0), AT)
    assert page.status == 200
    assert b'"status":"degraded","timestamp"' in page.body


def test_house_without_a_ready_worker_is_unhealthy() -> None:
    page = health.detail(house(workers_ready=0), Instant(100.0), AT)
    assert page.status == 503
    assert b'"status":"unhealthy","timestamp"' in page.body


@pytest.mark.parametrize(("one", "other"), list(itertools.product(Status, repeat=2)))
def test_worst_dependency_decides_and_unknown_ones_do_not_count(one: Status, other: Status) -> None:
    overall = health.status(house(dependencies={"a": Dependency(one), "b": Dependency(other)}))
    if Status.UNHEALTHY in (one, other):
        assert overall is Status.UNHEALTHY
    elif Status.DEGRADED in (one, other):
        assert overall is Status.DEGRADED
    else:
        assert overall is Status.HEALTHY


@given(
    st.builds(
        House,
        gates_passed=st.booleans(),
        draining=st.booleans(),
        workers=st.integers(0, 3),
        workers_ready=st.integers(0, 3),
        started_at=st.just(Instant(0.0)),
        version=st.text(),
        dependencies=st.dictionaries(
            st.text(), st.builds(Dependency, status=st.sampled_from(Status), message=st.text())
        ),
    ),
    st.floats(0.0, 1e6).map(Instant),
)
def test_pages_are_compact_sorted_and_say_what_their_status_says(
    house: House, now: Instant
) -> None:
    ready, detail = health.ready(house, AT), health.detail(house, now, AT)
    for page in (ready, detail):
        told = json.loads(page.body)
        assert page.body.endswith(b"}\n")
        assert page.body.count(b"\n") == 1
        assert list(told) == sorted(told)
        assert list(told["dependencies"]) == sorted(told["dependencies"])
        assert len(page.body) == len(msgspec.json.encode(told)) + 1  # not a space too many
    assert json.loads(ready.body)["ready"] is (ready.status == 200)
    assert (ready.status == 200) == health.is_ready(house)
    assert (detail.status == 503) == (json.loads(detail.body)["status"] == "unhealthy")


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ({}, Dependency(Status.UNKNOWN, "there are none")),
        ({"a": 2, "b": 1}, Dependency(Status.HEALTHY, "2 of 2 have an endpoint")),
        ({"a": 2, "b": 0}, Dependency(Status.DEGRADED, "1 of 2 have an endpoint")),
        ({"a": 0}, Dependency(Status.DEGRADED, "0 of 1 have an endpoint")),
    ],
)
def test_pool_without_an_endpoint_shows(available: dict[str, int], expected: Dependency) -> None:
    assert health.pools(available, {}) == expected


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (Status.UNKNOWN, Dependency(Status.HEALTHY, "1 of 1 have an endpoint")),
        (Status.DEGRADED, Dependency(Status.DEGRADED, "1 of 2 have an endpoint")),
        (Status.HEALTHY, Dependency(Status.DEGRADED, "1 of 2 have an endpoint")),
    ],
)
def test_pool_of_a_plugin_that_nobody_wants_to_run_is_no_worry(
    owner: Status, expected: Dependency
) -> None:
    owners = {"plugin:acme": Dependency(owner), "plugin:other": Dependency(Status.UNKNOWN)}
    assert health.pools({"app": 1, "plugin:acme": 0}, owners) == expected

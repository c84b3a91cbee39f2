"""What `loomproxy status` prints."""

from collections.abc import Sequence
from typing import Any

import pytest

from loomproxy.cli.status import cluster_lines, table, text

ENDPOINT = {
    "address": "http://127.0.0.1:9000",
    "weight": 1,
    "enabled": True,
    "workers": 2,
    "workers_healthy": 2,
    "workers_ejecting": 0,
    "ejected_for_s": 0.0,
    "in_flight": 3,
    "keepalive": 4,
}


def status(endpoint: dict[str, Any], *, plugins: Sequence[Any] = (), **node: Any) -> str:
    whole = {
        "plugins": plugins,
        "node": {
            "version": "1",
            "pid": 4711,
            "state": "serving",
            "ready": True,
            "waiting_for": "",
            "uptime_s": 7384.2,
            "config": "a.yaml",
            "revision": 2,
            "reloads": 1,
            "reloads_refused": 0,
            "reload_problems": [],
            "worker_restarts": 0,
            **node,
        },
        "listeners": [{"name": "public", "address": "0.0.0.0:80"}],
        "workers": [
            {"slot": 0, "state": "backoff", "pid": 0, "starts": 3, "revision": 0, "backoff_s": 1.5}
        ],
        "pools": [{"name": "app", "waiting": 5, "endpoints": [endpoint]}],
    }
    return text(whole)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "  healthy  "),
        ({"enabled": False}, "  disabled  "),
        ({"workers_healthy": 1}, "  unhealthy to 1 of 2  "),
        ({"workers_ejecting": 2, "ejected_for_s": 4.5}, "  ejected by 2 of 2 for 4.5 s  "),
    ],
)
def test_endpoint_without_traffic_says_why(found: dict[str, Any], words: str) -> None:
    assert words in status({**ENDPOINT, **found})


def test_slot_without_a_worker_says_when_the_next_one_comes() -> None:
    assert "backoff 1.5 s" in status(ENDPOINT)


def test_node_says_how_it_is() -> None:
    said = status(ENDPOINT, state="starting", ready=False, waiting_for="workers")
    assert "loomproxy 1, pid 4711: starting, not ready, up 2h 3m" in said
    assert "waiting for startup gate: workers" in said
    assert "last reload refused: pools: bad" in status(ENDPOINT, reload_problems=["pools: bad"])


@pytest.mark.parametrize(("up_s", "words"), [(5, "up 5s"), (65, "up 1m 5s"), (90_000, "up 1d 1h")])
def test_uptime_has_two_units(up_s: float, words: str) -> None:
    assert status(ENDPOINT, uptime_s=up_s).splitlines()[0].endswith(words)


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    assert table(("NAME", "COUNT"), [("a", 1), ("long name", 100)]).splitlines() == [
        "NAME       COUNT",
        "a              1",
        "long name    100",
    ]


def test_plugins_are_shown_in_short() -> None:
    plugin = {
        "provider_type": "acme",
        "state": "ready",
        "generation": 3,
        "models": 2,
        "restarts": 1,
        "requests": 40,
        "in_flight": 5,
    }
    heads, line = status(ENDPOINT, plugins=[plugin]).splitlines()[-2:]
    assert heads.split()[:4] == ["PLUGIN", "STATE", "GENERATION", "MODELS"]
    assert line.split() == ["acme", "ready", "3", "2", "1", "5", "40"]
    assert "PLUGIN" not in status(ENDPOINT, plugins=[])


KNOWN = {
    "instance_id": "one",
    "incarnation": "0123456789abcdef",
    "store": "postgres",
    "away": "",
    "leads": True,
    "newest": 3,
    "running": 3,
    "refused": 0,
    "problems": [],
    "replaced": False,
    "latency_ms": 1.5,
}


def test_what_an_instance_knows_of_its_cluster_is_told_in_lines() -> None:
    assert cluster_lines(KNOWN) == [
        "this instance  one (01234567), leads",
        "store          postgres, 1.5 ms",
        "published      runs 3, newest 3",
    ]
    trouble = {
        "away": "refused\x1b[2J",
        "leads": False,
        "refused": 4,
        "problems": ["no pool"],
        "replaced": True,
    }
    assert cluster_lines({**KNOWN, **trouble}) == [
        "this instance  one (01234567), does not lead",
        "store          postgres, away: refused\\x1b[2J",
        "published      runs 3, newest 3",
        "refused        4",
        "  no pool",
        "replaced       another process uses the name of this instance",
    ]

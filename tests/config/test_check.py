"""What is wrong between two values, though each alone is fine."""

import json
from typing import Any

import pytest

from loomproxy.config.check import NAMES_SHOWN_MAX
from loomproxy.config.load import parse
from loomproxy.config.problem import Problems
from loomproxy.config.walk import PROBLEMS_MAX

BASE = {
    "listeners": [{"name": "public", "address": ":8080"}],
    "pools": {"app": {"endpoints": ["http://a:1"]}},
    "routes": [{"pool": "app"}],
}


def problems(**tree: Any) -> list[tuple[str, str]]:
    result = parse(json.dumps({**BASE, **tree}), "a.json", {})
    if isinstance(result, Problems):
        return [(problem.path, problem.seen) for problem in result.items]
    return []


def test_with_many_pools_a_problem_names_the_first() -> None:
    pools = {f"p{n:02}": {"endpoints": ["http://a:1"]} for n in range(NAMES_SHOWN_MAX + 1)}
    result = parse(json.dumps({**BASE, "pools": pools}), "a.json", {})
    assert isinstance(result, Problems)
    assert result.items[0].expected.startswith("one of pools (p00, p01, ")
    assert result.items[0].expected.endswith(", p19, …)")


def test_more_problems_than_anybody_reads_are_not_told() -> None:
    routes = [{"pool": f"p{n}"} for n in range(PROBLEMS_MAX + 5)]
    assert len(problems(routes=routes)) == PROBLEMS_MAX


def listeners(*addresses: str) -> dict[str, Any]:
    return {"listeners": [{"name": f"l{n}", "address": at} for n, at in enumerate(addresses)]}


def pool(**more: Any) -> dict[str, Any]:
    return {"pools": {"app": {"endpoints": ["http://a:1"], **more}}}


def route(**more: Any) -> dict[str, Any]:
    return {"routes": [{"pool": "app", **more}]}


def instead(**more: Any) -> dict[str, Any]:
    return {"routes": [{"pool": "app"}, more]}


@pytest.mark.parametrize(
    ("tree", "path", "seen"),
    [
        ({"node": {"worker_ping_timeout": 1}}, "node.worker_ping_timeout", "not above"),
        ({"listeners": []}, "listeners", "there is none"),
        (pool(tls={"client_key": "/k"}), "pools.app.tls.client_key", "key to nothing"),
        (pool(tls={"verify": False, "ca_file": "/c"}), "pools.app.tls.ca_file", "no effect"),
        (pool(tls={"server_name": "a:1"}), "pools.app.tls.server_name", "invalid host"),
        (pool(tls={"ca_file": "ca.pem"}), "pools.app.tls.ca_file", "absolute path"),
        (
            {"listeners": [{"name": "a", "address": ":1"}, {"name": "a", "address": ":2"}]},
            "listeners[1].name",
            "a is the name of listeners[0] too",
        ),
        (listeners("127.0.0.1:1", "localhost:1"), "listeners[1].address", "of listeners[0] too"),
        (listeners(":1", "0.0.0.0:1"), "listeners[1].address", "0.0.0.0:1 is the address"),
        (listeners("[::]:1", ":1"), "listeners[1].address", "[::]:1 is the address"),
        (listeners("unix:/a", "unix:/a"), "listeners[1].address", "unix:/a is the address"),
        (
            {"admin": {"address": "127.0.0.1:1"}, **listeners("127.0.0.1:1")},
            "listeners[0].address",
            "is the address of admin too",
        ),
        (pool(endpoints=[]), "pools.app.endpoints", "there are 0"),
        (
            pool(endpoints=[f"http://a:{n}" for n in range(1, 10_002)]),
            "pools.app.endpoints",
            "there are 10001",
        ),
        (
            pool(endpoints=["http://a:80", "http://b", "http://A"]),
            "pools.app.endpoints[2].address",
            "that of endpoints[0] too",
        ),
        (pool(ejection={"time": 9, "time_max": 8}), "pools.app.ejection.time_max", "8s is below"),
        (pool(probe={"status_min": 500}), "pools.app.probe.status_max", "399 is below"),
        (pool(probe={"interval": 1}), "pools.app.probe.timeout", "2s is above"),
        (
            {"limits": {"head_bytes_max": 1024}},
            "limits.target_bytes_max",
            "above limits.head_bytes_max",
        ),
        ({"routes": []}, "routes", "no route leads to them"),
        (route(pool="ap"), "routes[0].pool", "ap is no pool"),
        ({"pools": {}}, "routes[0].pool", "app is no pool"),
        (instead(name="x"), "routes[1]", "says not what to do"),
        (route(respond={}), "routes[0]", "it has pool and respond"),
        (
            {"routes": [{"pool": "app", "name": "route-2"}, {"pool": "app"}]},
            "routes[1].name",
            "route-2 is the name of routes[0] too",
        ),
        (instead(respond={}, host="a"), "routes[1].host", "no effect beside respond"),
        (instead(respond={}, rewrite={}), "routes[1].rewrite", "no effect beside respond"),
        (
            instead(redirect={"location": "/"}, retry={"attempts_max": 1}),
            "routes[1].retry",
            "no effect beside redirect",
        ),
        (
            instead(respond={"headers": {"Content-type": "a"}}),
            "routes[1].respond.headers.Content-type",
            "a key of its own",
        ),
        (
            instead(respond={"status": 204, "body": "x"}),
            "routes[1].respond.body",
            "a 204 answer has no body",
        ),
        (
            route(match={"path": "/a", "path_regex": "b"}),
            "routes[0].match",
            "it has path and path_regex",
        ),
        (
            route(match={"listeners": ["public", "hidden"]}),
            "routes[0].match.listeners[1]",
            "hidden is no listener",
        ),
        (
            route(rewrite={"replacement": "/a"}),
            "routes[0].rewrite.replacement",
            "no regex that it would replace",
        ),
        (
            route(rewrite={"regex": "(a)(?P<n>b)", "replacement": r"\3"}),
            "routes[0].rewrite.replacement",
            "does not fit",
        ),
        (
            route(rewrite={"regex": "(a)(?P<n>b)", "replacement": r"\g<m>"}),
            "routes[0].rewrite.replacement",
            "does not fit",
        ),
        (
            route(rewrite={"regex": "a", "replacement": r"/x\r\nEvil:1"}),
            "routes[0].rewrite.replacement",
            r"stands for '\r'",
        ),
        (
            route(rewrite={"regex": "a", "replacement": r"/\043"}),
            "routes[0].rewrite.replacement",
            "stands for '#'",
        ),
    ],
)
def test_contradictions(tree: dict[str, Any], path: str, seen: str) -> None:
    ((where, claim),) = problems(**tree)
    assert where == path
    assert seen in claim


@pytest.mark.parametrize(
    "tree",
    [
        {"pools": {}, "routes": []},  # A listener without any route is fine.
        listeners("127.0.0.1:0", "127.0.0.1:0"),
        listeners(":0", "0.0.0.0:0"),
        listeners("127.0.0.1:1", "[::1]:1", "unix:/1"),
        {"admin": {"address": "unix:/a"}, **listeners("unix:/b")},
        route(match={"listeners": "public"}),
        route(rewrite={"regex": "(?i)(a)(?P<n>b)", "replacement": r"\1\g<n>\2"}),
        route(rewrite={"regex": "a"}),
        instead(respond={}, timeouts={"send": 1}, body_bytes_max=0),
        instead(redirect={"location": "/"}),
    ],
)
def test_what_is_no_contradiction(tree: dict[str, Any]) -> None:
    assert problems(**tree) == []


def test_what_to_do_with_a_response_header_on_a_fixed_answer() -> None:
    tree = instead(respond={}, response_headers={"set": {"A": "b"}})
    result = parse(json.dumps({**BASE, **tree}), "a.json", {})
    assert isinstance(result, Problems)
    assert result.items[0].do == "Move it to respond.headers."


def test_what_could_not_be_read_is_not_told_twice() -> None:
    assert [path for path, _ in problems(listeners=[{"name": "a b", "address": "x"}] * 2)] == [
        "listeners[0].name",
        "listeners[0].address",
        "listeners[1].name",
        "listeners[1].address",
    ]
    assert [path for path, _ in problems(**pool(endpoints=["x", "x"]))] == [
        "pools.app.endpoints[0].address",
        "pools.app.endpoints[1].address",
    ]

"""From the typed configuration to the world that exchanges live in."""

import ipaddress
import json
from typing import Any

import msgspec
import pytest

from loomproxy.config.compile import ConfigError, compile_snapshot
from loomproxy.config.load import parse
from loomproxy.config.model import Config, Dynamic, Static
from loomproxy.core.chat.catalogue import Target
from loomproxy.core.chat.provider import Model, Provider
from loomproxy.core.endpoint import Address, EjectionPolicy, EndpointSpec, KeepaliveSpec, TlsSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import Family, ForwardPolicy, HeaderOps
from loomproxy.core.message import Framing, RequestHead
from loomproxy.core.pool import Balance, PoolSpec, ProbeSpec
from loomproxy.core.route import (
    HOST_OF_ENDPOINT,
    Chat,
    Condition,
    Match,
    Models,
    PathKind,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    Serve,
    Timeouts,
    ToPool,
    ValueKind,
)
from loomproxy.core.snapshot import Snapshot

BASE = {
    "listeners": [{"name": "public", "address": ":8080"}],
    "pools": {"app": {"endpoints": ["http://a:1"]}},
    "routes": [{"pool": "app"}],
}


def config(**tree: Any) -> Config:
    result = parse(json.dumps({**BASE, **tree}), "a.json", {})
    assert isinstance(result, Config), str(result)
    return result


def snapshot(**tree: Any) -> Snapshot:
    return compile_snapshot(config(**tree), 7)


def route(**more: Any) -> Route:
    return snapshot(routes=[{"pool": "app", **more}]).table.routes[0]


def asked(path: bytes) -> RequestHead:
    return RequestHead(
        b"GET", path, path, b"", 1, b"a", b"a", Framing.NONE, 0, True, False, b"", (), b""
    )


def test_the_smallest_configuration() -> None:
    compiled = snapshot()
    assert compiled.revision == 7
    assert compiled.pools == {"app": PoolSpec("app", (EndpointSpec(Address("a", 1)),))}
    assert compiled.table.routes == (Route("route-1", Match(), ToPool("app")),)
    assert compiled.timeouts == Timeouts()
    assert compiled.policy == ForwardPolicy()
    assert compiled.limits.body_bytes_max == 100 << 20


def test_defaults_of_the_model_and_of_the_core_agree() -> None:
    assert snapshot().limits == msgspec.structs.replace(Limits(), body_bytes_max=100 << 20)
    assert route() == Route("route-1", Match(), ToPool("app"))
    probed = snapshot(pools={"app": {"endpoints": ["unix:/a"], "probe": {}}}).pools["app"]
    assert probed == PoolSpec("app", (EndpointSpec(Address(path="/a")),), probe=ProbeSpec())


def test_every_key_of_a_pool_arrives() -> None:
    pool = {
        "endpoints": [{"address": "http://[::1]:9", "weight": 5, "enabled": False}],
        "balance": "least_in_flight",
        "in_flight_max": 1,
        "queue_max": 2,
        "tls": {
            "ca_file": "/ca.pem",
            "server_name": "A.Example",
            "client_certificate": "/me.pem",
            "client_key": "/me.key",
        },
        "keepalive": {"idle_max": 3, "idle_timeout": 4.5, "requests_max": 5},
        "ejection": {"failures": 6, "time": 7, "time_max": 8},
        "probe": {
            "path": "/up",
            "interval": 9,
            "timeout": 1,
            "rise": 10,
            "fall": 11,
            "status_min": 204,
            "status_max": 205,
            "host": "probe.example",
        },
        "retry_budget": {"ratio": 0.1, "retries_min_per_s": 12},
    }
    assert snapshot(pools={"app": pool}).pools["app"] == PoolSpec(
        "app",
        (EndpointSpec(Address("::1", 9), 5, enabled=False),),
        balance=Balance.LEAST_IN_FLIGHT,
        ejection=EjectionPolicy(6, 7.0, 8.0),
        in_flight_max=1,
        queue_max=2,
        keepalive=KeepaliveSpec(3, 4.5, 5),
        probe=ProbeSpec(b"/up", 9.0, 1.0, 10, 11, 204, 205, b"probe.example"),
        retry_budget_ratio=0.1,
        retries_min_per_s=12.0,
        tls=TlsSpec(
            ca_file="/ca.pem",
            server_name="a.example",
            client_certificate="/me.pem",
            client_key="/me.key",
        ),
    )
    anybody = {**pool, "tls": {"verify": False}}
    assert snapshot(pools={"app": anybody}).pools["app"].tls == TlsSpec(verify=False)


def test_every_key_of_a_route_arrives() -> None:
    compiled = route(
        name="all",
        match={
            "hosts": ["*.A.example"],
            "path_prefix": ["/a", "/b"],
            "methods": ["GET"],
            "headers": {"X-A": "1", "X-B": "*", "X-C": "~^c"},
            "query": {"Q": "2"},
            "listeners": ["public"],
        },
        rewrite={"strip_prefix": "/a", "regex": "b", "replacement": "c", "add_prefix": "/d/"},
        request_headers={"set": {"S": "1"}, "add": {"A": ["2", "3"]}, "remove": ["R"]},
        response_headers={"remove": "Server"},
        host="endpoint",
        timeouts={"connect": 1},
        retry={"attempts_max": 1},
        body_bytes_max=0,
        upgrades=["WebSocket", "x"],
    )
    assert compiled == Route(
        "all",
        Match(
            (b"*.a.example",),
            PathKind.PREFIX,
            (b"/a", b"/b"),
            frozenset((b"GET",)),
            (
                Condition(b"x-a", ValueKind.EXACT, b"1"),
                Condition(b"x-b"),
                Condition(b"x-c", ValueKind.REGEX, b"^c"),
            ),
            (Condition(b"Q", ValueKind.EXACT, b"2"),),
            frozenset(("public",)),
        ),
        ToPool("app"),
        rewrite=PathRewrite(b"/a", b"b", b"c", b"/d"),
        request_ops=HeaderOps(
            set=((b"S", b"1"),), add=((b"A", b"2"), (b"A", b"3")), remove=(b"R",)
        ),
        response_ops=HeaderOps(remove=(b"Server",)),
        host=HOST_OF_ENDPOINT,
        timeouts=Timeouts(connect_s=1.0),
        retry=RetryPolicy(1),
        body_bytes_max=0,
        upgrades=frozenset((b"websocket", b"x")),
    )


@pytest.mark.parametrize(
    ("match", "kind", "paths"),
    [
        ({"path": "/a"}, PathKind.EXACT, (b"/a",)),
        ({"path_prefix": "/a"}, PathKind.PREFIX, (b"/a",)),
        ({"path_regex": "^/a"}, PathKind.REGEX, (b"^/a",)),
        ({}, PathKind.ANY, ()),
    ],
)
def test_ways_to_compare_paths(
    match: dict[str, str], kind: PathKind, paths: tuple[bytes, ...]
) -> None:
    compiled = route(match=match).match
    assert (compiled.path_kind, compiled.paths) == (kind, paths)


@pytest.mark.parametrize(
    ("host", "compiled"), [("preserve", None), ("endpoint", HOST_OF_ENDPOINT), ("a:1", b"a:1")]
)
def test_the_host_that_the_pool_sees(host: str, compiled: bytes | None) -> None:
    assert route(host=host).host == compiled


def test_answers_of_a_route_s_own() -> None:
    routes = snapshot(
        routes=[
            {"pool": "app"},
            {"respond": {"status": 418, "body": "é", "headers": {"A": "1", "B": "2"}}},
            {"respond": {"content_type": "text/html"}},
            {"redirect": {"location": "/{host}", "status": 302}},
        ]
    ).table.routes
    assert routes[1].action == Respond(418, "é".encode(), block=b"A: 1\r\nB: 2\r\n")
    assert routes[2].action == Respond(200, content_type=b"text/html")
    assert routes[3].action == Redirect(302, b"/{host}")


def test_a_route_inherits_the_timeouts_it_does_not_set() -> None:
    tree = {
        "timeouts": {
            "connect": 1,
            "idle": 2,
            "send": 3,
            "queue": 4,
            "response": 5,
            "tunnel_idle": 6,
        },
        "routes": [{"pool": "app", "timeouts": {"idle": 9}}],
    }
    compiled = snapshot(**tree)
    assert compiled.timeouts == Timeouts(4.0, 1.0, 5.0, 2.0, 3.0, 6.0)
    assert compiled.table.routes[0].timeouts == Timeouts(4.0, 1.0, 5.0, 9.0, 3.0, 6.0)


def test_a_connection_may_bring_what_any_route_allows() -> None:
    routes = [{"pool": "app", "body_bytes_max": 9000}, {"pool": "app"}]
    compiled = snapshot(limits={"body_bytes_max": 5, "replay_bytes_max": 3}, routes=routes)
    assert compiled.limits.body_bytes_max == 9000
    assert [each.body_bytes_max for each in compiled.table.routes] == [9000, 5]
    assert {each.replay_bytes_max for each in compiled.table.routes} == {3}


def test_what_upstreams_are_told() -> None:
    compiled = snapshot(
        trusted_proxies=["10.0.0.0/8", "unix", "::1"],
        forwarded={
            "believe": "rfc7239",
            "x_forwarded": False,
            "rfc7239": True,
            "via": "",
            "request_id_header": "X-Id",
        },
    )
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))
    assert compiled.policy == ForwardPolicy(
        x_forwarded=False,
        forwarded=True,
        via=b"",
        request_id_header=b"X-Id",
        trusted=networks,
        trusts_unix=True,
        believe=Family.RFC7239,
    )
    assert snapshot(trusted_proxies="unix").policy == ForwardPolicy(trusts_unix=True)
    assert not snapshot(trusted_proxies="::1").policy.trusts_unix


def test_the_house_answers_where_the_listener_says_so() -> None:
    table = snapshot(
        listeners=[
            {"name": "public", "address": ":1", "health": True},
            {"name": "inside", "address": ":2", "metrics": True, "health": True},
            {"name": "plain", "address": ":3"},
        ]
    ).table

    def served(path: bytes, listener: str) -> bool:
        found = table.find(asked(path), listener)
        return found is not None and isinstance(found.action, Serve)

    for path in (b"/health", b"/health/live", b"/health/ready"):
        assert served(path, "public")
        assert served(path, "inside")
        assert not served(path, "plain")
    assert served(b"/metrics", "inside")
    assert not served(b"/metrics", "public")
    assert not served(b"/health/other", "public")


def test_a_contradiction_is_an_error_and_never_a_snapshot() -> None:
    broken = Config(Static(), Dynamic())
    with pytest.raises(ConfigError, match="listeners: there is none") as caught:
        compile_snapshot(broken, 1)
    assert caught.value.problems.items[0].path == "listeners"


def test_chats_are_answered_where_the_listener_says_so() -> None:
    compiled = snapshot(
        listeners=[
            {"name": "public", "address": ":1", "chat": True},
            {"name": "plain", "address": ":2"},
        ],
        limits={"chat_body_bytes_max": 5},
        timeouts={"idle": 7},
    )

    def found(path: bytes, listener: str = "public") -> Any:
        taken = compiled.table.find(asked(path), listener)
        assert taken is not None
        return taken

    for path, action in (
        (b"/v1/chat/completions", Chat("openai")),
        (b"/api/v1/chat/completions", Chat("loom")),
        (b"/api/v1/chat/completions/stream", Chat("loom", streams=True)),
    ):
        taken = found(path)
        assert (taken.action, taken.body_bytes_max, taken.timeouts.idle_s) == (action, 5, 7.0)
        assert isinstance(found(path, "plain").action, ToPool)
    for path in (b"/v1/models", b"/v1/models/a/b"):
        assert found(path).action == Models(b"/v1/models")
        assert isinstance(found(path, "plain").action, ToPool)
    assert isinstance(found(b"/v1/modelsy").action, ToPool)


def test_providers_have_pools_and_a_catalogue() -> None:
    endpoints = (EndpointSpec(Address(path="/run/a"), secrets=((b"a", b"b"),)),)
    acme = Provider("acme", endpoints, models=(Model("m"),))
    compiled = compile_snapshot(config(), 7, (acme,))
    assert compiled.providers == {"acme": acme}
    pool = compiled.pools["plugin:acme"]
    assert (pool.endpoints, pool.follows) == (endpoints, True)
    assert compiled.catalogue.find("m") == Target(acme, "m")


@pytest.mark.parametrize("order", [1, -1])
def test_two_generations_at_one_address_are_one_endpoint(order: int) -> None:
    old = EndpointSpec(Address("api.example", 80), enabled=False)
    new = EndpointSpec(Address("api.example", 80), secrets=((b"a", b"b"),))
    other = EndpointSpec(Address(path="/run/a"))
    acme = Provider("acme", (*(old, new)[::order], other))
    compiled = compile_snapshot(config(), 7, (acme,))
    assert compiled.pools["plugin:acme"].endpoints == (new, other)

"""What a random world is made of: snapshots, heads as the wire reads them, and how much trouble."""

import functools
from random import Random
from typing import Any, Final

from loomproxy.core.endpoint import Address, EjectionPolicy, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.hygiene import ForwardPolicy, HeaderOps, Peer
from loomproxy.core.message import RequestHead, ResponseHead
from loomproxy.core.pool import Balance, PoolSpec
from loomproxy.core.route import (
    HOST_OF_ENDPOINT,
    Action,
    Match,
    PathKind,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    RouteTable,
    Serve,
    Timeouts,
    ToPool,
)
from loomproxy.core.snapshot import Snapshot

LIMITS: Final = Limits()
PEER: Final = Peer(ip=b"192.0.2.7", port=40000, trusted=False, local_port=80, listener="public")
TIMEOUTS: Final = Timeouts(
    queue_s=5.0,
    connect_s=3.0,
    response_s=20.0,
    idle_s=10.0,
    send_s=7.0,
    tunnel_idle_s=30.0,
    service_s=4.0,
    body_bytes_min_per_s=20,
    send_bytes_min_per_s=100,
)
PHASE_MAX_S: Final = {
    "R": 0.0,
    "P": TIMEOUTS.service_s,
    "Q": TIMEOUTS.queue_s,
    "C": TIMEOUTS.connect_s,
    "H": TIMEOUTS.response_s,
    "D": TIMEOUTS.idle_s,
    "L": TIMEOUTS.send_s,
    "T": TIMEOUTS.tunnel_idle_s,
}
"""The longest that nothing may happen in each phase."""

FAMILIES: Final = 24
"""How many families of snapshots there are; a world stays in one."""


def _route(path: str, action: Action, **more: Any) -> Route:
    match = Match(path_kind=PathKind.EXACT, paths=(path.encode(),))
    return Route(name=path, match=match, action=action, timeouts=TIMEOUTS, **more)


ROUTES: Final = (
    _route("/a", ToPool("a")),
    _route("/b", ToPool("b"), replay_bytes_max=40, host=HOST_OF_ENDPOINT),
    _route("/tight", ToPool("a"), replay_bytes_max=0, body_bytes_max=100),
    _route("/once", ToPool("b"), retry=RetryPolicy(attempts_max=1), replay_bytes_max=10),
    _route("/ops", ToPool("a"), response_ops=HeaderOps(add=((b"X-A", b"{request_id}"),))),
    _route("/fixed", Respond(200, b"fixed\n")),
    _route("/empty", Respond(204, b"not sent")),
    _route("/moved", Redirect(308, b"https://{host}{path}")),
    _route("/house", Serve()),
)
POLICY: Final = ForwardPolicy()
TABLE: Final = RouteTable.build(ROUTES)
ROUTE_BY_NAME: Final = {route.name: route for route in ROUTES}


@functools.cache
def snapshot(family: int, revision: int) -> Snapshot:
    """One revision of a family. Those of a family differ in endpoints, slots and queues."""
    dice = Random(family * 1000 + revision)
    pools = {name: _pool(dice, name, family) for name in ("a", "b")}
    return Snapshot(
        revision=revision,
        table=TABLE,
        pools=pools,
        policy=POLICY,
        limits=LIMITS,
        timeouts=TIMEOUTS,
    )


STEADY: Final = tuple(range(0, FAMILIES, 3))
"""Families in which nothing ever ejects an endpoint: slots become free by being given back."""


def _pool(dice: Random, name: str, family: int) -> PoolSpec:
    hosts = dice.sample(["1", "2", "3"], dice.choice((1, 1, 2, 3)))
    return PoolSpec(
        name,
        tuple(
            EndpointSpec(
                Address(f"{name}{host}", 80),
                weight=dice.choice((1, 1, 3)),
                enabled=dice.random() < 0.93,
            )
            for host in hosts
        ),
        balance=dice.choice(list(Balance)),
        ejection=EjectionPolicy(
            failures=0 if family in STEADY else dice.choice((1, 2)), time_s=2.0
        ),
        in_flight_max=dice.choice((1, 1, 2, 4)),
        queue_max=dice.choice((0, 1, 2, 4)),
        retry_budget_ratio=1.0,
        retries_min_per_s=dice.choice((0.1, 1.0)),
    )


@functools.lru_cache(maxsize=4096)
def request_head(raw: bytes) -> RequestHead:
    """The head that our own wire reads from `raw`."""
    wire = RequestWire(LIMITS)
    wire.receive(raw)
    head = wire.poll()
    assert isinstance(head, RequestHead), (raw, head)
    return head


@functools.lru_cache(maxsize=4096)
def response_head(raw: bytes, method: bytes) -> ResponseHead:
    """The head that our own wire reads from `raw` as the answer to `method`."""
    wire = ResponseWire(LIMITS)
    wire.expect(method)
    wire.receive(raw)
    head = wire.poll()
    assert isinstance(head, ResponseHead), (raw, head)
    return head


class Troubles:
    """How likely things go wrong in one world, each per occasion."""

    __slots__ = (
        "client_breaks",
        "client_fin",
        "client_full",
        "client_leaves",
        "drain",
        "early",
        "jump",
        "open_fails",
        "probe",
        "publish",
        "race",
        "reused",
        "service_slow",
        "upstream_dies",
        "upstream_full",
        "upstream_malformed",
    )

    def __init__(self, dice: Random, *, quiet: bool, steady: bool) -> None:
        def often(most: float) -> float:
            return 0.0 if quiet or dice.random() < 0.3 else dice.random() * most

        self.client_leaves = often(0.08)
        self.client_breaks = often(0.08)
        self.client_fin = often(0.08)
        self.client_full = often(0.6)
        self.upstream_full = often(0.6)
        self.open_fails = often(0.6)
        self.upstream_dies = often(0.3)
        self.upstream_malformed = often(0.1)
        self.early = often(0.5)
        self.race = often(0.5)
        self.reused = 0.5 if quiet else dice.random()
        self.service_slow = often(0.9)
        self.jump = often(0.1)
        self.publish = 0.0 if steady else often(0.06)
        self.probe = 0.0 if steady else often(0.06)
        self.drain = often(0.08)


__all__ = ["PEER", "Troubles", "request_head", "response_head", "snapshot"]

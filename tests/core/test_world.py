"""The world of one worker: what a publication keeps, and what it lets go."""

from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import RouteTable, Timeouts
from loomproxy.core.snapshot import Snapshot
from loomproxy.core.units import Instant
from loomproxy.core.world import World


def snapshot(revision: int, **pools: tuple[str, ...]) -> Snapshot:
    return Snapshot(
        revision=revision,
        table=RouteTable.build(()),
        pools={
            name: PoolSpec(name, tuple(EndpointSpec(Address(host, 80)) for host in hosts))
            for name, hosts in pools.items()
        },
        policy=ForwardPolicy(),
        limits=Limits(),
        timeouts=Timeouts(),
    )


def names(endpoints: object) -> list[str]:
    return [endpoint.spec.address.host for endpoint in endpoints]


def test_a_world_begins_with_the_pools_of_its_snapshot() -> None:
    first = snapshot(1, web=("a", "b"), api=())
    world = World(first)
    assert world.snapshot is first
    assert names(world.pools["web"].endpoints) == ["a", "b"]
    assert names(world.pools["api"].endpoints) == []
    assert not world.draining


def test_what_is_in_flight_survives_a_publication() -> None:
    world = World(snapshot(1, web=("a", "b")))
    before = world.pools["web"]
    chosen = before.choose(Instant(1.0))
    assert chosen is not None
    second = snapshot(2, web=("b", "a"))
    assert world.publish(second) == []
    assert world.snapshot is second
    after = world.pools["web"]
    assert after is not before
    assert set(after.endpoints) == set(before.endpoints)
    assert chosen.in_flight == 1
    before.give_back(chosen)
    assert sum(endpoint.in_flight for endpoint in after.endpoints) == 0


def test_endpoints_that_no_pool_keeps_are_told() -> None:
    world = World(snapshot(1, web=("a", "b"), old=("c",)))
    assert names(world.publish(snapshot(2, web=("b", "d"), new=("c",)))) == ["a", "c"]
    assert names(world.pools["web"].endpoints) == ["b", "d"]
    assert set(world.pools) == {"web", "new"}

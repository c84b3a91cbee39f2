"""Idle connections: the youngest first, bounded, and forgotten when they are gone."""

from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec, KeepaliveSpec
from loomproxy.core.units import NEVER, Instant
from loomproxy.core.wheel import Wheel
from loomproxy.worker.keepalive import Keepalive
from loomproxy.worker.ports import Waiting

HERE = Endpoint(EndpointSpec(Address("10.0.0.1", 80)), EjectionPolicy())
THERE = Endpoint(EndpointSpec(Address("10.0.0.2", 80)), EjectionPolicy())
NOW = Instant(100.0)


class Kept:
    """An idle connection."""

    def __init__(self, keepalive: "Keepalive[Kept]", endpoint: Endpoint = HERE) -> None:
        self.endpoint = endpoint
        self.exchanges = 1
        self.deadline_at = NEVER
        self.scheduled_at = NEVER
        self.closed = 0
        self._keepalive = keepalive

    def expire(self) -> None:
        self._keepalive.remove(self)
        self.close()

    def close(self) -> None:
        self.closed += 1


def stage() -> tuple["Keepalive[Kept]", Wheel[Waiting]]:
    wheel: Wheel[Waiting] = Wheel()
    return Keepalive(wheel), wheel


def test_youngest_is_taken_first_so_that_others_can_grow_old() -> None:
    keepalive, _ = stage()
    kept = [Kept(keepalive) for _ in range(3)]
    for each in kept:
        assert keepalive.put(each, KeepaliveSpec(), NOW)
    assert keepalive.count(HERE) == 3
    assert [keepalive.take(HERE) for _ in range(4)] == [kept[2], kept[1], kept[0], None]
    assert keepalive.take(THERE) is None


def test_bounds_of_the_pool_hold() -> None:
    keepalive, wheel = stage()
    spec = KeepaliveSpec(idle_max=2, requests_max=3)
    tired = Kept(keepalive)
    tired.exchanges = 3
    assert not keepalive.put(tired, spec, NOW)
    assert [keepalive.put(Kept(keepalive), spec, NOW) for _ in range(3)] == [True, True, False]
    assert keepalive.put(Kept(keepalive, THERE), spec, NOW)
    assert not keepalive.put(Kept(keepalive), KeepaliveSpec(idle_max=0), NOW)
    assert len(wheel) == 3


def test_idle_ones_expire_through_the_wheel() -> None:
    keepalive, wheel = stage()
    old, taken = Kept(keepalive), Kept(keepalive)
    spec = KeepaliveSpec(idle_timeout_s=4.0)
    keepalive.put(old, spec, NOW)
    keepalive.put(taken, spec, Instant(NOW + 1))
    assert keepalive.take(HERE) is taken
    taken.deadline_at = NEVER  # as whoever takes it does
    assert wheel.expired(Instant(NOW + 3.9)) == []
    due = wheel.expired(Instant(NOW + 10))
    assert due == [old]
    due[0].expire()
    assert (old.closed, taken.closed) == (1, 0)
    assert keepalive.count(HERE) == 0
    assert len(wheel) == 0


def test_closed_connection_is_forgotten_everywhere() -> None:
    keepalive, wheel = stage()
    gone, other = Kept(keepalive), Kept(keepalive)
    keepalive.put(gone, KeepaliveSpec(), NOW)
    keepalive.put(other, KeepaliveSpec(), NOW)
    keepalive.lost(gone)
    keepalive.lost(Kept(keepalive))  # one that was never idle
    assert keepalive.take(HERE) is other
    assert keepalive.take(HERE) is None
    assert len(wheel) == 1


def test_removed_endpoints_lose_their_connections_and_only_those() -> None:
    keepalive, wheel = stage()
    here, there = Kept(keepalive), Kept(keepalive, THERE)
    keepalive.put(here, KeepaliveSpec(), NOW)
    keepalive.put(there, KeepaliveSpec(), NOW)
    keepalive.close([HERE])
    assert (here.closed, there.closed) == (1, 0)
    keepalive.lost(here)
    assert keepalive.take(HERE) is None
    keepalive.close()
    assert (here.closed, there.closed) == (1, 1)
    keepalive.lost(there)
    assert len(wheel) == 0
    assert keepalive._idle == {}

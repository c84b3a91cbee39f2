"""Exchanges, endpoints and reloads in any order: no slot and no waiter gets lost."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.pool import Pool, Ticket
from loomproxy.core.units import Instant
from tests.core.test_pool import spec


class Slots(RuleBasedStateMachine):
    """Exchanges that come, wait, leave and finish, while endpoints fail and pools are reloaded."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.limit = 2
        self.limit_most = 2
        self.pool = Pool(spec(1, 2, in_flight_max=2, queue_max=3), None)
        self.held: list[tuple[Pool, Endpoint]] = []
        self.tickets: dict[Ticket, None] = {}  # queued
        self.woken: dict[Ticket, None] = {}  # told, not yet come
        self.told: Counter[Ticket] = Counter()
        self.returned: set[Ticket] = set()  # who kept a place: not counted twice

    def tell(self, ticket: Ticket | None) -> None:
        if ticket is None:
            return
        assert ticket in self.tickets, "woken without waiting, or twice"
        del self.tickets[ticket]
        self.woken[ticket] = None
        self.told[ticket] += 1
        assert self.told[ticket] == 1

    def come(self, pool: Pool, woken: Ticket | None = None) -> None:
        endpoint = pool.choose(Instant(self.now), [e for _, e in self.held[:1]])
        if endpoint is not None:
            assert endpoint in pool.members
            self.held.append((pool, endpoint))
            return
        if woken is not None:
            pool.wait_again(woken)
            self.tickets = {woken: None, **self.tickets}
            self.returned.add(woken)
            self.told[woken] = 0
            return
        ticket = pool.wait("x", 1) if pool.usable() else None
        if ticket is not None:
            self.tickets[ticket] = None

    @rule()
    def arrive(self) -> None:
        self.come(self.pool)

    @rule(index=st.integers(0, 9))
    def finish(self, index: int) -> None:
        if self.held:
            pool, endpoint = self.held.pop(index % len(self.held))
            self.tell(pool.give_back(endpoint))

    @rule(index=st.integers(0, 9))
    def come_after_being_woken(self, index: int) -> None:
        if self.woken:
            ticket = list(self.woken)[index % len(self.woken)]
            del self.woken[ticket]
            self.come(ticket.pool, ticket)

    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        everybody = [*self.tickets, *self.woken]
        if everybody:
            ticket = everybody[index % len(everybody)]
            was_woken = ticket in self.woken
            next_one = ticket.pool.cancel(ticket)
            assert was_woken or next_one is None
            self.tickets.pop(ticket, None)
            self.woken.pop(ticket, None)
            self.tell(next_one)

    @rule(index=st.integers(0, 9))
    def fail(self, index: int) -> None:
        each = self.pool.endpoints[index % len(self.pool.endpoints)]
        each.observe(faults.CONNECT_TIMEOUT, Instant(self.now))

    @rule(wait_s=st.floats(0.0, 10.0))
    def tick(self, wait_s: float) -> None:
        self.now += wait_s
        now = Instant(self.now)
        for ticket in self.pool.wake(now):
            self.tell(ticket)
        while self.woken:
            self.come_after_being_woken(0)
        stuck = [ticket for ticket in self.tickets if ticket.pool is self.pool]
        if stuck and not self.woken:
            assert self.pool.choose(now) is None, "a slot is free and somebody waits"

    @rule(
        weights=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        limit=st.integers(1, 3),
        disabled=st.sets(st.integers(0, 2)),
    )
    def reload(self, weights: list[int], limit: int, disabled: set[int]) -> None:
        self.limit_most = max(self.limit_most, limit)
        changed = spec(*weights, in_flight_max=limit, queue_max=3, disabled=tuple(disabled))
        self.pool = Pool(changed, self.pool)

    @invariant()
    def slots_are_counted(self) -> None:
        endpoints = {endpoint for _, endpoint in self.held} | set(self.pool.endpoints)
        for endpoint in endpoints:
            mine = sum(each is endpoint for _, each in self.held)
            assert endpoint.in_flight == mine
            assert 0 <= endpoint.in_flight <= self.limit_most

    @invariant()
    def queue_is_bounded_and_holds_who_waits(self) -> None:
        assert list(self.pool.queue) == list(self.tickets)
        assert len(self.tickets.keys() - self.returned) <= 3


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=80, stateful_step_count=40)

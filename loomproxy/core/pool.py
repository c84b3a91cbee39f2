"""Which endpoint takes the next attempt, and who waits when none is free.

A pool hands out *slots*: an endpoint may have `in_flight_max` attempts in flight from this worker,
and who finds no slot may wait in a queue of `queue_max`. `choose` takes a slot, `give_back` returns
it and names the waiter to wake. Waking is an invitation, not a gift: the waiter calls `choose`
again and may find that somebody was faster; then it waits again, at the head of the queue.

Which endpoints are wanted, best first:

1. available ones (enabled, healthy, not ejected) that this exchange has not tried yet;
2. available ones, tried or not;
3. if no endpoint at all is available: every enabled one (*panic*). When everything looks broken,
   the measurement may be what is broken, and refusing everybody cannot make it better.

Balancing among the wanted, by weight:

* ROUND_ROBIN is nginx's smooth one: each candidate earns its weight in credit, the richest is
  taken and pays what all earned. Weights 5, 1, 1 give a a b a c a a, not five in a row first.
* LEAST_IN_FLIGHT takes the fewest in flight per weight, and the smooth round robin among equals,
  so that a quiet pool does not send everything to its first endpoint.

A reload makes a new pool from the old one. Endpoints that are reached as before are carried over,
and so are the queue and the retry budget: an exchange keeps the pool it was born with, yet slots
are counted on the endpoint, and a slot that either pool gets back goes to the first waiter of both
that can use it. Where the new pool *follows*, those that wait go along to its endpoints: the old
ones are about to stop.
"""

import enum
from collections import OrderedDict
from collections.abc import Collection

import msgspec

from loomproxy.core.endpoint import (
    TLS_OF_SYSTEM,
    Address,
    EjectionPolicy,
    Endpoint,
    EndpointSpec,
    KeepaliveSpec,
    TlsSpec,
)
from loomproxy.core.retry import RetryBudget
from loomproxy.core.units import Instant


class Balance(enum.Enum):
    """How a pool chooses among the endpoints that could take an attempt."""

    ROUND_ROBIN = "round_robin"
    LEAST_IN_FLIGHT = "least_in_flight"


class ProbeSpec(msgspec.Struct, frozen=True):
    """How endpoints are asked whether they are well."""

    path: bytes = b"/"
    interval_s: float = 5.0
    timeout_s: float = 2.0
    rise: int = 2  # good answers in a row that make an endpoint healthy
    fall: int = 3  # bad ones in a row that make it unhealthy
    status_min: int = 200  # the range of good answers, both ends included
    status_max: int = 399
    host: bytes = b""  # for the Host field; b"": the endpoint's authority


class PoolSpec(msgspec.Struct, frozen=True):
    """What the configuration says of a pool."""

    name: str
    endpoints: tuple[EndpointSpec, ...]  # no two with the same address
    balance: Balance = Balance.ROUND_ROBIN
    ejection: EjectionPolicy = EjectionPolicy()
    in_flight_max: int = 1024  # per endpoint and worker; beyond it exchanges wait
    queue_max: int = 1024  # exchanges that wait, per worker; beyond it they are refused
    keepalive: KeepaliveSpec = KeepaliveSpec()
    probe: ProbeSpec | None = None
    retry_budget_ratio: float = 0.2  # of recent requests
    retries_min_per_s: float = 3.0  # always allowed
    follows: bool = False  # who waits goes to the endpoints of the next revision
    tls: TlsSpec = TLS_OF_SYSTEM  # of those endpoints whose address says so


class Ticket:
    """A place in the queue. `owner` and `ask` are the caller's and mean nothing here."""

    __slots__ = ("ask", "freed", "owner", "pool")

    def __init__(self, pool: "Pool", owner: object, ask: int) -> None:
        self.pool = pool
        self.owner = owner
        self.ask = ask
        self.freed: Endpoint | None = None  # set when it was woken: whose slot it was told of


class Pool:
    """A named set of endpoints serving one purpose, as one worker sees it."""

    __slots__ = (
        "_enabled",
        "_in_flight_max",
        "_least",
        "budget",
        "endpoints",
        "members",
        "queue",
        "spec",
    )

    def __init__(self, spec: PoolSpec, previous: "Pool | None") -> None:
        self.spec = spec
        self.endpoints: tuple[Endpoint, ...] = _carried_over(spec, previous)
        self.members = frozenset(self.endpoints)
        assert len(self.members) == len(self.endpoints), "two endpoints of a pool with one address"
        self._enabled = [endpoint for endpoint in self.endpoints if endpoint.spec.enabled]
        self._in_flight_max = spec.in_flight_max
        self._least = spec.balance is Balance.LEAST_IN_FLIGHT
        # Shared with the pools before and after this one; in the order of waiting.
        self.queue: OrderedDict[Ticket, None] = (
            OrderedDict() if previous is None else previous.queue
        )
        self.budget: RetryBudget = RetryBudget() if previous is None else previous.budget
        self.budget.ratio = spec.retry_budget_ratio
        self.budget.min_per_s = spec.retries_min_per_s
        if spec.follows:
            for ticket in self.queue:
                ticket.pool = self

    def choose(self, now: Instant, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Take a slot for an attempt, elsewhere than at `tried` if that is possible.

        None: there is no free slot now; ask `usable`, then `wait`. A slot that was taken must be
        given back exactly once.
        """
        in_flight_max = self._in_flight_max
        free: list[Endpoint] = []
        for endpoint in self._enabled:
            if (
                endpoint.healthy
                and endpoint.ejected_until <= now
                and endpoint.in_flight < in_flight_max
            ):
                free.append(endpoint)  # noqa: PERF401 - a comprehension is a call, and most are short
        if tried or not free:
            free = self._free_at_last(free, tried, now)
            if not free:
                return None
        chosen = free[0]
        if len(free) > 1:
            chosen = _richest(_least_busy(free) if self._least else free)
        chosen.in_flight += 1
        chosen.attempts += 1
        return chosen

    def _free_at_last(
        self, free: list[Endpoint], tried: Collection[Endpoint], now: Instant
    ) -> list[Endpoint]:
        """Those of `free`, or in a panic of all, that were not tried; else those that were."""
        free = free or self._free_in_panic(now)
        return [endpoint for endpoint in free if endpoint not in tried] or free

    def _free_in_panic(self, now: Instant) -> list[Endpoint]:
        if any(endpoint.available(now) for endpoint in self._enabled):
            return []  # There are good endpoints, and they are busy: wait for them.
        return [endpoint for endpoint in self._enabled if endpoint.in_flight < self._in_flight_max]

    def usable(self) -> bool:
        """Whether waiting makes sense: some endpoint is enabled."""
        return bool(self._enabled)

    @property
    def waiting(self) -> int:
        """How many exchanges wait, those of the pools before and after this one included."""
        return len(self.queue)

    def wait(self, owner: object, ask: int) -> Ticket | None:
        """Wait at the end of the queue. None: the queue is full.

        After this call the ticket is returned by one of `give_back`, `cancel` and `wake`, exactly
        once, unless its owner cancels it first. A returned one may `wait_again`.
        """
        if len(self.queue) >= self.spec.queue_max:
            return None
        ticket = Ticket(self, owner, ask)
        self.queue[ticket] = None
        return ticket

    def wait_again(self, ticket: Ticket) -> None:
        """Wait at the head of the queue: `ticket` was woken, but somebody faster took its slot.

        It only goes back to its place, so it does not count against `queue_max` a second time.
        """
        assert ticket.freed is not None, "a ticket that nobody woke"
        ticket.freed = None
        ticket.pool = self
        self.queue[ticket] = None
        self.queue.move_to_end(ticket, last=False)

    def cancel(self, ticket: Ticket) -> Ticket | None:
        """The owner of `ticket` waits no more; return the waiter to wake instead of it, if any.

        That is one only when `ticket` was woken already and its owner never came to `choose`.
        """
        if ticket.freed is None:
            del self.queue[ticket]
            return None
        freed, ticket.freed = ticket.freed, None
        return self._first_waiter(freed)

    def give_back(self, endpoint: Endpoint) -> Ticket | None:
        """Return a slot of `endpoint`; return the waiter to wake, if any."""
        assert endpoint.in_flight > 0, "a slot was given back that nobody took"
        endpoint.in_flight -= 1
        return self._first_waiter(endpoint) if self.queue else None

    def wake(self, now: Instant) -> list[Ticket]:
        """Waiters to wake because slots became free that nobody gave back, one for each slot.

        That happens when an ejection ends, a probe finds an endpoint healthy again, or a reload
        adds endpoints: call this at each tick. It costs nothing while nobody waits.
        """
        if not self.queue:
            return []
        woken: list[Ticket] = []
        for endpoint in self._wanted(now):
            for _ in range(self._in_flight_max - endpoint.in_flight):
                ticket = self._first_waiter(endpoint)
                if ticket is None:
                    break
                woken.append(ticket)
        return woken

    def _wanted(self, now: Instant) -> list[Endpoint]:
        return [each for each in self._enabled if each.available(now)] or self._enabled

    def _first_waiter(self, endpoint: Endpoint) -> Ticket | None:
        """Take the first waiter out of the queue that can use a slot of `endpoint`."""
        for ticket in self.queue:
            if endpoint in ticket.pool.members:
                del self.queue[ticket]
                ticket.freed = endpoint
                return ticket
        return None


def _carried_over(spec: PoolSpec, previous: Pool | None) -> tuple[Endpoint, ...]:
    """The endpoints of `spec`: those of `previous` that are reached the same way, else new ones.

    A connection to one that proved itself in another way must not be used again.
    """
    known: dict[tuple[Address, TlsSpec | None], Endpoint] = {}
    if previous is not None:
        known = {(each.spec.address, each.tls): each for each in previous.endpoints}
    weights_kept = previous is not None and _weights(previous.spec) == _weights(spec)
    endpoints: list[Endpoint] = []
    for wanted in spec.endpoints:
        new = Endpoint(wanted, spec.ejection, spec.tls)
        endpoint = known.setdefault((wanted.address, new.tls), new)
        endpoint.spec = wanted
        endpoint.policy = spec.ejection
        endpoint.keepalive = spec.keepalive
        if not weights_kept:
            endpoint.credit = 0  # Earned by other weights: it could buy hundreds of turns now.
        if spec.probe is None:
            endpoint.unprobed()
        endpoints.append(endpoint)
    return tuple(endpoints)


def _weights(spec: PoolSpec) -> list[tuple[str, int]]:
    return sorted((str(each.address), each.weight) for each in spec.endpoints)


def _richest(candidates: list[Endpoint]) -> Endpoint:
    """The smooth weighted round robin of nginx: everybody earns, the richest is taken and pays."""
    chosen = candidates[0]
    total = 0
    for candidate in candidates:
        weight = candidate.spec.weight
        candidate.credit += weight
        total += weight
        if candidate.credit > chosen.credit:
            chosen = candidate
    chosen.credit -= total
    return chosen


def _least_busy(candidates: list[Endpoint]) -> list[Endpoint]:
    """Those with the fewest in flight per weight; compared as fractions, without dividing."""
    best = [candidates[0]]
    for candidate in candidates[1:]:
        mine = candidate.in_flight * best[0].spec.weight
        theirs = best[0].in_flight * candidate.spec.weight
        if mine < theirs:
            best = [candidate]
        elif mine == theirs:
            best.append(candidate)
    return best

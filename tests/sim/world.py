"""One random world: several exchanges, one clock, real pools; and what it was when a rule broke.

    python -m tests.sim --worlds 100000 --seed 7

runs more of them than the tests do.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from loomproxy.core import event as e
from loomproxy.core.pool import Pool, Ticket
from loomproxy.core.units import NEVER, Instant
from loomproxy.core.world import World
from tests.playbook import shown
from tests.sim import checkers
from tests.sim.actor import Actor
from tests.sim.settings import FAMILIES, STEADY, Troubles, snapshot

STEPS_MAX: Final = 2000
"""A world of at most eight exchanges that takes longer makes no progress."""

REVISIONS: Final = 3
TRACE_SHOWN: Final = 80
H11_EVERY: Final = 8
"""Every so many worlds h11 reads what went up and down, too: it is slower than all the rest."""

WORST: Final = (
    "client_leaves",
    "client_breaks",
    "client_fin",
    "upstream_dies",
    "upstream_malformed",
    "deadline",
    "probe",
    "publish",
    "drain",
)
"""What can be put in the place of an event, for the worst."""


class Broken(AssertionError):
    """A rule was broken; says in which world, and what had happened there."""


CLIENT_SLOW: Final = 0.4
"""How often a client that has not taken all when its time is up has taken some."""


class Sim:
    """One world."""

    def __init__(
        self,
        seed: int,
        *,
        quiet: bool = False,
        worst: tuple[int, str] | None = None,
        rows: set[tuple[str, type]] | None = None,
    ) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.slowness = Random(seed)  # Dice of its own: what was thrown before stays as it was.
        self.quiet = quiet
        self.worst = worst
        self.steady = self.dice.random() < 0.4
        self.crowded = not quiet and self.dice.random() < 0.3  # all at once want the same slots
        # Where everybody goes; "": to different places.
        places = ("/a", "/b") if self.crowded else ("/house", *[""] * 9)
        self.favourite = self.dice.choice(places)
        self.troubles = Troubles(self.dice, quiet=quiet, steady=self.steady)
        self.family = self.dice.choice(STEADY) if self.steady else self.dice.randrange(FAMILIES)
        if worst is not None and worst[1] in {"probe", "publish"}:
            self.steady = False  # What they take away is not given back.
        self.world = World(snapshot(self.family, 0))
        self.pools: list[Pool] = list(self.world.pools.values())
        self.now = Instant(1000.0)
        self.actors: list[Actor] = []
        self.running: list[Actor] = []
        self.to_come = 2 if quiet else self.dice.choice((5, 8) if self.crowded else (1, 1, 2, 3, 4))
        self.calls: list[Ticket] = []
        self.rows = set() if rows is None else rows
        self.trace: list[tuple[Instant, int, Any, list[Any]]] = []
        self.events = 0
        self.steps = 0
        self.with_h11 = seed % H11_EVERY == 0

    def run(self) -> "Sim":
        """Let it happen, until all is over. Raises Broken."""
        try:
            while self.to_come or self.running:
                self._step()
                self.steps += 1
                assert self.steps < STEPS_MAX, "no progress"
            self._end()
        except Exception as error:
            raise Broken(self._story(error)) from error
        return self

    def call(self, ticket: Ticket) -> None:
        """A waiter is to be told that a slot is free; it may take a while to hear of it."""
        assert not any(each is ticket for each in self.calls), "one ticket woken twice"
        ticket.owner.hands.actor.called = True
        self.calls.append(ticket)

    # --- what happens -----------------------------------------------------------------------------

    def _step(self) -> None:
        dice = self.dice
        if self.worst is not None and self.worst[0] == self.steps:
            self._do_worst(self.worst[1])
        elif self.to_come and (not self.running or dice.random() < (0.8 if self.crowded else 0.3)):
            self._begin()
        elif self.calls and dice.random() < 0.5:
            self._deliver(self.calls.pop(0))
        elif not self._happens_to_all():
            self._act(dice.choice(self.running))
        self._check()

    def _begin(self) -> None:
        self.to_come -= 1
        actor = Actor(self, len(self.actors))
        self.actors.append(actor)
        self.running.append(actor)
        actor.begin()

    def _act(self, actor: Actor) -> None:
        self.now = Instant(self.now + self.dice.random() * 0.05)
        options = actor.options()
        if options:
            self.dice.choice(options)()
        elif self.calls:
            self._deliver(self.calls.pop(0))
        elif not any(each.options() for each in self.running):
            self._jump(min(each.deadline_at for each in self.running))

    def _happens_to_all(self) -> bool:
        """Something that is nobody's in particular: time, configuration, probes, drain."""
        chance, troubles = self.dice.random(), self.troubles
        if chance < troubles.jump:
            self._jump(self.dice.choice(self.running).deadline_at)
        elif chance < troubles.jump + troubles.publish:
            self._publish()
        elif chance < troubles.jump + troubles.publish + troubles.probe:
            self._probe()
        elif chance < troubles.jump + troubles.publish + troubles.probe + troubles.drain:
            self._drain()
        elif chance > 0.97:
            self._jump(self.now)
        else:
            return False
        return True

    def _deliver(self, ticket: Ticket) -> None:
        actor: Actor = ticket.owner.hands.actor
        actor.called = any(each.owner is ticket.owner for each in self.calls)
        if actor.fate is None:
            actor.tell(e.SlotFreed(ticket.ask))
        else:
            assert ticket.freed is None, "a slot was offered to nobody"

    def _jump(self, to: Instant) -> None:
        """Time passes, deadlines with it; then the tick looks for slots that became free."""
        assert to != NEVER, "somebody waits for nothing"
        self.now = max(self.now, to)
        for actor in list(self.running):
            if actor.deadline_at <= self.now and actor.fate is None:
                actor.deadline_at = NEVER
                slow = actor.down_full and self.slowness.random() < CLIENT_SLOW
                actor.tell(e.DownstreamTaking() if slow else e.DeadlineExpired())
        for pool in self.world.pools.values():
            for ticket in pool.wake(self.now):
                self.call(ticket)
        if self.dice.random() < 0.7:
            self._until_quiet()

    def _until_quiet(self) -> None:
        """Every call is heard before anything else happens; then nobody may sleep for nothing."""
        while self.calls:
            self._deliver(self.calls.pop(0))
        for pool in self.world.pools.values():
            if not pool.wake(self.now):
                checkers.nobody_sleeps(pool, self.now)

    def _publish(self) -> None:
        self.world.publish(snapshot(self.family, self.dice.randrange(REVISIONS)))
        self.pools += self.world.pools.values()

    def _drain(self) -> None:
        if not self.world.draining:
            self.world.draining = True
            return
        for actor in list(self.running):
            if actor.fate is None and actor.exchange.phase.value != "R":
                actor.tell(e.DrainExpired())

    def _do_worst(self, what: str) -> None:
        if not self.running:
            return
        actor = self.dice.choice(self.running)
        worst: dict[str, Callable[[], None]] = {
            "client_leaves": actor.leave,
            "client_breaks": actor.break_off,
            "client_fin": actor.half_close,
            "upstream_dies": actor.upstream_dies,
            "upstream_malformed": actor.upstream_errs,
            "deadline": lambda: self._jump(actor.deadline_at),
            "probe": self._probe,
            "publish": self._publish,
            "drain": self._drain_at_once,
        }
        worst[what]()

    def _probe(self) -> None:
        """A probe finds an endpoint ill, or well again."""
        endpoint = self.dice.choice(self._endpoints())
        endpoint.healthy = not endpoint.healthy

    def _drain_at_once(self) -> None:
        self.world.draining = True
        self._drain()

    # --- what must hold ---------------------------------------------------------------------------

    def _check(self) -> None:
        self.running = [actor for actor in self.running if actor.fate is None]
        in_flight_max = max(pool.spec.in_flight_max for pool in self.pools)
        checkers.slots(self.running, self._endpoints(), in_flight_max)
        for pool in self.world.pools.values():
            if pool.queue:
                checkers.queue(pool, self.running)
                if self.steady and not self.calls:
                    checkers.nobody_sleeps(pool, self.now)

    def _endpoints(self) -> list[Any]:
        if len(self.pools) == 2:
            return [each for pool in self.pools for each in pool.endpoints]
        return list({id(each): each for pool in self.pools for each in pool.endpoints}.values())

    def _end(self) -> None:
        while self.calls:
            self._deliver(self.calls.pop(0))
        for pool in self.pools:
            assert not pool.queue, "somebody waits in a queue after all is over"
            for endpoint in pool.endpoints:
                assert not endpoint.in_flight, f"{endpoint} leaks slots"

    def _story(self, error: Exception) -> str:
        lines = [f"seed {self.seed}, quiet={self.quiet}, worst={self.worst}: {error!r}"]
        if len(self.trace) > TRACE_SHOWN:
            lines.append(f"  … {len(self.trace) - TRACE_SHOWN} events before")
        for now, number, event, commands in self.trace[-TRACE_SHOWN:]:
            lines.append(f"  {now:9.3f}  exchange {number} >> {shown(event)[:160]}")
            lines += [f"                         << {shown(each)[:160]}" for each in commands]
        return "\n".join(lines)

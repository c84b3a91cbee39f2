"""One random world: processes with clocks of their own, a network that loses and delays, one lease.

    python -m tests.sim.leases --worlds 100000 --seed 7

A world is troubled first: answers are lost or late, processes stop and go on, die and come back,
the store is away for a while, operators evict and ask to step down. Then it heals, and must go on.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from random import Random

from loomproxy.core import lease
from loomproxy.core.lease import Command, Holder, Patience
from loomproxy.core.units import NEVER, Instant
from tests.sim.leases.store import TTL_S, Rule, Store

PATIENCE = Patience(ttl_s=TTL_S, retry_s=2.0)
ANSWER_S = 3.0
"""How long a question may take: then it has failed, as the real stores' timeouts say."""

DRIFT = 0.04
"""How much faster or slower a clock may run; the margin covers more than the double."""

TROUBLED_S = 120.0
HEALING_S = 3 * TTL_S
CALM_S = 60.0
TRACE_SHOWN = 40


class Broken(AssertionError):
    """A rule was broken; says in which world, and what had happened there."""


class Process:
    """One that wants the lease. `stopped_until`: it does nothing before, as after SIGSTOP."""

    def __init__(self, world: "World", name: str, drift: float) -> None:
        self.world = world
        self.name = name
        self.drift = drift
        self.lives = itertools.count(1)
        self.stopped_until = 0.0
        self.begin()

    def begin(self) -> None:
        """A new incarnation."""
        self.owner = f"{self.name}{next(self.lives)}"
        self.holder = Holder(PATIENCE, self.clock())
        self.working = 0  # the token of the work that runs
        self.asked = 0  # the number of the last question
        self.woken_at = NEVER  # the deadline for which it will be woken
        self.stepped_down = False
        self.world.at(self, 0.0, self.wake)

    def clock(self) -> Instant:
        return Instant(self.world.now * (1.0 + self.drift))

    @property
    def active(self) -> bool:
        """Whether it would do guarded work at this moment."""
        believes = self.holder.believes and self.clock() < self.holder.believes_until
        return self.working != 0 and believes and self.world.now >= self.stopped_until

    def wake(self) -> None:
        self.woken_at = NEVER
        self.do(self.holder.handle(lease.Wake(), self.clock(), self.world.dice.random()))

    def hear(self, event: lease.Answer) -> None:
        before = self.working
        commands = self.holder.handle(event, self.clock(), self.world.dice.random())
        match event:
            case lease.Granted(_, token):
                fates = [lease.Work(token), lease.Release(token)]
                if not any(fate in commands for fate in fates):
                    raise Rule(f"{self.owner} got token {token} and forgot it")
            case lease.Refused(number) if before and number == self.asked:
                if not any(isinstance(command, lease.Cancel) for command in commands):
                    raise Rule(f"{self.owner} was refused and goes on")
            case _:
                pass
        self.do(commands)

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            self.world.note(self.owner, command)
            self._do(command)
        if self.holder.believes != (self.working != 0):
            raise Rule(f"{self.owner} believes {self.holder.believes}, works {self.working}")
        if self.holder.deadline not in (NEVER, self.woken_at):
            self.woken_at = self.holder.deadline
            wait_s = (self.holder.deadline - self.clock()) / (1.0 + self.drift)
            self.world.at(self, max(0.0, wait_s) + 1e-6, self.wake)

    def _do(self, command: Command) -> None:
        match command:
            case lease.Ask(number):
                self.asked = number
                self.world.question(self, number, lambda: self.world.ask(self, number))
            case lease.Renew(number, token):
                self.asked = number
                self.world.question(self, number, self.world.renewal(self, number, token))
            case lease.Work(token):
                self._begin_work(token)
            case lease.Cancel(lost):
                self._end_work(lost=lost)
            case lease.Release(token):
                self.world.send(self.world.release(self.owner, token))

    def _begin_work(self, token: int) -> None:
        if self.working:
            raise Rule(f"{self.owner} works twice")
        self.working = token
        self.world.at(self, 0.0, self.work)

    def _end_work(self, *, lost: bool) -> None:
        if not self.working:
            raise Rule(f"{self.owner} cancels what it does not do")
        self.working = 0
        self.stepped_down = not lost
        if self.world.calm and lost:
            raise Rule(f"{self.owner} lost the lease, and nothing was wrong")

    def work(self) -> None:
        """A piece of guarded work: an effect, and the next one after a while."""
        if not self.working:
            return
        token, owner = self.working, self.owner

        def refused() -> None:
            if self.working == token:
                self.do(self.holder.fenced(self.clock()))
            if self.working == token:
                raise Rule(f"{owner} was fenced and goes on")

        def effect() -> None:
            if not self.world.store.affect(owner, token, self.world.now):
                self.world.at(self, self.world.latency_s(), refused)

        self.world.send(effect)
        self.world.at(self, self.world.dice.uniform(0.2, 2.0), self.work)


class World:
    """One world. `run` raises Broken where a rule was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.now = 0.0
        self.calm = False
        self.store = Store()
        self.away_until = 0.0
        self.trouble = self.dice.choice((0.0, 0.05, 0.2, 0.5))
        self.pauses = self.dice.random() < 0.6
        self.operators = self.dice.random() < 0.5
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None], Process | None, str]] = []
        self._trace: deque[tuple[float, str, object]] = deque(maxlen=TRACE_SHOWN)
        self.processes = [
            Process(self, name, self.dice.uniform(-DRIFT, DRIFT))
            for name in "abcde"[: self.dice.randint(1, 5)]
        ]

    def run(self) -> "World":
        try:
            self._troubled()
            self.trouble = 0.0
            self._until(self.now + HEALING_S)
            self._calm()
        except AssertionError as rule:
            trace = "\n".join(f"{at:8.3f} {who} {what}" for at, who, what in self._trace)
            raise Broken(f"seed {self.seed}: {rule}\n{trace}") from rule
        return self

    # Time.

    def at(self, process: Process, after_s: float, act: Callable[[], None]) -> None:
        """Something that happens to a process, unless that incarnation has died by then."""
        entry = (self.now + after_s, next(self._order), act, process, process.owner)
        heapq.heappush(self._queue, entry)

    def _until(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            when, _, act, process, owner = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if process is None:
                act()
            elif process.owner == owner:
                if self.now < process.stopped_until:
                    self.at(process, process.stopped_until - self.now, act)
                    continue
                act()
            self._check_beliefs()
        self.now = end

    def _at_store(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + after_s, next(self._order), act, None, ""))

    # The network.

    def send(self, act: Callable[[], None]) -> None:
        """A message whose answer nobody waits for; it may be lost, late, or overtaken."""
        if not self._lost():
            self._at_store(self.latency_s(), lambda: act() if not self._away() else None)

    def question(self, process: Process, number: int, at_store: Callable[[], lease.Answer]) -> None:
        """A question: it is answered once, be it with Failed when its time is over."""
        owner, answered = process.owner, False

        def hear(event: lease.Answer) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self.note(owner, event)
                process.hear(event)

        def arrive() -> None:
            if self._away():
                return
            event = at_store()
            if not self._lost() and process.owner == owner:
                self.at(process, self.latency_s(), lambda: hear(event))

        if not self._lost():
            self._at_store(self.latency_s(), arrive)
        self.at(process, ANSWER_S, lambda: hear(lease.Failed(number)))

    def ask(self, process: Process, number: int) -> lease.Answer:
        taken = self.store.ask(process.owner, self.now)
        if taken is None:
            return lease.Busy(number, self.store.row.expires_at - self.now)
        return lease.Granted(number, taken.token)

    def renewal(self, process: Process, number: int, token: int) -> Callable[[], lease.Answer]:
        owner = process.owner

        def renew() -> lease.Answer:
            kept = self.store.renew(owner, token, self.now)
            return lease.Refused(number) if kept is None else lease.Renewed(number, kept.leaving)

        return renew

    def release(self, owner: str, token: int) -> Callable[[], None]:
        return lambda: self.store.release(owner, token)

    def _lost(self) -> bool:
        return self.dice.random() < self.trouble

    def latency_s(self) -> float:
        """Of one way: mostly little; in trouble as much as just fits, or far too much."""
        if self.trouble and self.dice.random() < self.trouble:
            return self.dice.uniform(0.0, self.dice.choice((ANSWER_S, ANSWER_S, 2 * TTL_S)))
        return self.dice.uniform(0.001, 0.05)

    def _away(self) -> bool:
        return self.now < self.away_until

    # What happens to it.

    def _troubled(self) -> None:
        while self.now < TROUBLED_S:
            self._until(self.now + self.dice.uniform(0.5, 8.0))
            process = self.dice.choice(self.processes)
            roll = self.dice.random()
            if roll < 0.2 and self.pauses:
                self.note(process.owner, "stopped")
                process.stopped_until = self.now + self.dice.uniform(0.1, 3 * TTL_S)
            elif roll < 0.3:
                self.note(process.owner, "dies")
                process.begin()
            elif roll < 0.35 and self.now >= process.stopped_until:
                self.note(process.owner, "gives up")
                process.do(process.holder.give_up(process.clock()))
            elif roll < 0.45 and self.trouble:
                self.note("store", "away")
                self.away_until = self.now + self.dice.uniform(0.1, 2 * TTL_S)
            elif roll < 0.6 and self.operators:
                self.note("operator", "asks to step down")
                self.store.step_down()
            elif roll < 0.7 and self.operators:
                self.note("operator", "evicts")
                self.store.evict()

    def _calm(self) -> None:
        """It has healed: somebody works, and goes on; asked to step down, others get it."""
        self.calm = True
        done = len(self.store.effects)
        self._until(self.now + CALM_S)
        if len(self.store.effects) - done < CALM_S / 4:
            raise Rule("it has healed, and little is done")
        (at_work,) = [process for process in self.processes if process.working] or [None]
        if at_work is None or self.store.row.owner != at_work.owner:
            raise Rule("who works is not who holds the lease")
        self.store.step_down()
        self._until(self.now + TTL_S * 0.9)
        if not at_work.stepped_down:
            raise Rule(f"{at_work.owner} was asked to step down and did not")
        others = [process for process in self.processes if process is not at_work]
        if others and not any(process.working for process in others):
            raise Rule(f"{at_work.owner} stepped down, and nobody else got a turn")

    def _check_beliefs(self) -> None:
        """Where nobody is stopped or evicted, two never believe at once: drift is in the margin."""
        if self.operators or self.pauses:
            return
        active = [process.owner for process in self.processes if process.active]
        if len(active) > 1:
            raise Rule(f"{' and '.join(active)} both believe")

    def note(self, who: str, what: object) -> None:
        self._trace.append((self.now, who, what))

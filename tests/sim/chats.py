"""Random worlds of chats: several at once, and providers whose generations change.

The worlds of `tests.sim.world` hold what every exchange must; here is what a chat adds: its body is
kept until it is whole, its answer is looked into, and it goes to the newest generation alone. Each
exchange has a script for its client and its providers; what happens next is thrown.
"""

from random import Random
from typing import Any, Final

from loomproxy.core import event as e
from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import Chat, Match, PathKind, Route, RouteTable
from loomproxy.core.snapshot import Snapshot
from loomproxy.core.units import NEVER, Instant
from loomproxy.core.world import World
from tests.sim.settings import TIMEOUTS
from tests.sim.talker import Talker

STEPS_MAX: Final = 2000
TRACE_SHOWN: Final = 60
BODY_MAX: Final = 400


def _route(path: str, action: Chat) -> Route:
    match = Match(path_kind=PathKind.EXACT, paths=(path.encode(),))
    return Route(path, match, action, timeouts=TIMEOUTS, body_bytes_max=BODY_MAX)


TABLE: Final = RouteTable.build((_route("/chat", Chat("openai")), _route("/loom", Chat("loom"))))


def _provider(name: str, generation: int, *, streaming: bool) -> Provider:
    """Generation n of a plugin, beside the one before, which gets nothing more."""
    endpoints = tuple(
        EndpointSpec(
            Address(path=f"/run/{name}-{at}"),
            enabled=at == generation,
            secrets=((b"Authorization", b"of-%s-%d" % (name.encode(), at)),),
        )
        for at in range(max(0, generation - 1), generation + 1)
    )
    return Provider(
        name,
        endpoints,
        models=(Model("m"), Model(f"only-{name}")),
        tongue=Tongue.OPENAI if name == "b" else Tongue.PLUGIN,
        streaming=streaming,
        connect_timeout_s=2.0,
        request_timeout_s=15.0,
        idle_timeout_s=6.0,
    )


class ChatSim:
    """One world of chats."""

    def __init__(self, seed: int, rows: set[tuple[str, type]] | None = None) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.rows = set() if rows is None else rows
        self.now = Instant(1000.0)
        self.trouble = self.dice.choice((0.0, 0.05, 0.15))
        self.slots = self.dice.choice((1, 1, 2))
        self.generations = {"a": 0, "b": 0}
        self.streaming = self.dice.random() < 0.8
        self.world = World(self._snapshot())
        self.pools = list(self.world.pools.values())
        self.to_come = self.dice.randint(2, 9)
        self.actors: list[Talker] = []
        self.calls: list[Any] = []
        self.trace: list[str] = []

    def _snapshot(self) -> Snapshot:
        providers = [
            _provider(name, at, streaming=self.streaming) for name, at in self.generations.items()
        ]
        providers.append(Provider("away", models=(Model("m"),), reason="it is not there"))
        return Snapshot(
            revision=1,
            table=TABLE,
            pools={
                each.pool: PoolSpec(
                    each.pool,
                    each.endpoints,
                    in_flight_max=self.slots,
                    queue_max=2,
                    retry_budget_ratio=1.0,
                    follows=True,
                )
                for each in providers
            },
            policy=ForwardPolicy(),
            limits=Limits(),
            timeouts=TIMEOUTS,
            providers={each.provider_type: each for each in providers},
            catalogue=Catalogue(providers),
        )

    def run(self) -> "ChatSim":
        """Let it happen, until all is over."""
        try:
            steps = 0
            while self.to_come or self._running():
                self._step()
                self._check()
                steps += 1
                assert steps < STEPS_MAX, "no progress"
            self._end()
        except AssertionError as error:
            story = "\n".join(self.trace[-TRACE_SHOWN:])
            raise AssertionError(f"seed {self.seed}: {error}\n{story}") from error
        return self

    def _running(self) -> list[Talker]:
        return [actor for actor in self.actors if actor.fate is None]

    def _step(self) -> None:
        dice, running = self.dice, self._running()
        self.now = Instant(self.now + dice.random() * 0.05)
        if self.calls and dice.random() < 0.5:
            self._call()
        elif self.to_come and (not running or dice.random() < 0.3):
            self.to_come -= 1
            self.actors.append(Talker(self, len(self.actors)))
            self.actors[-1].begin()
        elif dice.random() < 0.08:
            self._publish()
        elif running and dice.random() < 0.08:
            self._jump(dice.choice(running).exchange.deadline_at)
        elif running:
            self._act(dice.choice(running), running)

    def _act(self, actor: Talker, running: list[Talker]) -> None:
        options = actor.options()
        if options:
            self.dice.choice(options)()
        elif self.calls:
            self._call()
        elif not any(each.options() for each in running):
            self._jump(min(each.exchange.deadline_at for each in running))

    def _call(self) -> None:
        ticket = self.calls.pop(0)
        actor = ticket.owner.hands.actor
        if actor.fate is None:
            actor.tell(e.SlotFreed(ticket.ask))

    def _publish(self) -> None:
        self.generations[self.dice.choice(("a", "b"))] += 1
        self.world.publish(self._snapshot())
        self.pools += self.world.pools.values()
        if self.dice.random() < 0.5:
            self._tick()

    def _jump(self, to: Instant) -> None:
        assert to != NEVER, "somebody waits for nothing"
        self.now = max(self.now, to)
        for actor in self._running():
            if actor.exchange.deadline_at <= self.now:
                slow = (actor.full or actor.told_to_go_on) and self.dice.random() < 0.5
                taken = e.DownstreamTaking(self.dice.choice((1, 10_000)))
                actor.tell(taken if slow else e.DeadlineExpired())
        self._tick()

    def _tick(self) -> None:
        """Whoever waits hears of slots that nobody gave back."""
        for pool in self.world.pools.values():
            woken = pool.wake(self.now)
            self.calls += woken
            free = [self.slots - each.in_flight for each in pool._enabled]
            assert not pool.queue or sum(free) <= len(woken), "somebody sleeps beside a free slot"

    def _check(self) -> None:
        held = sum(actor.exchange.chat.held_bytes for actor in self._running())
        assert self.world.chat_bytes == held, "bytes are counted that nobody holds"

    def _end(self) -> None:
        assert self.world.chat_bytes == 0, "bytes of chats that are over"
        for pool in self.pools:
            assert not pool.queue, "somebody waits after all is over"
            assert not any(each.in_flight for each in pool.endpoints), "a slot leaks"

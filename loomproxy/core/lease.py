"""A lease: one holder at a time, for a while; and a token that tells its writes from older ones.

Two sides, both pure. The *row* is what a store keeps; `take`, `renew`, `free` and their like say
what it becomes, by the store's clock. The *holder* is what one process believes, by its own clock;
`Holder.handle` says what it does next.

What makes it safe is the token: it grows by one whenever the lease changes hands, and a store
refuses a write whose token is not the row's (Kleppmann, *How to do distributed locking*, 2016; the
fencing of Chubby's sequencers, Burrows 2006 §2.4). What makes it live is the time to live: nobody
renews for a dead holder. A holder believes shorter than the row lasts, because it counts from
before it asked and takes a margin off (Gray and Cheriton, *Leases*, 1989), so that as a rule it
stops before the next one starts. The rule may break, when a process is stopped for long; the token
may not.
"""

from enum import Enum
from typing import Final, TypeAlias

import msgspec

from loomproxy.core.units import NEVER, Instant

RENEWALS_PER_TTL: Final = 3
"""A renewal may fail twice before the lease is lost."""

MARGIN: Final = 0.1
"""Of a lease's time, what its holder does not believe in: for clocks that run at other speeds."""


class Row(msgspec.Struct, frozen=True):
    """A lease as its store keeps it. Rows are never deleted: a token must not begin anew."""

    owner: str  # incarnation; empty: nobody
    token: int  # 0: never held
    expires_at: float  # seconds by the store's clock
    leaving: bool = False  # an operator asked its holder to let it go


NOBODYS: Final = Row("", 0, 0.0)
"""What a lease is before it was ever held."""


def is_held(row: Row, now: float) -> bool:
    """Whether somebody holds it at `now`."""
    return row.owner != "" and row.expires_at > now


def permits(row: Row, owner: str, token: int, now: float) -> bool:
    """Whether a write of `owner` with `token` may happen: it holds the lease now."""
    return is_held(row, now) and row.owner == owner and row.token == token


def take(row: Row, owner: str, ttl_s: float, now: float) -> Row | None:
    """`owner` wants it. None: it is held, be it by `owner` itself: a lease is no reentrant lock."""
    if is_held(row, now):
        return None
    return Row(owner, row.token + 1, now + ttl_s)


def renew(row: Row, owner: str, token: int, ttl_s: float, now: float) -> Row | None:
    """Its holder prolongs it. None: it ran out or changed hands, and will never be had again.

    What ran out is not revived, although nobody else took it: the holder has stopped believing.
    """
    if not permits(row, owner, token, now):
        return None
    return Row(owner, token, now + ttl_s, row.leaving)


def free(row: Row, owner: str, token: int) -> Row | None:
    """Its holder gives it back. None: there was nothing to give back. The token stays."""
    if row.owner != owner or row.token != token:
        return None
    return take_away(row)


def take_away(row: Row) -> Row:
    """Nobody's from now on, whoever held it; its writes are refused from now on."""
    return Row("", row.token, 0.0)


def ask_to_step_down(row: Row) -> Row:
    """The same, with the wish that its holder let it go: it learns of that when it renews."""
    return Row(row.owner, row.token, row.expires_at, leaving=True)


class State(Enum):
    """What a holder is doing."""

    CANDIDATE = "candidate"  # waits for its next try
    ASKING = "asking"  # has tried, and waits for the answer
    HELD = "held"  # believes, and waits for its next renewal
    RENEWING = "renewing"  # believes, and waits for the answer to a renewal
    STANDING_BACK = "standing back"  # lets others go first


class Patience(msgspec.Struct, frozen=True):
    """How long a holder waits for what. All in seconds."""

    ttl_s: float
    retry_s: float  # at most between two tries to take it, and between two when the store is away

    @property
    def belief_s(self) -> float:
        """How long a lease is believed in, from before it was asked for."""
        return self.ttl_s * (1.0 - MARGIN)

    @property
    def renewal_s(self) -> float:
        """How long after asking the next renewal is due."""
        return self.ttl_s / RENEWALS_PER_TTL


class Wake(msgspec.Struct, frozen=True):
    """The deadline was reached, or there is a reason to look earlier."""


class Granted(msgspec.Struct, frozen=True):
    """The answer to ask `number`: it is ours, with `token`."""

    number: int
    token: int


class Busy(msgspec.Struct, frozen=True):
    """The answer to ask `number`: somebody holds it for `remaining_s` more, unless it renews."""

    number: int
    remaining_s: float


class Renewed(msgspec.Struct, frozen=True):
    """The answer to renewal `number`: it goes on."""

    number: int
    leaving: bool


class Refused(msgspec.Struct, frozen=True):
    """The answer to renewal `number`: it is not ours any more."""

    number: int


class Failed(msgspec.Struct, frozen=True):
    """Ask or renewal `number` had no answer: the store is away, and what was asked may be done."""

    number: int


Answer: TypeAlias = Granted | Busy | Renewed | Refused | Failed
Event: TypeAlias = Wake | Answer


class Ask(msgspec.Struct, frozen=True):
    """Try to take it; the answer names `number`."""

    number: int


class Renew(msgspec.Struct, frozen=True):
    """Prolong it; the answer names `number`."""

    number: int
    token: int


class Work(msgspec.Struct, frozen=True):
    """Begin what the lease guards."""

    token: int


class Cancel(msgspec.Struct, frozen=True):
    """End what the lease guards, at once: it is lost, or given up."""

    lost: bool  # False: we give it up ourselves


class Release(msgspec.Struct, frozen=True):
    """Give it back, once the work has ended; no answer is waited for."""

    token: int


Command: TypeAlias = Ask | Renew | Work | Cancel | Release


class Holder:
    """What one process believes of one lease, and does next.

    Every question has a number, and an answer that names another one is late: it is passed over,
    but for a grant, which is given back, since nobody would renew it. Whoever drives this calls
    `handle` for each event and with `Wake` at `deadline`, carries out the commands in their order,
    and answers every question once, be it with `Failed`.
    """

    __slots__ = (
        "_asked_at",
        "_number",
        "_patience",
        "believes_until",
        "deadline",
        "state",
        "token",
    )

    def __init__(self, patience: Patience, now: Instant) -> None:
        self._patience = patience
        self._number = 0
        self._asked_at = now
        self.state = State.CANDIDATE
        self.deadline = now
        """When to say Wake: the next try, the next renewal, the end of belief."""
        self.believes_until = now
        self.token = 0

    @property
    def believes(self) -> bool:
        """Whether the work may run."""
        return self.state in (State.HELD, State.RENEWING)

    def handle(self, event: Event, now: Instant, jitter: float) -> list[Command]:
        """What to do about `event`; `jitter` in [0, 1) spreads tries that would coincide."""
        if self.believes and now >= self.believes_until:
            return [*self._lose(now), *_late(event)]
        if isinstance(event, Wake):
            return self._wake(now)
        if event.number != self._number:
            return _late(event)
        return self._answered(event, now, jitter)

    def fenced(self, now: Instant) -> list[Command]:
        """A guarded write was refused: the lease is lost, whatever we believe."""
        return self._lose(now) if self.believes else []

    def give_up(self, now: Instant) -> list[Command]:
        """Let it go, and stand back one time to live, so that somebody else gets it."""
        commands: list[Command] = []
        if self.believes:
            commands = [Cancel(lost=False), Release(self.token)]
        self._number += 1  # An answer that is still to come is late.
        self.state = State.STANDING_BACK
        self.deadline = now + self._patience.ttl_s
        return commands

    def hint(self, now: Instant) -> list[Command]:
        """It may be free, or we may be wanted to let it go: look now, and not at the deadline.

        Who stands back goes on doing so, and who has a question under way waits for its answer.
        """
        if self.believes and now >= self.believes_until:
            return self._lose(now)
        if self.state is State.CANDIDATE:
            return self._try(now)
        if self.state is State.HELD:
            return self._prolong(now)
        return []

    def _wake(self, now: Instant) -> list[Command]:
        if now < self.deadline:
            return []
        if self.state in (State.CANDIDATE, State.STANDING_BACK):
            return self._try(now)
        assert self.state is State.HELD, self.state  # the others have no deadline but belief's end
        return self._prolong(now)

    def _try(self, now: Instant) -> list[Command]:
        self._ask(State.ASKING, now)
        self.deadline = NEVER
        return [Ask(self._number)]

    def _prolong(self, now: Instant) -> list[Command]:
        self._ask(State.RENEWING, now)
        self.deadline = self.believes_until
        return [Renew(self._number, self.token)]

    def _ask(self, state: State, now: Instant) -> None:
        self._number += 1
        self._asked_at = now
        self.state = state

    def _answered(self, event: Answer, now: Instant, jitter: float) -> list[Command]:
        match event:
            case Granted():
                return self._granted(event.token, now)
            case Busy():
                return self._later(min(event.remaining_s, self._retry_s(jitter)), now)
            case Renewed():
                return self._renewed(event, now)
            case Refused():
                return self._lose(now)
            case _:  # Failed
                return self._later(self._retry_s(jitter), now)

    def _granted(self, token: int, now: Instant) -> list[Command]:
        self.token = token
        self._believe()
        if now < self.believes_until:
            return [Work(token)]
        self.state, self.deadline = State.CANDIDATE, now  # The answer took too long to be of use.
        return [Release(token)]

    def _renewed(self, event: Renewed, now: Instant) -> list[Command]:
        self._believe()
        return self.give_up(now) if event.leaving else []

    def _believe(self) -> None:
        self.state = State.HELD
        self.believes_until = self._asked_at + self._patience.belief_s
        self.deadline = self._asked_at + self._patience.renewal_s

    def _later(self, wait_s: float, now: Instant) -> list[Command]:
        """Try again after a while; a believer no later than its belief ends."""
        if self.state is State.RENEWING:
            self.state = State.HELD
            self.deadline = min(now + wait_s, self.believes_until)
        else:
            self.state, self.deadline = State.CANDIDATE, now + wait_s
        return []

    def _lose(self, now: Instant) -> list[Command]:
        """Stop at once. The row may still be ours, if an answer was lost: it is given back."""
        self._number += 1
        self.state, self.deadline = State.CANDIDATE, now
        return [Cancel(lost=True), Release(self.token)]

    def _retry_s(self, jitter: float) -> float:
        return self._patience.retry_s * (0.5 + jitter / 2)


def _late(event: Event) -> list[Command]:
    return [Release(event.token)] if isinstance(event, Granted) else []

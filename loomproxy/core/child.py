"""The life of a supervised process, as states in a table. Workers and plugins live by the same one.

                      ┌───────────────── LEFT (was stable) ── EXITED ◄──┐
                      ▼                                                 │
    STOPPED ──► STARTING ── SAID_READY ──► READY ───────── LEFT ────────┘
       ▲           │ ▲ └─── LEFT ──► BACKOFF ◄── LEFT (too soon) ── READY
       │           │ └── DEADLINE ──────┘ │
       │           ▼                      └── too many starts failed ──► FAILED
       └── LEFT ── DRAINING ◄── STOP ── STARTING, READY                    ▲
                                        STARTING, READY ── UNRUNNABLE, ────┘
                                                           or LEFT too often

The theory:

* READY is said by the child, never inferred. A child that does not say so within `ready_timeout_s`
  is killed.
* A start failed when the child left before it was ready, or less than `stable_s` after. Failed
  starts in a row are counted, and the next start waits: `BACKOFF_MIN_S`, doubling with each, up to
  `BACKOFF_MAX_S`, with jitter, so that children that fell together do not stand up together. A
  child that was READY for `stable_s` and left is started again at once, and the count forgotten.
* After `starts_failed_max` failed starts in a row a child is FAILED and waits for an operator. So
  is one that left unasked `crashes_max` times within `crashes_window_s`, however stable each life
  was: its users pay for each fall. A worker has neither bound: it is always tried again.
* What cannot be run at all (UNRUNNABLE: no such program, not executable) will not be runnable a
  second later: it is FAILED at once. The word takes the place of LEFT.
* FAILED ends when it is wanted afresh: what failed and crashed before is forgotten then.
* Whoever stops a child asks politely (DRAIN) and sets a deadline; what has not left by then is
  killed. What is killed leaves: every SPAWN is followed by exactly one LEFT or UNRUNNABLE.
* Once condemned, a child is not believed any more: a READY that comes late changes nothing.

`Child.TABLE` says what each state hears; anything else is a bug of ours, and an assertion.
"""

import enum
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from loomproxy.core.units import NEVER, Instant

BACKOFF_MIN_S: Final = 0.5
"""The shortest wait before a start that follows a failed one."""

BACKOFF_MAX_S: Final = 30.0
"""The longest.

Longer would leave a slot empty after the cause is gone; systemd and supervisord wait alike.
"""

_DOUBLINGS_MAX: Final = 16  # 0.5 s doubled so often is beyond any bound; keeps the power small


class State(enum.Enum):
    """Where in its life a child is."""

    STOPPED = "stopped"  # there is none, and none is wanted
    STARTING = "starting"  # it runs and has not said that it is ready
    READY = "ready"
    DRAINING = "draining"  # it was asked to leave
    EXITED = "exited"  # it left although it was wanted; another is started at once
    BACKOFF = "backoff"  # it left too soon; another is started after a wait
    FAILED = "failed"  # it left too often, or cannot be run; somebody must start it afresh


class Event(enum.Enum):
    """What can happen to a child."""

    START = "start"  # somebody wants it
    SAID_READY = "said ready"
    LEFT = "left"  # the process is gone
    UNRUNNABLE = "unrunnable"  # the process is gone, because its program cannot be run
    HUNG = "hung"  # it runs and does not answer
    STOP = "stop"  # nobody wants it any more
    FORCE = "force"  # nobody will wait for it any more
    DEADLINE = "deadline"  # `deadline_at` has passed


class Command(enum.Enum):
    """What a child's keeper must do, in order."""

    SPAWN = "spawn"
    DRAIN = "drain"  # ask it to finish and leave
    KILL = "kill"


class ChildPolicy(msgspec.Struct, frozen=True):
    """How patient we are with a child."""

    ready_timeout_s: float = 30.0  # from spawn to its READY
    drain_timeout_s: float = 30.0  # from STOP to the kill
    stable_s: float = 5.0  # READY for so long: the start was a good one
    starts_failed_max: int = 0  # in a row, before FAILED; 0: a worker, without bound
    crashes_max: int = 0  # times it left unasked within the window, before FAILED; 0: no bound
    crashes_window_s: float = 60.0


class Child:
    """One child.

    Its keeper performs what `handle` returns, and says DEADLINE at `deadline_at`, not before.
    """

    __slots__ = (
        "_condemned",
        "_crashes_at",
        "_policy",
        "_ready_at",
        "deadline_at",
        "starts_failed",
        "state",
    )

    def __init__(self, policy: ChildPolicy) -> None:
        self.state = State.STOPPED
        self.deadline_at = NEVER
        self.starts_failed = 0  # in a row
        self._policy = policy
        self._condemned = False  # killed, and not yet gone
        self._ready_at = NEVER
        self._crashes_at: deque[Instant] = deque(maxlen=policy.crashes_max)  # the last ones

    def handle(self, event: Event, now: Instant, dice: float) -> list[Command]:
        """Take one event; return what to do. `dice` is in 0..1, for the jitter."""
        step = self.TABLE[self.state].get(event)
        assert step is not None, f"{event.name} in state {self.state.name}"
        return step(self, now, dice)

    @property
    def running(self) -> bool:
        """Whether there is a process: LEFT will come."""
        return self.state in (State.STARTING, State.READY, State.DRAINING)

    def _start(self, now: Instant, _dice: float) -> list[Command]:
        """Start it, with what is known of earlier starts."""
        self.state = State.STARTING
        self.deadline_at = now + self._policy.ready_timeout_s
        self._condemned = False
        self._ready_at = NEVER
        return [Command.SPAWN]

    def _start_afresh(self, now: Instant, dice: float) -> list[Command]:
        """Somebody wants it afresh: what failed before is forgotten."""
        self.starts_failed = 0
        self._crashes_at.clear()
        return self._start(now, dice)

    def _ready(self, now: Instant, _dice: float) -> list[Command]:
        if self._condemned:
            return []
        self.state = State.READY
        self.deadline_at = NEVER
        self._ready_at = now
        return []

    def _left(self, now: Instant, dice: float) -> list[Command]:
        """It is gone although it was wanted."""
        stable = now - self._ready_at >= self._policy.stable_s
        self.starts_failed = 0 if stable else self.starts_failed + 1
        self._crashes_at.append(now)
        if self._left_too_often(now):
            return self._failed(now, dice)
        if stable:
            self.state = State.EXITED
            self.deadline_at = now
        else:
            self.state = State.BACKOFF
            self.deadline_at = now + backoff_s(self.starts_failed, dice)
        return []

    def _left_too_often(self, now: Instant) -> bool:
        policy = self._policy
        if 0 < policy.starts_failed_max <= self.starts_failed:
            return True
        return (
            0 < policy.crashes_max == len(self._crashes_at)
            and now - self._crashes_at[0] <= policy.crashes_window_s
        )

    def _failed(self, _now: Instant, _dice: float) -> list[Command]:
        """Nothing is tried any more."""
        self.state = State.FAILED
        self.deadline_at = NEVER
        return []

    def _condemn(self, _now: Instant, _dice: float) -> list[Command]:
        """Kill it, once; what becomes of it is decided when it has left."""
        self.deadline_at = NEVER
        if self._condemned:
            return []
        self._condemned = True
        return [Command.KILL]

    def _drain(self, now: Instant, _dice: float) -> list[Command]:
        self.state = State.DRAINING
        self.deadline_at = now + self._policy.drain_timeout_s
        return [] if self._condemned else [Command.DRAIN]

    def _force(self, now: Instant, dice: float) -> list[Command]:
        self.state = State.DRAINING
        return self._condemn(now, dice)

    def _stopped(self, _now: Instant, _dice: float) -> list[Command]:
        self.state = State.STOPPED
        self.deadline_at = NEVER
        return []

    def _nothing(self, _now: Instant, _dice: float) -> list[Command]:
        """It crossed something that we said or decided."""
        return []

    TABLE: ClassVar[
        dict[State, dict[Event, Callable[["Child", Instant, float], list[Command]]]]
    ] = {
        State.STOPPED: {
            Event.START: _start_afresh,
            Event.STOP: _nothing,
            Event.FORCE: _nothing,
        },
        State.STARTING: {
            Event.SAID_READY: _ready,
            Event.LEFT: _left,
            Event.UNRUNNABLE: _failed,
            Event.HUNG: _condemn,
            Event.DEADLINE: _condemn,
            Event.STOP: _drain,
            Event.FORCE: _force,
        },
        State.READY: {
            Event.SAID_READY: _nothing,
            Event.LEFT: _left,
            Event.UNRUNNABLE: _failed,
            Event.HUNG: _condemn,
            Event.STOP: _drain,
            Event.FORCE: _force,
        },
        State.DRAINING: {
            Event.SAID_READY: _nothing,
            Event.LEFT: _stopped,
            Event.UNRUNNABLE: _stopped,
            Event.HUNG: _condemn,
            Event.DEADLINE: _condemn,
            Event.STOP: _nothing,
            Event.FORCE: _force,
        },
        State.EXITED: {
            Event.DEADLINE: _start,
            Event.STOP: _stopped,
            Event.FORCE: _stopped,
        },
        State.BACKOFF: {
            Event.DEADLINE: _start,
            Event.STOP: _stopped,
            Event.FORCE: _stopped,
        },
        State.FAILED: {
            Event.START: _start_afresh,
            Event.STOP: _stopped,
            Event.FORCE: _stopped,
        },
    }
    """What each state hears, and what it does then."""


def backoff_s(starts_failed: int, dice: float) -> float:
    """How long to wait after so many failed starts in a row (at least 1).

    `dice` in 0..1 is the jitter.
    """
    assert starts_failed >= 1
    whole = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(starts_failed - 1, _DOUBLINGS_MAX))
    return max(BACKOFF_MIN_S, whole * (0.5 + dice / 2))

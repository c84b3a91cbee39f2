"""The life of a supervised process, as an operator would notice it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loomproxy.core.child import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    Child,
    ChildPolicy,
    Command,
    Event,
    State,
    backoff_s,
)
from loomproxy.core.units import NEVER, Instant

WORKER = ChildPolicy(ready_timeout_s=30.0, drain_timeout_s=20.0, stable_s=5.0)
PLUGIN = ChildPolicy(starts_failed_max=3)
GUEST = ChildPolicy(stable_s=5.0, crashes_max=5, crashes_window_s=60.0)


class Play:
    """A child and its clock: `>>` an event, then compare the commands."""

    def __init__(self, policy: ChildPolicy = WORKER) -> None:
        self.child = Child(policy)
        self.now = Instant(100.0)

    def __rshift__(self, event: Event) -> list[Command]:
        return self.child.handle(event, self.now, 1.0)

    def later(self, seconds: float) -> None:
        self.now = Instant(self.now + seconds)

    @property
    def state(self) -> State:
        return self.child.state

    @property
    def wait_s(self) -> float:
        return self.child.deadline_at - self.now


def ready(policy: ChildPolicy = WORKER) -> Play:
    play = Play(policy)
    assert play >> Event.START == [Command.SPAWN]
    assert play >> Event.SAID_READY == []
    assert play.state is State.READY
    return play


def test_child_is_ready_only_when_it_says_so() -> None:
    play = Play()
    assert play.state is State.STOPPED
    assert not play.child.running
    assert play >> Event.START == [Command.SPAWN]
    assert play.state is State.STARTING
    assert play.child.running
    assert play.wait_s == 30.0
    assert play >> Event.SAID_READY == []
    assert play.state is State.READY
    assert play.child.deadline_at == NEVER
    assert play >> Event.SAID_READY == []


def test_child_that_never_says_ready_is_killed_and_tried_again() -> None:
    play = Play()
    _ = play >> Event.START
    assert play >> Event.DEADLINE == [Command.KILL]
    assert play >> Event.SAID_READY == []  # too late: it is not believed
    assert play.state is State.STARTING
    assert play >> Event.LEFT == []
    assert play.state is State.BACKOFF


def test_stable_child_that_leaves_is_started_again_at_once() -> None:
    play = ready()
    play.later(5.0)
    assert play >> Event.LEFT == []
    assert play.state is State.EXITED
    assert play.wait_s == 0
    assert not play.child.running
    assert play >> Event.DEADLINE == [Command.SPAWN]
    assert play.state is State.STARTING


def test_child_that_leaves_right_after_ready_waits() -> None:
    play = ready()
    play.later(4.9)
    _ = play >> Event.LEFT
    assert play.state is State.BACKOFF
    assert play.wait_s == BACKOFF_MIN_S
    assert play >> Event.DEADLINE == [Command.SPAWN]


def test_wait_doubles_and_a_stable_run_forgets() -> None:
    play = Play()
    _ = play >> Event.START
    waits = []
    for _time in range(9):
        _ = play >> Event.LEFT
        waits.append(play.wait_s)
        _ = play >> Event.DEADLINE
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
    _ = play >> Event.SAID_READY
    play.later(60)
    _ = play >> Event.LEFT
    assert play.state is State.EXITED
    assert play.child.starts_failed == 0


def test_worker_is_tried_for_ever() -> None:
    play = Play()
    _ = play >> Event.START
    for _time in range(1000):
        _ = play >> Event.LEFT
        assert play >> Event.DEADLINE == [Command.SPAWN]


def test_plugin_fails_after_a_bounded_number_of_starts_until_an_operator_starts_it() -> None:
    play = Play(PLUGIN)
    _ = play >> Event.START
    for _time in range(2):
        _ = play >> Event.LEFT
        _ = play >> Event.DEADLINE
    _ = play >> Event.LEFT
    assert play.state is State.FAILED
    assert play.child.deadline_at == NEVER
    assert play >> Event.START == [Command.SPAWN]
    assert play.child.starts_failed == 0


def crash(play: Play, after_s: float) -> None:
    """A READY child leaves after so long, and the next is READY if there is one."""
    play.later(after_s)
    _ = play >> Event.LEFT
    if play.state is not State.FAILED:
        play.later(max(0.0, play.wait_s))
        _ = play >> Event.DEADLINE
        _ = play >> Event.SAID_READY


def test_guest_that_falls_over_too_often_within_the_window_is_failed_though_it_was_stable() -> None:
    play = ready(GUEST)
    for _time in range(4):
        crash(play, 15.0)
        assert play.state is State.READY
    crash(play, 15.0)  # the fifth, 60 s after the first
    assert play.state is State.FAILED
    assert play.child.deadline_at == NEVER
    assert not play.child.running


def test_guest_that_falls_over_seldom_is_started_for_ever() -> None:
    play = ready(GUEST)
    for _time in range(20):
        crash(play, 15.1)  # five of them take 60.4 s
        assert play.state is State.READY


def test_guest_that_crashes_at_once_is_failed_with_its_fifth_crash() -> None:
    play = Play(GUEST)
    _ = play >> Event.START
    waits = []
    for _time in range(4):
        _ = play >> Event.LEFT
        waits.append(play.wait_s)
        play.later(play.wait_s)
        _ = play >> Event.DEADLINE
    assert waits == pytest.approx([0.5, 1, 2, 4])
    _ = play >> Event.LEFT
    assert play.state is State.FAILED


def test_what_crashed_before_is_forgotten_by_a_fresh_start() -> None:
    play = ready(GUEST)
    for _time in range(5):
        crash(play, 6.0)
    assert play.state is State.FAILED
    assert play >> Event.START == [Command.SPAWN]
    _ = play >> Event.SAID_READY
    for _time in range(4):
        crash(play, 6.0)
        assert play.state is State.READY
    crash(play, 6.0)
    assert play.state is State.FAILED


@pytest.mark.parametrize("before", [State.STARTING, State.READY])
def test_what_cannot_be_run_is_failed_at_once(before: State) -> None:
    play = Play(GUEST)
    _ = play >> Event.START
    if before is State.READY:
        _ = play >> Event.SAID_READY
    assert play.state is before
    assert play >> Event.UNRUNNABLE == []
    assert play.state is State.FAILED
    assert play.child.deadline_at == NEVER
    assert play >> Event.START == [Command.SPAWN]


def test_what_cannot_be_run_and_is_not_wanted_any_more_is_stopped() -> None:
    play = Play(GUEST)
    _ = play >> Event.START
    _ = play >> Event.STOP
    assert play >> Event.UNRUNNABLE == []
    assert play.state is State.STOPPED


def test_hung_child_is_killed_once_and_replaced() -> None:
    play = ready()
    play.later(60)
    assert play >> Event.HUNG == [Command.KILL]
    assert play >> Event.HUNG == []
    _ = play >> Event.LEFT
    assert play.state is State.EXITED


def test_stop_asks_first_and_kills_at_the_deadline() -> None:
    play = ready()
    assert play >> Event.STOP == [Command.DRAIN]
    assert play.state is State.DRAINING
    assert play.wait_s == 20.0
    assert play >> Event.STOP == []
    assert play >> Event.SAID_READY == []
    assert play >> Event.DEADLINE == [Command.KILL]
    assert play.child.deadline_at == NEVER
    assert play >> Event.LEFT == []
    assert play.state is State.STOPPED


def test_stop_of_a_condemned_child_only_waits_for_it() -> None:
    play = ready()
    _ = play >> Event.HUNG
    assert play >> Event.STOP == []
    _ = play >> Event.LEFT
    assert play.state is State.STOPPED


def test_force_does_not_wait() -> None:
    play = ready()
    _ = play >> Event.STOP
    assert play >> Event.FORCE == [Command.KILL]
    assert play >> Event.FORCE == []
    _ = play >> Event.LEFT
    assert play.state is State.STOPPED


@pytest.mark.parametrize("end", [Event.STOP, Event.FORCE])
def test_child_that_waits_for_its_next_start_stops_without_a_word(end: Event) -> None:
    for policy, before in (
        (WORKER, State.BACKOFF),
        (ChildPolicy(starts_failed_max=1), State.FAILED),
    ):
        play = Play(policy)
        _ = play >> Event.START
        _ = play >> Event.LEFT
        assert play.state is before
        assert play >> end == []
        assert play.state is State.STOPPED
        assert play >> end == []
    play = ready()
    play.later(9)
    _ = play >> Event.LEFT
    assert play.state is State.EXITED
    assert play >> end == []
    assert play.state is State.STOPPED


def test_what_is_not_in_the_table_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="LEFT in state STOPPED"):
        Play() >> Event.LEFT
    with pytest.raises(AssertionError, match="START in state READY"):
        ready() >> Event.START


def test_every_state_has_a_row() -> None:
    assert set(Child.TABLE) == set(State)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_backoff_stays_within_its_bounds(starts_failed: int, dice: float) -> None:
    assert BACKOFF_MIN_S <= backoff_s(starts_failed, dice) <= BACKOFF_MAX_S


GONE = (Event.LEFT, Event.UNRUNNABLE)


class Life(RuleBasedStateMachine):
    """Whatever is heard, in whatever order: SPAWN, KILL and the end are in balance."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Child(ChildPolicy(starts_failed_max=2, crashes_max=4))
        self.now = 0.0
        self.alive = False
        self.killed = False

    def tell(self, event: Event) -> None:
        self.now += 1.0
        if event in GONE:
            self.alive = self.killed = False
        for command in self.child.handle(event, Instant(self.now), 0.5):
            if command is Command.SPAWN:
                assert not self.alive
                self.alive = True
            else:
                assert self.alive
                assert not self.killed
                self.killed = command is Command.KILL

    @rule(event=st.sampled_from([e for e in Event if e not in (*GONE, Event.DEADLINE)]))
    def hears(self, event: Event) -> None:
        if event in Child.TABLE[self.child.state]:
            self.tell(event)

    @precondition(lambda self: self.alive)
    @rule(event=st.sampled_from(GONE))
    def leaves(self, event: Event) -> None:
        self.tell(event)

    @precondition(lambda self: self.child.deadline_at != NEVER)
    @rule()
    def waits(self) -> None:
        self.now = max(self.now, self.child.deadline_at)
        self.tell(Event.DEADLINE)

    @invariant()
    def a_process_is_there_exactly_when_the_state_says_so(self) -> None:
        assert self.alive == self.child.running


TestLife = Life.TestCase

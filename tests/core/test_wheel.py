"""Deadlines: never early, hardly late, and nothing is held that nobody waits for."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loomproxy.core.units import NEVER, Instant
from loomproxy.core.wheel import TICK_S, Wheel


class Thing:
    """Something with a deadline; `asked` says how often the wheel looked."""

    def __init__(self, deadline_at: float = NEVER) -> None:
        self._deadline_at = Instant(deadline_at)
        self.scheduled_at = NEVER
        self.asked = 0

    @property
    def deadline_at(self) -> Instant:
        self.asked += 1
        return self._deadline_at

    @deadline_at.setter
    def deadline_at(self, value: Instant) -> None:
        self._deadline_at = value


def filed(wheel: Wheel[Thing], deadline_at: float) -> Thing:
    thing = Thing(deadline_at)
    wheel.schedule(thing)
    return thing


def test_deadline_is_told_once_when_it_has_passed() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 3.2)
    assert wheel.expired(Instant(3.19)) == []
    assert wheel.expired(Instant(3.2 + TICK_S)) == [thing]
    assert wheel.expired(Instant(100.0)) == []
    assert len(wheel) == 0


def test_entry_without_deadline_is_not_filed() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, NEVER)
    assert len(wheel) == 0
    assert thing.scheduled_at == NEVER


def test_deadline_that_moves_later_costs_nothing() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 3.0)
    for moved in range(1000):
        thing.deadline_at = Instant(4.0 + moved / 100)
    thing.asked = 0
    assert wheel.expired(Instant(3.5)) == []
    assert thing.asked < 10  # looked at once, not a thousand times
    assert wheel.expired(Instant(13.9)) == []
    assert wheel.expired(Instant(14.2)) == [thing]


def test_deadline_that_moves_earlier_is_told_in_time() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 300.0)
    thing.deadline_at = Instant(2.0)
    wheel.schedule(thing)
    assert len(wheel) == 1
    assert wheel.expired(Instant(2.2)) == [thing]
    assert wheel.expired(Instant(400.0)) == []


def test_scheduling_again_without_need_changes_nothing() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 5.0)
    wheel.schedule(thing)
    thing.deadline_at = Instant(9.0)
    wheel.schedule(thing)
    assert thing.scheduled_at == 5.0
    assert len(wheel) == 1


def test_deadline_that_was_cleared_is_dropped_when_looked_at() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 5.0)
    thing.deadline_at = NEVER
    assert wheel.expired(Instant(6.0)) == []
    assert len(wheel) == 0
    thing.deadline_at = Instant(7.0)
    wheel.schedule(thing)
    assert wheel.expired(Instant(8.0)) == [thing]


def test_deadline_in_the_past_is_told_at_the_next_tick() -> None:
    wheel = Wheel[Thing]()
    wheel.expired(Instant(50.0))
    thing = filed(wheel, 20.0)
    assert wheel.expired(Instant(50.0 + TICK_S)) == [thing]


def test_what_is_forgotten_is_not_held() -> None:
    wheel = Wheel[Thing]()
    one, other = filed(wheel, 5.0), filed(wheel, 5.0)
    wheel.forget(one)
    wheel.forget(one)
    assert len(wheel) == 1
    assert wheel.expired(Instant(6.0)) == [other]
    wheel.forget(other)
    assert len(wheel) == 0


def test_long_sleep_tells_everything_oldest_first() -> None:
    wheel = Wheel[Thing]()
    things = [filed(wheel, at) for at in (900.0, 3.0, 40.0)]
    assert wheel.expired(Instant(1e7)) == [things[1], things[2], things[0]]


def test_clock_that_stands_still_tells_nothing_twice() -> None:
    wheel = Wheel[Thing]()
    thing = filed(wheel, 1.0)
    assert wheel.expired(Instant(2.0)) == [thing]
    assert wheel.expired(Instant(2.0)) == []
    later = filed(wheel, 2.01)
    assert wheel.expired(Instant(2.0)) == []
    assert wheel.expired(Instant(1.0)) == []
    assert wheel.expired(Instant(2.5)) == [later]


class Deadlines(RuleBasedStateMachine):
    """The wheel beside the plainest thing that is right: look at everything, every time."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = Wheel[Thing]()
        self.now = 100.0
        self.things = [Thing() for _ in range(5)]
        self.wheel.expired(Instant(self.now))

    @rule(index=st.integers(0, 4), ahead_s=st.floats(-5.0, 400.0))
    def set_deadline(self, index: int, ahead_s: float) -> None:
        thing = self.things[index]
        thing.deadline_at = Instant(self.now + ahead_s)
        self.wheel.schedule(thing)

    @rule(index=st.integers(0, 4))
    def clear_deadline(self, index: int) -> None:
        self.things[index].deadline_at = NEVER

    @rule(index=st.integers(0, 4))
    def forget(self, index: int) -> None:
        self.things[index].deadline_at = NEVER
        self.wheel.forget(self.things[index])

    @rule(wait_s=st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 500.0)))
    def look(self, wait_s: float) -> None:
        self.now += wait_s
        told = self.wheel.expired(Instant(self.now))
        assert len(told) == len(set(told))
        for thing in told:
            assert thing.deadline_at <= self.now
            thing.deadline_at = NEVER
        for thing in self.things:
            assert thing.deadline_at > self.now - TICK_S or thing.scheduled_at != NEVER

    @rule()
    def look_one_tick_later(self) -> None:
        self.look(TICK_S)
        for thing in self.things:
            assert thing.deadline_at > self.now - TICK_S

    @invariant()
    def each_is_in_one_bucket(self) -> None:
        assert len(self.wheel) == sum(thing.scheduled_at != NEVER for thing in self.things)
        for thing in self.things:
            assert thing.deadline_at == NEVER or thing.scheduled_at != NEVER


TestDeadlines = Deadlines.TestCase
TestDeadlines.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.floats(0.0, 1e6), max_size=50), st.floats(0.0, 1e6))
def test_all_and_only_what_has_passed_is_told(deadlines: list[float], now: float) -> None:
    wheel = Wheel[Thing]()
    things = [filed(wheel, at) for at in deadlines]
    told = wheel.expired(Instant(now))
    assert all(thing.deadline_at <= now for thing in told)
    assert {t for t in things if t.deadline_at <= now - TICK_S} <= set(told)
    assert len(wheel) + len(told) == len(things)

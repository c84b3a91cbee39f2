"""How fast a client has to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.pace import Pace, is_too_slow
from loomproxy.core.units import NEVER, Instant

BEGINS_AT = Instant(1000.0)
PATIENCE_S, RATE = 60.0, 10


def after(seconds: float) -> Instant:
    return Instant(BEGINS_AT + seconds)


def pace() -> Pace:
    return Pace(PATIENCE_S, RATE, BEGINS_AT)


def test_client_that_only_begins_has_all_the_patience() -> None:
    it = pace()
    assert it.deadline_at == after(PATIENCE_S)
    assert not it.is_behind


def test_each_byte_gives_back_the_time_in_which_it_would_have_come() -> None:
    it = pace()
    it.moved(1, after(30.0))
    assert it.deadline_at == after(60.1)
    assert it.is_behind
    it.moved(200, after(40.0))
    assert it.deadline_at == after(80.1)


def test_fast_client_saves_no_more_than_the_patience() -> None:
    it = pace()
    it.moved(1_000_000, after(1.0))
    assert it.deadline_at == after(1.0 + PATIENCE_S)
    assert not it.is_behind


def test_time_in_which_a_client_is_held_back_does_not_count() -> None:
    it = pace()
    it.hold(after(20.0))
    it.hold(after(500.0))
    assert it.deadline_at == NEVER
    it.moved(50, after(900.0))
    assert it.deadline_at == NEVER
    it.go(after(1000.0))
    it.go(after(1001.0))
    assert it.deadline_at == after(1000.0 + 45.0)


def test_bytes_that_come_too_late_still_count_from_nothing() -> None:
    it = pace()
    it.moved(10, after(PATIENCE_S + 5.0))
    assert it.deadline_at == after(PATIENCE_S + 5.0 + 1.0)


@given(st.lists(st.tuples(st.floats(0.0, 59.0), st.integers(1, 1000)), min_size=1, max_size=50))
def test_nobody_lasts_longer_than_patience_and_bytes_pay_for(
    sent: list[tuple[float, int]],
) -> None:
    it, now, size_all = pace(), 0.0, 0
    for wait_s, size in sent:
        if after(now + wait_s) >= it.deadline_at:
            break
        now += wait_s
        size_all += size
        it.moved(size, after(now))
    assert it.deadline_at <= after(PATIENCE_S + size_all / RATE) + 1e-6
    assert it.deadline_at <= after(now + PATIENCE_S) + 1e-6


@given(st.lists(st.integers(1, 59), min_size=1, max_size=50))
def test_nobody_who_keeps_the_lowest_speed_is_ever_cut(waits_s: list[int]) -> None:
    it, now = pace(), 0.0
    for wait_s in waits_s:
        now += wait_s
        assert after(now) < it.deadline_at
        it.moved(wait_s * RATE, after(now))
    assert not it.is_behind


@pytest.mark.parametrize(
    ("taken_bytes", "rate", "slow"), [(299, 10, True), (300, 10, False), (1, 0, False)]
)
def test_who_takes_less_than_the_lowest_speed_is_too_slow(
    taken_bytes: int, rate: int, slow: bool
) -> None:
    assert is_too_slow(taken_bytes, 30.0, rate) is slow

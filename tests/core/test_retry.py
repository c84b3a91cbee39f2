"""Whether to go again: what is safe, and what the retry budget affords."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core import fault as faults
from loomproxy.core.fault import FAULTS, Again, Fault
from loomproxy.core.message import IDEMPOTENT
from loomproxy.core.retry import WINDOW_S, RetryBudget, may_repeat
from loomproxy.core.units import Instant


class Attempts:
    attempts_max = 3


def repeat(
    fault: Fault,
    method: bytes = b"GET",
    *,
    reused: bool = False,
    replayable: bool = True,
    attempts: int = 1,
) -> bool:
    return may_repeat(
        fault,
        method=method,
        reused=reused,
        replayable=replayable,
        attempts=attempts,
        policy=Attempts(),
    )


def test_connection_that_never_was_lets_any_request_go_elsewhere() -> None:
    assert repeat(faults.CONNECT_FAILED)
    assert repeat(faults.CONNECT_FAILED, b"POST")
    assert repeat(faults.CONNECT_TIMEOUT, b"POST", reused=True)


def test_lost_race_with_an_idle_close_lets_an_idempotent_request_go_again() -> None:
    assert repeat(faults.UPSTREAM_CLOSED, reused=True)
    assert not repeat(faults.UPSTREAM_CLOSED, b"POST", reused=True)
    assert not repeat(faults.UPSTREAM_CLOSED, b"PATCH", reused=True)


def test_upstream_that_closes_a_fresh_connection_is_not_asked_again() -> None:
    assert not repeat(faults.UPSTREAM_CLOSED)


@pytest.mark.parametrize("fault", [each for each in FAULTS.values() if each.again is Again.NEVER])
def test_all_else_is_never_repeated(fault: Fault) -> None:
    assert not repeat(fault, reused=True)


def test_attempts_are_limited() -> None:
    assert repeat(faults.CONNECT_FAILED, attempts=2)
    assert not repeat(faults.CONNECT_FAILED, attempts=3)
    assert not repeat(faults.UPSTREAM_CLOSED, reused=True, attempts=4)


def test_request_that_is_not_held_any_more_cannot_be_repeated() -> None:
    assert not repeat(faults.CONNECT_FAILED, replayable=False)
    assert not repeat(faults.UPSTREAM_CLOSED, reused=True, replayable=False)


@given(
    st.sampled_from(sorted(FAULTS)),
    st.sampled_from([*sorted(IDEMPOTENT), b"POST", b"PATCH", b"get"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 5),
)
def test_whatever_was_sent_is_only_repeated_when_that_is_harmless(
    name: str, method: bytes, reused: bool, replayable: bool, attempts: int
) -> None:
    fault = FAULTS[name]
    again = repeat(fault, method, reused=reused, replayable=replayable, attempts=attempts)
    if again:
        assert replayable
        assert attempts < Attempts.attempts_max
        unsent = fault.again is Again.ELSEWHERE
        assert unsent or (reused and method in IDEMPOTENT and fault.again is Again.IF_REUSED)


def spend(budget: RetryBudget, now: float) -> int:
    """How many retries are affordable at `now`."""
    times = 0
    while budget.may_retry(Instant(now)):
        times += 1
        assert times < 100_000
    return times


def test_quiet_pool_may_retry_a_few_per_second() -> None:
    budget = RetryBudget(ratio=0.0, min_per_s=3.0)
    assert spend(budget, 100.0) == 3 * WINDOW_S
    assert spend(budget, 109.9) == 0
    assert spend(budget, 110.0) == 3 * WINDOW_S


def test_busy_pool_may_retry_a_share_of_its_requests() -> None:
    budget = RetryBudget(ratio=0.2, min_per_s=0.0)
    for _ in range(1000):
        budget.note_request(Instant(50.5))
    assert spend(budget, 50.6) == 200
    for _ in range(100):
        budget.note_request(Instant(51.0))
    assert spend(budget, 51.0) == 20


def test_requests_of_a_moment_ago_pay_until_they_leave_the_window() -> None:
    budget = RetryBudget(ratio=1.0, min_per_s=0.0)
    for _ in range(100):
        budget.note_request(Instant(50.0))
    assert budget.may_retry(Instant(59.9))
    assert not budget.may_retry(Instant(60.0))


@pytest.mark.parametrize("ago_s", [*range(WINDOW_S, 3 * WINDOW_S), 10**9])
def test_requests_of_long_ago_pay_for_nothing(ago_s: int) -> None:
    budget = RetryBudget(ratio=1.0, min_per_s=0.0)
    budget.note_request(Instant(50.0))
    assert not budget.may_retry(Instant(50.0 + ago_s))


def test_budget_of_nothing_affords_nothing() -> None:
    budget = RetryBudget(ratio=0.0, min_per_s=0.0)
    budget.note_request(Instant(1.0))
    assert not budget.may_retry(Instant(1.0))


def test_reload_changes_the_share_of_what_was_counted_already() -> None:
    budget = RetryBudget(ratio=0.0, min_per_s=0.0)
    for _ in range(10):
        budget.note_request(Instant(5.0))
    budget.ratio = 0.5
    assert spend(budget, 5.0) == 5


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=300),
    st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    st.sampled_from([0.0, 0.3, 2.0]),
)
def test_retries_of_any_window_stay_within_the_budget(
    story: list[tuple[float, bool]], ratio: float, min_per_s: float
) -> None:
    budget = RetryBudget(ratio=ratio, min_per_s=min_per_s)
    now = 7.0
    requests: list[int] = []
    retries: list[int] = []
    for wait_s, is_request in story:
        now += wait_s
        recent = int(now) - WINDOW_S
        if is_request:
            budget.note_request(Instant(now))
            requests.append(int(now))
            continue
        allowed = ratio * sum(at > recent for at in requests) + min_per_s * WINDOW_S
        spent = sum(at > recent for at in retries)
        assert budget.may_retry(Instant(now)) == (spent + 1 <= allowed)
        if spent + 1 <= allowed:
            retries.append(int(now))

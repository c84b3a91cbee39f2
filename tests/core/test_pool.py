"""Which endpoint is next, who waits, and that no slot and no waiter gets lost."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec, TlsSpec
from loomproxy.core.pool import Balance, Pool, PoolSpec, ProbeSpec, Ticket
from loomproxy.core.units import Instant

NOW = Instant(1000.0)
LEAST = Balance.LEAST_IN_FLIGHT


def spec(
    *weights: int,
    balance: Balance = Balance.ROUND_ROBIN,
    in_flight_max: int = 1024,
    queue_max: int = 1024,
    disabled: tuple[int, ...] = (),
    probe: ProbeSpec | None = None,
) -> PoolSpec:
    """Endpoints at ports 0, 1, … with these weights."""
    return PoolSpec(
        "app",
        tuple(
            EndpointSpec(Address("app", port), weight, enabled=port not in disabled)
            for port, weight in enumerate(weights)
        ),
        balance=balance,
        ejection=EjectionPolicy(failures=1, time_s=5.0),
        in_flight_max=in_flight_max,
        queue_max=queue_max,
        probe=probe,
    )


def port(endpoint: Endpoint | None) -> int | None:
    return None if endpoint is None else endpoint.spec.address.port


def took(pool: Pool, tried: tuple[Endpoint, ...] = ()) -> Endpoint:
    endpoint = pool.choose(NOW, tried)
    assert endpoint is not None
    return endpoint


def brief(pool: Pool) -> int:
    """One exchange that is over at once; where it went."""
    endpoint = took(pool)
    assert pool.give_back(endpoint) is None
    return endpoint.spec.address.port


def waiting(pool: Pool, name: str) -> Ticket:
    ticket = pool.wait(name, 1)
    assert ticket is not None
    return ticket


# Balance.


def test_round_robin_spreads_by_weight_without_bursts() -> None:
    pool = Pool(spec(5, 1, 1), None)
    assert [brief(pool) for _ in range(14)] == [0, 0, 1, 0, 2, 0, 0] * 2


def test_round_robin_of_equals_takes_turns() -> None:
    pool = Pool(spec(1, 1, 1), None)
    assert [brief(pool) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_only_endpoint_gets_everything() -> None:
    pool = Pool(spec(7), None)
    assert [brief(pool) for _ in range(3)] == [0, 0, 0]
    assert pool.endpoints[0].attempts == 3


def test_least_in_flight_prefers_the_idle_one() -> None:
    pool = Pool(spec(1, 1, 1, balance=LEAST), None)
    held = [took(pool) for _ in range(3)]
    assert {port(each) for each in held} == {0, 1, 2}
    pool.give_back(held[1])
    assert took(pool) is held[1]


def test_least_in_flight_counts_by_weight() -> None:
    pool = Pool(spec(3, 1, balance=LEAST), None)
    assert Counter(port(took(pool)) for _ in range(40)) == {0: 30, 1: 10}


def test_least_in_flight_takes_turns_among_equals() -> None:
    pool = Pool(spec(1, 1, 1, balance=LEAST), None)
    assert [brief(pool) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_load_of_an_ejected_endpoint_is_shared_by_all_others() -> None:
    pool = Pool(spec(1, 1, 1, 1), None)
    pool.endpoints[1].observe(faults.CONNECT_FAILED, NOW)
    assert Counter(brief(pool) for _ in range(30)) == {0: 10, 2: 10, 3: 10}


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 3))
def test_round_robin_is_fair_at_every_moment(weights: list[int], rounds: int) -> None:
    pool = Pool(spec(*weights), None)
    total = sum(weights)
    times: Counter[int] = Counter()
    for count in range(1, rounds * total + 1):
        times[brief(pool)] += 1
        for index, weight in enumerate(weights):
            # A little more than one turn off is possible: 1, 1, 1, 14, 14 comes to 32/31.
            assert abs(times[index] * total - count * weight) < 2 * total
    assert [times[index] for index in range(len(weights))] == [rounds * each for each in weights]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 100))
def test_least_in_flight_is_never_more_than_one_off_its_share(
    weights: list[int], count: int
) -> None:
    pool = Pool(spec(*weights, balance=LEAST), None)
    for _ in range(count):
        took(pool)
    for one in pool.endpoints:
        for other in pool.endpoints:
            # Had it one less, nobody would be less busy: that is why it was chosen.
            assert (one.in_flight - 1) * other.spec.weight <= other.in_flight * one.spec.weight


@given(
    st.lists(st.integers(1, 10), min_size=2, max_size=6),
    st.lists(st.sets(st.integers(0, 5), max_size=5), max_size=200),
)
def test_credit_stays_bounded_whoever_comes_and_goes(
    weights: list[int], absences: list[set[int]]
) -> None:
    pool = Pool(spec(*weights), None)
    for absent in absences:
        for one in pool.endpoints:
            one.healthy = port(one) not in absent
        brief(pool)
        assert sum(one.credit for one in pool.endpoints) == 0
        bound = sum(weights) * len(weights)
        assert all(abs(one.credit) <= bound for one in pool.endpoints)


# Who is wanted.


def test_retry_goes_elsewhere() -> None:
    pool = Pool(spec(9, 1), None)
    first = took(pool)
    assert port(first) == 0
    for _ in range(5):
        assert port(took(pool, (first,))) == 1


def test_retry_comes_back_when_there_is_nowhere_else() -> None:
    pool = Pool(spec(1), None)
    first = took(pool)
    assert took(pool, (first,)) is first


def test_retry_does_not_wake_an_ejected_endpoint_while_another_is_well() -> None:
    pool = Pool(spec(1, 1), None)
    pool.endpoints[1].observe(faults.CONNECT_FAILED, NOW)
    assert port(took(pool, (pool.endpoints[0],))) == 0


def test_ejected_endpoint_gets_traffic_again_after_its_time() -> None:
    pool = Pool(spec(1, 1), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    assert {brief(pool) for _ in range(4)} == {1}
    assert port(pool.choose(Instant(NOW + 5.0))) == 0


def test_everything_looks_broken_so_every_enabled_endpoint_is_used() -> None:
    pool = Pool(spec(1, 1, 1, disabled=(2,)), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    pool.endpoints[1].probed(False, rise=1, fall=1)
    assert {brief(pool) for _ in range(4)} == {0, 1}


def test_good_endpoint_that_is_busy_is_waited_for() -> None:
    pool = Pool(spec(1, 1, in_flight_max=1), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    assert port(took(pool)) == 1
    assert pool.choose(NOW) is None
    assert pool.usable()


def test_panic_keeps_to_the_limit_too() -> None:
    pool = Pool(spec(1, in_flight_max=1), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    took(pool)
    assert pool.choose(NOW) is None


def test_pool_of_disabled_endpoints_is_not_usable() -> None:
    pool = Pool(spec(1, 1, disabled=(0, 1)), None)
    assert pool.choose(NOW) is None
    assert not pool.usable()


def test_pool_without_endpoints_is_not_usable() -> None:
    pool = Pool(spec(), None)
    assert pool.choose(NOW) is None
    assert not pool.usable()


def test_two_endpoints_with_one_address_are_a_bug_of_the_compiler() -> None:
    twice = EndpointSpec(Address("app", 1))
    pool = Pool(PoolSpec("app", (twice,)), None)
    with pytest.raises(AssertionError, match="one address"):
        Pool(PoolSpec("app", (twice, twice)), pool)
    with pytest.raises(AssertionError, match="one address"):
        Pool(PoolSpec("app", (twice, twice)), None)


# The queue.


def test_waiters_are_woken_in_the_order_of_their_coming() -> None:
    pool = Pool(spec(1, in_flight_max=1), None)
    held = took(pool)
    tickets = [waiting(pool, name) for name in ("a", "b")]
    assert pool.waiting == 2
    for ticket in tickets:
        assert pool.give_back(held) is ticket
        assert took(pool) is held
    assert pool.give_back(held) is None
    assert [(each.owner, each.ask) for each in tickets] == [("a", 1), ("b", 1)]


def test_full_queue_is_told_at_once() -> None:
    pool = Pool(spec(1, in_flight_max=1, queue_max=1), None)
    took(pool)
    waiting(pool, "a")
    assert pool.wait("b", 1) is None
    assert pool.waiting == 1


def test_woken_waiter_that_finds_its_slot_taken_keeps_its_place() -> None:
    pool = Pool(spec(1, in_flight_max=1, queue_max=2), None)
    endpoint = took(pool)
    first, second = waiting(pool, "first"), waiting(pool, "second")
    assert pool.give_back(endpoint) is first
    assert took(pool) is endpoint  # by somebody faster
    assert pool.wait("third", 1) is not None  # the queue is full again
    pool.wait_again(first)
    assert pool.give_back(endpoint) is first
    assert took(pool) is endpoint
    assert pool.give_back(endpoint) is second


def test_client_that_leaves_the_queue_is_not_woken() -> None:
    pool = Pool(spec(1, in_flight_max=1), None)
    held = took(pool)
    first, second = waiting(pool, "a"), waiting(pool, "b")
    assert pool.cancel(first) is None
    assert pool.give_back(held) is second


def test_woken_client_that_leaves_passes_its_turn_on() -> None:
    pool = Pool(spec(1, in_flight_max=1), None)
    held = took(pool)
    first, second = waiting(pool, "a"), waiting(pool, "b")
    assert pool.give_back(held) is first
    assert pool.cancel(first) is second
    assert pool.cancel(second) is None


def test_slot_that_nobody_took_cannot_be_given_back() -> None:
    pool = Pool(spec(1), None)
    with pytest.raises(AssertionError, match="nobody took"):
        pool.give_back(pool.endpoints[0])


def test_end_of_an_ejection_wakes_as_many_as_there_are_slots() -> None:
    pool = Pool(spec(1, 1, in_flight_max=2), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    for _ in range(2):
        took(pool)
    tickets = [waiting(pool, str(number)) for number in range(5)]
    assert pool.wake(NOW) == []
    assert pool.wake(Instant(NOW + 5.0)) == tickets[:2]
    assert pool.waiting == 3


def test_wake_stops_when_nobody_waits() -> None:
    pool = Pool(spec(1, 1, in_flight_max=2), None)
    assert pool.wake(NOW) == []
    ticket = waiting(pool, "a")
    assert pool.wake(NOW) == [ticket]


def test_wake_in_panic_offers_what_choose_would_give() -> None:
    pool = Pool(spec(1, in_flight_max=2), None)
    pool.endpoints[0].observe(faults.CONNECT_FAILED, NOW)
    ticket = waiting(pool, "a")
    assert pool.wake(NOW) == [ticket]
    assert port(took(pool)) == 0


# Reload.


def test_reload_keeps_what_is_known_of_an_endpoint() -> None:
    before = Pool(spec(1, 1), None)
    held = took(before)
    held.observe(faults.CONNECT_FAILED, NOW)
    after = Pool(spec(1, 2, 1), before)
    assert after.endpoints[:2] == before.endpoints
    assert held.in_flight == 1
    assert not after.endpoints[0].available(NOW)
    assert after.endpoints[1].spec.weight == 2
    assert before.give_back(held) is None
    assert held.in_flight == 0


def test_reload_that_trusts_others_makes_new_endpoints_of_those_in_tls() -> None:
    specs = (EndpointSpec(Address("a", 443, tls=True)), EndpointSpec(Address("a", 80)))
    before = Pool(PoolSpec("app", specs), None)
    same = Pool(PoolSpec("app", specs), before)
    assert same.endpoints == before.endpoints
    strict = TlsSpec(ca_file="/ca.pem")
    after = Pool(PoolSpec("app", specs, tls=strict), same)
    assert after.endpoints[0] not in before.members
    assert after.endpoints[0].tls == strict
    assert after.endpoints[1] is before.endpoints[1]


def test_reload_that_disables_an_endpoint_stops_its_traffic() -> None:
    before = Pool(spec(1, 1), None)
    after = Pool(spec(1, 1, disabled=(0,)), before)
    assert {brief(after) for _ in range(4)} == {1}


def test_reload_with_a_higher_limit_wakes_those_who_wait() -> None:
    before = Pool(spec(1, in_flight_max=1), None)
    took(before)
    ticket = waiting(before, "a")
    after = Pool(spec(1, in_flight_max=3), before)
    assert after.waiting == 1
    assert after.wake(NOW) == [ticket]


def test_reload_with_a_lower_limit_waits_until_enough_are_over() -> None:
    before = Pool(spec(1, in_flight_max=3), None)
    held = [took(before) for _ in range(3)]
    after = Pool(spec(1, in_flight_max=1), before)
    assert after.wake(NOW) == []
    waiting(after, "a")
    assert after.wake(NOW) == []
    for each in held[:2]:
        before.give_back(each)
        assert after.choose(NOW) is None
    before.give_back(held[2])
    assert after.choose(NOW) is held[0]


def test_slot_of_the_old_pool_goes_to_a_waiter_of_the_new_one() -> None:
    before = Pool(spec(1, in_flight_max=1), None)
    held = took(before)
    after = Pool(spec(1, in_flight_max=1), before)
    ticket = waiting(after, "a")
    assert before.give_back(held) is ticket


def test_slot_that_the_first_waiter_cannot_use_goes_to_one_who_can() -> None:
    before = Pool(spec(1, in_flight_max=1), None)
    took(before)
    old = waiting(before, "old")
    after = Pool(spec(1, 1, in_flight_max=1), before)
    added = took(after)
    assert port(added) == 1
    assert after.give_back(added) is None  # It is not in the old waiter's pool.
    new = waiting(after, "new")
    assert took(after) is added
    assert after.give_back(added) is new
    assert before.cancel(old) is None


def test_weights_that_change_do_not_leave_debts() -> None:
    before = Pool(spec(1000, 1), None)
    for _ in range(3):
        brief(before)
    after = Pool(spec(1, 1), before)
    assert [brief(after) for _ in range(4)] == [0, 1, 0, 1]


def test_reload_without_change_does_not_start_the_round_over() -> None:
    before = Pool(spec(1, 1), None)
    assert brief(before) == 0
    assert brief(Pool(spec(1, 1), before)) == 1


def test_endpoint_that_nobody_probes_any_more_is_taken_as_healthy() -> None:
    probed = Pool(spec(1, 1, probe=ProbeSpec()), None)
    probed.endpoints[0].probed(False, rise=1, fall=1)
    still = Pool(spec(1, 1, probe=ProbeSpec(interval_s=1.0)), probed)
    assert not still.endpoints[0].available(NOW)
    after = Pool(spec(1, 1), still)
    assert after.endpoints[0].available(NOW)


def test_retry_budget_outlives_a_reload_and_takes_its_new_share() -> None:
    strict = PoolSpec("app", (), retry_budget_ratio=0.5, retries_min_per_s=0.0)
    before = Pool(strict, None)
    for _ in range(4):
        before.budget.note_request(NOW)
    assert before.budget.may_retry(NOW)
    after = Pool(strict, before)
    assert after.budget.may_retry(NOW)
    assert not after.budget.may_retry(NOW)
    generous = Pool(PoolSpec("app", (), retry_budget_ratio=1.0, retries_min_per_s=0.0), after)
    assert generous.budget.may_retry(NOW)


def test_who_waits_at_a_pool_that_follows_goes_to_its_new_endpoints() -> None:
    before = Pool(structs.replace(spec(1, in_flight_max=1), follows=True), None)
    took(before)
    ticket = before.wait("me", 1)
    assert ticket is not None
    other = EndpointSpec(Address("new", 1))
    after = Pool(structs.replace(before.spec, endpoints=(other,)), before)
    assert after.wake(NOW) == [ticket]
    after.wait_again(ticket)
    assert ticket.pool is after
    assert after.cancel(ticket) is None


def test_who_waits_at_any_other_pool_stays_with_its_endpoints() -> None:
    before = Pool(spec(1, in_flight_max=1), None)
    took(before)
    ticket = before.wait("me", 1)
    assert ticket is not None
    after = Pool(structs.replace(before.spec, endpoints=(EndpointSpec(Address("new", 1)),)), before)
    assert after.wake(NOW) == []
    assert ticket.pool is before

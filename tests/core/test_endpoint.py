"""One endpoint, as traffic and probes teach about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec, TlsSpec
from loomproxy.core.fault import FAULTS, PROVIDER_ERROR, Fault, Side
from loomproxy.core.units import Instant

POLICY = EjectionPolicy(failures=3, time_s=5.0, time_max_s=60.0)
NOW = Instant(1000.0)


def after(seconds: float) -> Instant:
    return Instant(NOW + seconds)


def endpoint(policy: EjectionPolicy = POLICY, *, enabled: bool = True) -> Endpoint:
    return Endpoint(EndpointSpec(Address("app", 9000), enabled=enabled), policy)


def fail(one: Endpoint, times: int, at: Instant = NOW) -> None:
    for _ in range(times):
        one.observe(faults.CONNECT_FAILED, at)


@pytest.mark.parametrize(
    ("address", "text", "authority"),
    [
        (Address("app", 9000), "http://app:9000", b"app:9000"),
        (Address("app", 80), "http://app:80", b"app"),
        (Address("app", 443, tls=True), "https://app:443", b"app"),
        (Address("app", 80, tls=True), "https://app:80", b"app:80"),
        (Address("::1", 443, tls=True), "https://[::1]:443", b"[::1]"),
        (Address("::1", 9000), "http://[::1]:9000", b"[::1]:9000"),
        (Address("::1", 80), "http://[::1]:80", b"[::1]"),
        (Address(path="/run/app.sock"), "unix:/run/app.sock", b"localhost"),
    ],
)
def test_address_is_shown_as_configured_and_sent_as_authority(
    address: Address, text: str, authority: bytes
) -> None:
    one = Endpoint(EndpointSpec(address), POLICY)
    assert str(address) == one.name == text
    assert address.authority == one.authority == authority


def test_endpoint_proves_itself_only_where_its_address_says_so() -> None:
    tls = TlsSpec(ca_file="/ca.pem")
    secured = EndpointSpec(Address("app", 443, tls=True))
    assert Endpoint(secured, POLICY).tls == TlsSpec()
    assert Endpoint(secured, POLICY, tls).tls == tls
    assert Endpoint(EndpointSpec(Address("app", 80)), POLICY, tls).tls is None


def test_new_endpoint_gets_traffic() -> None:
    assert endpoint().available(NOW)
    assert endpoint().available(Instant(0.0))


def test_disabled_endpoint_gets_none() -> None:
    assert not endpoint(enabled=False).available(NOW)


def test_failures_in_a_row_take_it_out_for_a_while() -> None:
    one = endpoint()
    fail(one, 2)
    assert one.available(NOW)
    fail(one, 1)
    assert not one.available(NOW)
    assert not one.available(after(4.999))
    assert one.available(after(5.0))
    assert one.healthy  # Only probes say that.
    assert one.failed == 3


def test_success_between_failures_keeps_it_in() -> None:
    one = endpoint()
    for _ in range(10):
        fail(one, 2)
        one.observe(None, NOW)
    assert one.available(NOW)
    assert one.failures == 0


def test_faults_of_others_teach_nothing() -> None:
    one = endpoint(EjectionPolicy(failures=1))
    for fault in FAULTS.values():
        if fault.side is not Side.UPSTREAM:
            one.observe(fault, NOW)
    assert one.available(NOW)
    assert one.failed == 0


OF_UPSTREAMS = [each for each in FAULTS.values() if each.side is Side.UPSTREAM]


def test_an_endpoint_that_says_in_order_that_it_cannot_is_well() -> None:
    one = endpoint(EjectionPolicy(failures=1))
    one.observe(PROVIDER_ERROR, NOW)
    assert one.available(NOW)
    assert not one.failed


@pytest.mark.parametrize("fault", [each for each in OF_UPSTREAMS if each is not PROVIDER_ERROR])
def test_each_upstream_fault_counts(fault: Fault) -> None:
    one = endpoint(EjectionPolicy(failures=1))
    one.observe(fault, NOW)
    assert not one.available(NOW)


def test_one_bad_moment_with_many_in_flight_is_one_ejection() -> None:
    one = endpoint()
    fail(one, 100)
    assert one.ejections == 1
    assert one.available(after(5.0))
    assert one.failed == 100


def test_late_success_from_before_does_not_end_an_ejection_or_its_probation() -> None:
    one = endpoint()
    fail(one, 3)
    one.observe(None, after(1.0))
    assert not one.available(after(1.0))
    fail(one, 1, after(6.0))
    assert not one.available(after(6.0))


def test_first_failure_after_it_came_back_takes_it_out_for_twice_as_long() -> None:
    one = endpoint()
    fail(one, 3)
    fail(one, 1, after(5.0))
    assert not one.available(after(14.9))
    assert one.available(after(15.0))


def test_first_success_after_it_came_back_ends_the_probation() -> None:
    one = endpoint()
    fail(one, 3)
    one.observe(None, after(5.0))
    fail(one, 2, after(5.0))
    assert one.available(after(5.0))


def test_ejections_do_not_last_longer_than_the_maximum() -> None:
    one = endpoint()
    at = NOW
    for _ in range(2000):  # far beyond where doubling floats would overflow
        fail(one, 3, at)
        assert one.ejected_until - at <= POLICY.time_max_s
        at = one.ejected_until
    assert not one.available(Instant(at - 59.0))


def test_endpoint_that_stayed_in_long_enough_starts_over() -> None:
    one = endpoint()
    fail(one, 3)
    fail(one, 1, after(5.0))  # out until 15
    fail(one, 1, after(15.0 + 60.1))
    assert one.available(after(15.0 + 60.1 + 5.0))


def test_ejection_can_be_turned_off() -> None:
    one = endpoint(EjectionPolicy(failures=0))
    fail(one, 1000)
    assert one.available(NOW)


def test_probes_need_to_agree_before_they_change_anything() -> None:
    one = endpoint()
    for ok in (False, False, True, False, False):
        assert not one.probed(ok, rise=2, fall=3)
    assert one.available(NOW)
    assert one.probed(False, rise=2, fall=3)
    assert not one.available(NOW)
    assert not one.probed(True, rise=2, fall=3)
    assert not one.probed(False, rise=2, fall=3)
    assert not one.probed(True, rise=2, fall=3)
    assert one.probed(True, rise=2, fall=3)
    assert one.available(NOW)


def test_endpoint_without_probes_any_more_is_taken_as_healthy() -> None:
    one = endpoint()
    one.probed(False, rise=1, fall=1)
    one.unprobed()
    assert one.available(NOW)


def test_endpoint_names_itself_in_assertions() -> None:
    assert repr(endpoint()) == "<Endpoint http://app:9000 in_flight=0>"


@given(
    st.lists(
        st.tuples(st.floats(0.0, 30.0), st.sampled_from([None, faults.UPSTREAM_TIMEOUT])),
        max_size=200,
    ),
    st.integers(1, 5),
)
def test_it_always_comes_back_within_the_maximum(
    story: list[tuple[float, Fault | None]], failures: int
) -> None:
    policy = EjectionPolicy(failures=failures, time_s=1.0, time_max_s=20.0)
    one = endpoint(policy)
    at = NOW
    for wait_s, fault in story:
        at = Instant(at + wait_s)
        was_in = one.available(at)
        row = one.failures
        one.observe(fault, at)
        assert one.ejected_until <= at + policy.time_max_s
        assert one.available(Instant(max(at, one.ejected_until)))
        if was_in and not one.available(at):
            assert row + 1 >= failures

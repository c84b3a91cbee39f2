"""When probes take a plugin out, bring it back, and find it hung."""

from loomproxy.plugins.pulse import UNSETTLED_INTERVAL_S, Pulse


def test_two_bad_probes_take_it_out_and_two_good_ones_bring_it_back() -> None:
    pulse = Pulse()
    assert not pulse.answered(healthy=False)
    assert not pulse.answered(healthy=True)  # one alone was a hiccup
    assert not pulse.answered(healthy=False)
    assert pulse.healthy
    assert pulse.answered(healthy=False)
    assert not pulse.healthy
    assert not pulse.answered(healthy=True)
    assert not pulse.answered(healthy=False)
    assert not pulse.answered(healthy=True)
    assert pulse.answered(healthy=True)
    assert pulse.healthy


def test_silence_counts_as_bad_and_three_times_in_a_row_as_hung() -> None:
    pulse = Pulse()
    assert not pulse.silent()
    assert pulse.silent()
    assert (pulse.healthy, pulse.hangs) == (False, False)
    assert not pulse.answered(healthy=False)  # it lives
    for hangs in (False, False, True):
        assert not pulse.silent()
        assert pulse.hangs is hangs


def test_next_probe_is_soon_until_it_is_settled() -> None:
    pulse = Pulse()
    assert pulse.next_in_s(60.0) == 60.0
    pulse.answered(healthy=False)
    assert pulse.next_in_s(60.0) == UNSETTLED_INTERVAL_S
    assert pulse.next_in_s(0.1) == 0.1
    pulse.answered(healthy=False)
    pulse.answered(healthy=True)
    assert pulse.next_in_s(60.0) == UNSETTLED_INTERVAL_S
    pulse.answered(healthy=True)
    assert pulse.next_in_s(60.0) == 60.0

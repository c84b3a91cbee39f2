"""Request bytes that are kept: until an upstream takes them, and beyond for another attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.replay import PIECES_MAX, Replay


def test_what_was_kept_is_given_once_to_each_attempt() -> None:
    replay = Replay(10)
    replay.add(b"abc")
    replay.add(b"def")
    assert replay.take() == b"abcdef"
    assert replay.take() == b""
    replay.add(b"gh")
    assert replay.take() == b"gh"
    replay.rewind()
    assert replay.take() == b"abcdefgh"
    assert replay.whole


def test_a_request_as_large_as_the_bound_can_be_repeated() -> None:
    replay = Replay(4)
    replay.add(b"1234")
    assert not replay.over
    assert replay.take() == b"1234"
    assert replay.whole


def test_a_larger_one_is_over_until_it_is_taken_and_never_repeated() -> None:
    replay = Replay(4)
    replay.add(b"12345")
    assert replay.over
    assert replay.whole
    replay.rewind()
    assert replay.take() == b"12345"
    assert not replay.over
    assert not replay.whole
    replay.add(b"6")
    assert replay.take() == b"6"
    with pytest.raises(AssertionError, match="no longer held"):
        replay.rewind()


def test_crumbs_cost_memory_too() -> None:
    """A client that sends single bytes must not make us hold an object for each of many."""
    replay = Replay(1 << 20)
    for _ in range(PIECES_MAX):
        replay.add(b"x")
    assert not replay.over
    replay.add(b"x")
    assert replay.over
    assert replay.take() == b"x" * (PIECES_MAX + 1)
    assert not replay.whole


@given(
    st.integers(0, 30),
    st.lists(st.one_of(st.binary(max_size=8), st.sampled_from(["take", "rewind"])), max_size=40),
)
def test_each_attempt_gets_a_beginning_of_the_request(
    bytes_max: int, steps: list[bytes | str]
) -> None:
    replay, all_of_it, taken = Replay(bytes_max), b"", b""
    for step in steps:
        if isinstance(step, bytes):
            replay.add(step)
            all_of_it += step
        elif step == "take":
            taken += replay.take()
            assert taken == all_of_it
        elif replay.whole:
            replay.rewind()
            taken = b""
        assert replay.over is (len(all_of_it) > bytes_max and replay.whole) or not replay.whole

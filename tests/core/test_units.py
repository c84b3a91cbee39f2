"""Moments, durations and sizes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.units import NEVER, Instant, duration_s, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("10us", 1e-5),
        (" 3 s ", 3.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 parsecs", "5s5s", "1e3s", "٣s", "nans"])
def test_what_is_no_duration_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="write 250ms, 5s, 2m, 1h or a number of seconds"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0B", 0), ("64KiB", 65536), ("10MB", 10_000_000), ("1GiB", 1 << 30), ("1.5kB", 1500)],
)
def test_a_size_is_read_as_people_write_it(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "64", "KiB", "-1B", "64 kib", "1TiB"])
def test_what_is_no_size_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="write 64KiB, 10MB, 1GiB or a number of bytes"):
        size_bytes(text)


@given(st.floats(min_value=0, max_value=1e15))
def test_never_is_later_than_every_moment(moment: float) -> None:
    assert Instant(moment) < NEVER


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_and_never_negative(text: str) -> None:
    for read in (duration_s, size_bytes):
        with suppress(ValueError):
            assert read(text) >= 0

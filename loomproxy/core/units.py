"""Moments, durations and sizes: what they are and how people write them.

A moment (`Instant`) ends in `_at`, a duration in `_s`, a size in `_bytes`. Durations are plain
floats of seconds; moments are kept apart from them by type.
"""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:

    class Instant(float):
        """A moment on a monotonic clock, in seconds. Only differences mean anything."""

        def __add__(self, seconds: float, /) -> "Instant":
            """So much later."""

else:
    # To the type checker a kind of its own, at run time a float: a call for each moment would cost
    # as much as reading the clock.
    Instant = float

NO_MOMENT: Final = Instant(0.0)
"""Where a moment has not come yet."""

NEVER: Final = Instant(float("inf"))
"""Later than every moment: the deadline of what has none."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)", re.ASCII)
_DURATION_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)", re.ASCII)
_SIZE_BYTES: Final = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1 << 10,
    "MB": 1000**2,
    "MiB": 1 << 20,
    "GB": 1000**3,
    "GiB": 1 << 30,
}


def duration_s(text: str) -> float:
    """Seconds written as `250ms`, `5s`, `1.5m`; raise ValueError that says what was expected."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; write 250ms, 5s, 2m, 1h or a number of seconds"
        )
    return float(match[1]) * _DURATION_S[match[2]]


def size_bytes(text: str) -> int:
    """Bytes written as `64KiB` or `10MB`; raise ValueError that says what was expected."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 64KiB, 10MB, 1GiB or a number of bytes")
    return int(float(match[1]) * _SIZE_BYTES[match[2]])

"""The worker's clocks.

`monotonic` for every duration and deadline: seconds, finer than the event loop's own time, which
stands still during a turn. `wall` for the time of day in the access log, and for nothing else.
"""

from email.utils import formatdate
from time import monotonic
from time import time as wall  # noqa: TID251 - the one place where the time of day is read


def http_date() -> bytes:
    """Now, as in the Date field (RFC 9110 §5.6.7)."""
    return formatdate(wall(), usegmt=True).encode("ascii")


__all__ = ["http_date", "monotonic", "wall"]

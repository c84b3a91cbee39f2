"""The worker's clocks.

`monotonic` for every duration and deadline: seconds, finer than the event loop's own time, which
stands still during a turn. `wall` for the time of day in the access log, and for nothing else.
"""

from time import monotonic
from time import time as wall  # noqa: TID251 - the one place where the time of day is read

__all__ = ["monotonic", "wall"]

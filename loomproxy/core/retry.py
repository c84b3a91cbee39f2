"""Whether an attempt may be repeated, and whether the retry budget can afford it.

Two questions, asked in this order. `may_repeat` is about safety and is pure: the theory stands in
`fault`, beside the retry class of each fault. `RetryBudget` is about the whole: when an upstream
fails for everybody, each exchange would like to go again, and the retries would be the outage. So
they may be at most a share of recent requests, and a small number per second for pools with little
traffic (the idea is Finagle's RetryBudget).
"""

from typing import Final, Protocol

from loomproxy.core.fault import Again, Fault
from loomproxy.core.message import IDEMPOTENT
from loomproxy.core.units import Instant

WINDOW_S: Final = 10
"""How far back "recent" goes, in whole seconds. Finagle's default; long enough to be smooth at ten
requests a second, short enough that a burst of an hour ago pays for nothing."""


class AttemptsPolicy(Protocol):
    """What this module needs of a route's retry policy."""

    @property
    def attempts_max(self) -> int:
        """Attempts in all, 1..10; 1: never again."""


def may_repeat(
    fault: Fault,
    *,
    method: bytes,
    reused: bool,
    replayable: bool,
    attempts: int,
    policy: AttemptsPolicy,
) -> bool:
    """Whether it is safe to repeat a request after its attempt number `attempts` met `fault`.

    `reused`: the attempt's connection had carried an exchange before. `replayable`: the request is
    still held as a whole, and nothing of an answer was passed on. If this is true, ask the budget.
    """
    if attempts >= policy.attempts_max or not replayable:
        return False
    if fault.again is Again.IF_REUSED:
        # RFC 9110 §9.2.2: a proxy must not repeat requests with a non-idempotent method. The peer
        # may have acted on it before it closed; only an idempotent one can be sent regardless.
        return reused and method in IDEMPOTENT
    return fault.again is Again.ELSEWHERE


class RetryBudget:
    """What retries may be: `ratio` of the requests of the last `WINDOW_S`, plus `min_per_s`.

    The window is a ring of whole seconds, so it is bounded in memory and forgets in steps. A budget
    outlives reloads; they change `ratio` and `min_per_s`, and what was counted stays.
    """

    __slots__ = ("_requests", "_retries", "_second", "_slot", "min_per_s", "ratio")

    def __init__(self, *, ratio: float = 0.2, min_per_s: float = 3.0) -> None:
        self.ratio = ratio  # 0..1
        self.min_per_s = min_per_s  # always allowed
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._second = 0  # the second that `_slot` counts
        self._slot = 0

    def note_request(self, now: Instant) -> None:
        """Count a request (not its further attempts). On the road of each request: kept short."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._requests[self._slot] += 1

    def may_retry(self, now: Instant) -> bool:
        """Whether one more retry is affordable. True has spent it: go again."""
        self._turn(int(now))
        allowed = self.ratio * sum(self._requests) + self.min_per_s * WINDOW_S
        if sum(self._retries) + 1 > allowed:
            return False
        self._retries[self._slot] += 1
        return True

    def _turn(self, second: int) -> None:
        """Forget the seconds that left the window."""
        for gone in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._requests[gone % WINDOW_S] = 0
            self._retries[gone % WINDOW_S] = 0
        self._second = second
        self._slot = second % WINDOW_S

"""How long a client may still owe its body, reckoned anew from all that happened to it.

The exchange keeps a sum and moves it; here a list is kept, and nothing is carried along.
"""

from typing import Any

from loomproxy.core import event as e
from loomproxy.core.message import RequestPart, ResponseHead, ResponsePart
from loomproxy.core.units import NEVER, Instant
from tests.sim.settings import TIMEOUTS


class Sending:
    """What one client did with its body in one attempt, or since the answer moved."""

    def __init__(self) -> None:
        self.happened: list[tuple[Instant, int]] = []  # when, how many bytes; -1: held back
        self.full = False

    def note(self, event: Any, phase: str, now: Instant) -> None:
        """`event` was told in `phase`."""
        kind = type(event)
        answered = kind is ResponsePart or (kind is ResponseHead and not event.is_interim)
        if answered or (kind is RequestPart and event.ended):
            self.happened.clear()
        elif kind is e.UpstreamFull or kind is e.UpstreamTaken:
            self.full = kind is e.UpstreamFull
            if self.happened:
                self.happened.append((now, -1 if self.full else 0))
        elif kind is RequestPart and phase in "HD":
            self.happened.append((now, len(event.data)))
            if self.full:
                self.happened.append((now, -1))

    @property
    def deadline_at(self) -> Instant:
        """When the client must have sent more; NEVER: nothing was measured, or it is held back."""
        left_s, at = self._left()
        return NEVER if self.full or not self.happened else Instant(at + left_s)

    @property
    def is_behind(self) -> bool:
        """Whether its last part left it with less than all the time there is."""
        parts = [place for place, (_, size) in enumerate(self.happened) if size > 0]
        if not parts:
            return False
        return self._left(parts[-1] + 1)[0] < TIMEOUTS.idle_s

    def _left(self, count: int | None = None) -> tuple[float, Instant]:
        """What is left after the first `count` happenings, and when that was."""
        left_s, since, held = TIMEOUTS.idle_s, NEVER, False
        for place, (at, size) in enumerate(self.happened[:count]):
            if place and not held:
                left_s = max(0.0, left_s - (at - since))
            if place and size > 0:
                left_s = min(TIMEOUTS.idle_s, left_s + size / TIMEOUTS.body_bytes_min_per_s)
            since, held = at, size == -1 or (held and size > 0)
        return left_s, since

"""When to look at which deadline, without a timer object per deadline.

Most deadlines never pass: the answer comes first, and the deadline moves later or away. So the
wheel files an entry under the moment at which it must be *looked at*, and a deadline that only
moves later is not told to the wheel at all. When the moment comes, the entry is either due, or
filed again under the deadline it has by then, or has none and is dropped. An entry is therefore
touched about once per length of its deadline, however many exchanges pass meanwhile.

    deadline_at   3.2 ──► 7.9 ──► 9.1          moved later twice: nothing happens
    filed         at 3.25 ............ looked at: not due, filed at 9.125 ...... looked at: due

An entry is in one bucket at most, so the memory is bounded by the number of entries. Nothing is
ever due early; it is due at most `TICK_S` late, plus the caller's own delay between two looks.
"""

from typing import Final, Generic, Protocol, TypeVar

from loomproxy.core.units import NEVER, Instant

TICK_S: Final = 0.125
"""How finely moments are told apart, in seconds. A power of two, so that moments and ticks convert
without rounding. Deadlines of a proxy are seconds; nginx and HAProxy also group theirs."""


class Entry(Protocol):
    """What can be filed: hashed by identity, with two moments."""

    deadline_at: Instant  # the owner's; NEVER: none
    scheduled_at: Instant  # the wheel's; begins as NEVER: not filed

    def __hash__(self) -> int:
        """By identity."""


Filed = TypeVar("Filed", bound=Entry)


class Wheel(Generic[Filed]):
    """Deadlines of many entries, in buckets of `TICK_S`."""

    __slots__ = ("_buckets", "_tick")

    def __init__(self) -> None:
        # A dict without values is a set that remembers its order, so that runs can be repeated.
        self._buckets: dict[int, dict[Filed, None]] = {}
        self._tick = 0  # all buckets up to this one have been looked at

    def __len__(self) -> int:
        """How many entries are filed."""
        return sum(map(len, self._buckets.values()))

    def schedule(self, entry: Filed) -> None:
        """Make sure that `entry` is looked at when its deadline has passed.

        Call it when a deadline was set; callers in a hurry skip the call themselves while
        `entry.deadline_at >= entry.scheduled_at`, for then there is nothing to do.
        """
        if entry.deadline_at < entry.scheduled_at:
            self.forget(entry)
            self._file(entry)

    def forget(self, entry: Filed) -> None:
        """Drop `entry` at once, so that nothing of it is held. Does nothing if it is not filed."""
        if entry.scheduled_at == NEVER:
            return
        tick = _tick_after(entry.scheduled_at)
        bucket = self._buckets[tick]
        del bucket[entry]
        if not bucket:
            del self._buckets[tick]
        entry.scheduled_at = NEVER

    def expired(self, now: Instant) -> list[Filed]:
        """Entries whose deadline has passed, in the order of their buckets.

        They are not filed any more. The owner of each must act on it, and set another deadline
        or NEVER.
        """
        tick = int(now / TICK_S)
        due: list[Filed] = []
        for bucket in self._passed(tick):
            for entry in bucket:
                entry.scheduled_at = NEVER
                if entry.deadline_at <= now:
                    due.append(entry)
                elif entry.deadline_at != NEVER:
                    self._file(entry)
        return due

    def _passed(self, tick: int) -> list[dict[Filed, None]]:
        """Take out the buckets up to `tick`, oldest first."""
        buckets = self._buckets
        if tick - self._tick <= len(buckets):
            ticks = [each for each in range(self._tick + 1, tick + 1) if each in buckets]
        else:  # The first look, or one after a long sleep: there are fewer buckets than ticks.
            ticks = sorted(each for each in buckets if each <= tick)
        self._tick = max(self._tick, tick)
        return [buckets.pop(each) for each in ticks]

    def _file(self, entry: Filed) -> None:
        # A deadline in the past is filed under the next tick, which is looked at next.
        entry.scheduled_at = max(entry.deadline_at, Instant(self._tick * TICK_S))
        self._buckets.setdefault(_tick_after(entry.scheduled_at), {})[entry] = None


def _tick_after(moment: Instant) -> int:
    return int(moment / TICK_S) + 1

r"""How fast a client has to be: waits that its bytes prolong, by no more than they are worth.

A timeout that every byte renews is no bound. A client that sends one byte just before it would
end, again and again, holds its exchange for ever, and with it an upstream, and needs no strength to
do so to a thousand. So a byte buys only the time in which, at the lowest speed that is allowed, it
would have come.

    patience  60 ┤\           /\
                 │ \         /  \/\        sends little: each byte gives back
                 │  \_______/      \/\     less than waiting for it took
               0 ┤  held back         \__ too slow

* **Sending** (`Pace`). The client has `patience_s` at first. Waiting for it uses that up, each byte
  gives 1 / `bytes_min_per_s` seconds back, and there is never more than `patience_s`. So a stall up
  to that is forgiven to who was fast before, as without a lowest speed, and who is slower than it
  runs out of patience, however the bytes are spread. While we hold the client back nothing is used
  up.
* **Taking** (`is_too_slow`). What a client has taken is known only when the kernel is asked, which
  is done once in each `timeouts.send` in which it took less than all. In each of these it has to
  take what the lowest speed asks for. A client for which nothing is left has nothing to take:
  streams that are silent for hours are not measured.

Others: Kestrel asks for 240 bytes a second in both directions after 5 s of grace, Apache's
mod_reqtimeout for 500 of a request body after 20 s. nginx and HAProxy renew with each byte.
"""

from loomproxy.core.units import NEVER, Instant


class Pace:
    """The patience with one client that sends a body, from `now`, its first part, on.

    `bytes_min_per_s` is above 0: where no speed is asked for, there is no pace.
    """

    __slots__ = ("_bytes_min_per_s", "_left_s", "_patience_s", "_since", "is_behind")

    def __init__(self, patience_s: float, bytes_min_per_s: int, now: Instant) -> None:
        self._patience_s = patience_s
        self._bytes_min_per_s = bytes_min_per_s
        self._left_s = patience_s  # at `_since`
        self._since = now  # NEVER: the client is held back
        self.is_behind = False  # it was slow when it sent last: it is not that it only stopped

    def moved(self, size: int, now: Instant) -> None:
        """`size` bytes came."""
        self._use_up(now)
        self._left_s = min(self._patience_s, self._left_s + size / self._bytes_min_per_s)
        self.is_behind = self._left_s < self._patience_s

    def hold(self, now: Instant) -> None:
        """The client is held back from here on; it may be so already."""
        self._use_up(now)
        self._since = NEVER

    def go(self, now: Instant) -> None:
        """The client may send again; it may be so already."""
        if self._since == NEVER:
            self._since = now

    @property
    def deadline_at(self) -> Instant:
        """When patience ends if nothing comes; NEVER while the client is held back."""
        return Instant(self._since + self._left_s)

    def _use_up(self, now: Instant) -> None:
        if self._since != NEVER:
            self._left_s = max(0.0, self._left_s - (now - self._since))
            self._since = now


def is_too_slow(taken_bytes: int, within_s: float, bytes_min_per_s: int) -> bool:
    """Whether a client that could have taken more than `taken_bytes` in this time is too slow."""
    return taken_bytes < within_s * bytes_min_per_s

"""Keeps a plugin whose own files change all the time from being reloaded all the time.

Most often it is the plugin that changes them: it writes in its folder whenever it starts, is
reloaded for that, starts, and writes. Here it is decided how soon what the watch saw is followed.
What an operator says is not held back; nor is a plugin that cannot serve, for the change may mend
it: such attempts are counted by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from loomproxy.log import log
from loomproxy.plugins.wish import Wish

RELOADS_OFTEN: Final = 20
"""So many changes within a minute are followed at once; the next when the oldest is a minute old.

Then the newest of those that came meanwhile counts, and the others never happened.
"""

MINUTE_S: Final = 60.0


class Throttle:
    """Lets changes of one plugin through, or holds the newest; `release` gets it when it is due."""

    def __init__(self, provider_type: str, release: Callable[[Wish], None]) -> None:
        self._provider_type = provider_type
        self._release = release
        self._reloads: deque[float] = deque(maxlen=RELOADS_OFTEN)  # when they were let through
        self._attempts: deque[float] = deque(maxlen=RELOADS_OFTEN)  # likewise, where it is no use
        self._held: Wish | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = -MINUTE_S
        self._loop = asyncio.get_running_loop()

    @property
    def trouble(self) -> str:
        """Why what the files say is not followed yet, in words for operators; "" when it is."""
        if self._held is None:
            return ""
        return (
            f"not reloaded: its folder changed {RELOADS_OFTEN} times within a minute; does it "
            "write there? Have it write elsewhere, or to a name that is passed over, such as "
            "*.log, *.tmp or *.db. Its newest change is followed when the oldest of these is a "
            "minute old, or by `loomproxy plugins reload` at once."
        )

    def holds(self, wish: Wish, *, serves: bool) -> bool:
        """Whether `wish`, which the watch saw, has to wait; if so it is kept, and released."""
        passed = self._reloads if serves else self._attempts
        now = self._loop.time()
        due_at = passed[0] + MINUTE_S if len(passed) == RELOADS_OFTEN else now
        if due_at <= now:
            passed.append(now)
            return False
        self.drop()
        self._held = wish
        self._timer = self._loop.call_at(due_at, self._due, passed)
        if now - self._told_at >= MINUTE_S:
            self._told_at = now
            log(
                "plugin reloads often",
                level="warning",
                plugin=self._provider_type,
                reason=self.trouble,
            )
        return True

    def drop(self) -> Wish | None:
        """Hold nothing any more; return what was held."""
        held, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return held

    def _due(self, passed: deque[float]) -> None:
        held = self.drop()
        assert held is not None
        passed.append(self._loop.time())
        self._release(held)

"""The last lines that a plugin said, for whoever asks or follows.

They are in the proxy's own log as well, where a rate bounds them; here are the last ones whole.
"""

import asyncio
from collections import deque
from typing import Final

from loomproxy.plugins.status import LogLine

LINES_MAX: Final = 1000
"""How many are kept of each plugin, all its processes together; the oldest go first."""


class Lines:
    """The lines of one plugin."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=LINES_MAX)
        self._last = 0  # the number of the newest
        self._more = asyncio.Event()

    def add(self, generation: int, replica: int, stream: str, text: str) -> None:
        """One of its processes said `text`."""
        self._last += 1
        self._lines.append(LogLine(self._last, generation, replica, stream, text))
        self._more.set()

    def since(self, number: int, limit: int) -> tuple[LogLine, ...]:
        """The lines after `number`, oldest first; of more than `limit` the newest."""
        if limit <= 0:
            return ()
        number = self._known(number)
        return tuple(line for line in self._lines if line.number > number)[-limit:]

    def _known(self, number: int) -> int:
        """What a reader has seen: nothing, when its number is of a plugin of this name before."""
        return number if number <= self._last else 0

    async def until(self, number: int, timeout_s: float) -> bool:
        """Wait until there is a line after `number`, so long at most; return whether there is."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._last <= self._known(number):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            return False
        return True

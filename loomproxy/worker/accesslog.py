"""The access log: one line per exchange, written off the loop.

Lines are gathered in memory and handed to the file in batches by a task of its own, through a
thread (aiofiles), so that a slow disk or a full pipe never stops traffic. What is gathered is
bounded: beyond `BACKLOG_BYTES_MAX` lines are lost, counted and reported, because serving comes
first.
"""

import asyncio
import errno
import sys
from collections.abc import Callable
from typing import Any, Final

import aiofiles

from loomproxy.core.outcome import Outcome
from loomproxy.worker.lines import Line

BACKLOG_BYTES_MAX: Final = 16 << 20
"""What may wait for a disk that does not take it, 16 MiB: about half a second of lines at full
speed.
"""

FLUSH_S: Final = 0.2
"""How long a line may wait for others to join it."""

RETRY_S: Final = 1.0
"""How long to wait after the file could not be written."""


class AccessLog:
    """One worker's access log.

    `trouble` is told why writing fails and how many lines are lost so far: once for each reason
    until something is written again, and at the end if lines are left.
    """

    def __init__(self, path: str, line: Line, trouble: Callable[[str, int], None]) -> None:
        self._path = path
        self._line = line
        self._trouble = trouble
        self._lines: list[bytes] = []
        self._untaken = b""  # of the batch that is being written
        self._bytes = 0  # of both
        self._wanted = asyncio.Event()  # there is something to do
        self._closing = False
        self._reopen = False
        self._told = ""  # the trouble we are in
        self.lost = 0  # lines, since the worker was started

    def write(self, outcome: Outcome) -> None:
        """Write down one exchange; never waits."""
        if self._path == "off":
            return
        if self._bytes > BACKLOG_BYTES_MAX:
            self.lost += 1
            return
        line = self._line(outcome)
        if not self._lines:
            self._wanted.set()
        self._lines.append(line)
        self._bytes += len(line)

    def reopen(self) -> None:
        """The file was renamed: go on in a new one."""
        self._reopen = True
        self._wanted.set()

    def close(self) -> None:
        """Write what is left, then `run` ends."""
        self._closing = True
        self._wanted.set()

    async def run(self) -> None:
        """Carry lines to the file until `close`."""
        while self._path != "off" and (self._bytes or not self._closing):
            try:
                await self._run_file()
            except OSError as error:
                reason = f"{self._path}: {error.strerror or error}"
                if self._closing:
                    self._lose()
                if self._closing or reason != self._told:
                    self._told = reason
                    self._trouble(reason, self.lost)
                await self._pause(RETRY_S)

    async def _run_file(self) -> None:
        """Write to one opening of the file, until it shall be reopened."""
        self._reopen = False
        if self._bytes:  # an earlier opening did not take it
            self._wanted.set()
        async with self._opened() as file:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if not self._closing:
                    await self._pause(FLUSH_S)
                if self._reopen and not self._untaken:
                    return  # What waits goes to the new one: the old one may be gone.
                await self._carry(file)
                if self._closing and not self._bytes:
                    return
                if self._bytes or self._reopen:
                    self._wanted.set()

    async def _carry(self, file: Any) -> None:
        """Write everything; what the file does not take stays, to the byte, for the next try."""
        self._untaken += b"".join(self._lines)
        self._lines.clear()
        while self._untaken:
            taken = await file.write(self._untaken)
            if not taken:  # a full pipe that somebody made non-blocking
                raise BlockingIOError(errno.EAGAIN, "it takes no more now")
            self._untaken = self._untaken[taken:]
            self._bytes -= taken
            self._told = ""

    def give_up(self) -> None:
        """What is not written by now never will be: count it, and say so."""
        self._lose()
        self._trouble(f"{self._path}: nobody takes the last lines", self.lost)

    def _lose(self) -> None:
        """There is no other try: count what is left."""
        self.lost += self._untaken.count(b"\n") + len(self._lines)
        self._untaken = b""
        self._lines.clear()
        self._bytes = 0

    def _opened(self) -> Any:
        # Unbuffered: a buffer of the file object's own would be written twice or not at all.
        if self._path == "stdout":
            return aiofiles.open(sys.stdout.fileno(), "ab", buffering=0, closefd=False)
        return aiofiles.open(self._path, "ab", buffering=0)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when we are closing or reopening."""
        loop = asyncio.get_running_loop()
        deadline_at = loop.time() + seconds
        while not (self._closing or self._reopen):
            try:
                async with asyncio.timeout_at(deadline_at):
                    await self._wanted.wait()
            except TimeoutError:
                return
            self._wanted.clear()

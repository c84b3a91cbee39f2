"""The process of a plugin under examination: started as the proxy starts it, watched, and ended.

Nothing that it started outlives the examination, not even what left its process group: whatever
carries its token in its environment is found in /proc and killed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final

from loomproxy.plugins.export import export_sdk
from loomproxy.plugins.guest import Guest, GuestSetting, unrunnable
from loomproxy.plugins.manifest import Found
from loomproxy.plugins.traces import bearers
from loomproxy.process import Exit, environment

LINES_MAX: Final = 10_000
"""Of what it says, kept to be looked at; what comes after is counted only."""

LOOK_EVERY_S: Final = 0.02
"""How often something is looked at that nobody announces: a socket, a process of no child."""


class Seat:
    """At most one process."""

    def __init__(self) -> None:
        self.guest: Guest | None = None
        self.exit: Exit | None = None
        self.lines: list[str] = []
        self.lines_more = 0
        self._left = asyncio.Event()
        self._room: str | None = None

    def start(self, found: Found) -> None:
        """Start it; OSError when it cannot be started."""
        self._room = tempfile.mkdtemp(prefix="loomproxy-test-")
        setting = GuestSetting(
            manifest=found.manifest,
            directory=found.directory,
            place=Path(self._room) / "guest",
            environment=environment(),
            sdk=_sdk(Path(self._room) / "sdk"),
        )
        self.guest = Guest(setting, left=self._gone, said=self._said)
        self.guest.start()

    @property
    def pid(self) -> int:
        """Of the running process; 0: there is none."""
        return self.guest.pid if self.guest is not None and self.exit is None else 0

    @property
    def runnable(self) -> bool:
        """Whether it was, or still may be, a running program."""
        return self.exit is None or not unrunnable(self.exit)

    async def until_left(self, within_s: float) -> Exit | None:
        """How it left; None when it did not within this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._left.wait()
        return self.exit

    def survivors(self) -> list[int]:
        """Processes that carry its token, but for itself."""
        assert self.guest is not None
        return [pid for pid in bearers(self.guest.token) if pid != self.pid]

    def sockets(self) -> int:
        """How many sockets it and its children hold."""
        return sum(_sockets(pid) for pid in (self.pid, *self.survivors()))

    async def aclose(self) -> None:
        """End what is still there, and take its place away."""
        if self.guest is not None:
            if self.exit is None:
                with contextlib.suppress(OSError):
                    self.guest.kill()
                await self.until_left(within_s=5.0)
            for pid in self.survivors():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if self._room is not None:
            shutil.rmtree(self._room, ignore_errors=True)

    def _gone(self, how: Exit) -> None:
        self.exit = how
        self._left.set()

    def _said(self, stream: str, line: str) -> None:
        if len(self.lines) < LINES_MAX:
            self.lines.append(f"{stream}: {line}")
        else:
            self.lines_more += 1


def _sdk(into: Path) -> Path | None:
    """A copy of our SDK for the plugin, as the proxy lays one; None where we were built without."""
    try:
        return export_sdk(into)
    except ModuleNotFoundError:
        return None


async def a_moment() -> None:
    """Wait until it is time to look again at what nobody announces."""
    await asyncio.sleep(LOOK_EVERY_S)  # noqa: TID251 - the cadence of looking, bounded by who looks


def _sockets(pid: int) -> int:
    found = 0
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += entry.readlink().name.startswith("socket:")
    return found

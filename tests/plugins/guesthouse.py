"""A guest for a test: a manifest in a folder, and what became of its process."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from loomproxy.plugins.contract import Metadata
from loomproxy.plugins.guest import Guest, GuestSetting
from loomproxy.plugins.manifest import Manifest
from loomproxy.plugins.reaper import Reaper
from loomproxy.process import Exit

DEADLINE_S: Final = 30.0
METADATA: Final = Metadata(
    name="Acme", version="1.0.0", plugin_api_version="1.0.0", provider_type="acme"
)


def manifest(command: str, *args: str, **keys: Any) -> Manifest:
    """A manifest with these keys."""
    return Manifest(metadata=METADATA, command=command, args=args, **keys)


def python(code: str, **keys: Any) -> Manifest:
    """A plugin of a few lines of Python."""
    return manifest(sys.executable, "-I", "-S", "-c", code, **keys)


def shell(code: str, **keys: Any) -> Manifest:
    """A plugin of a few lines of shell."""
    return manifest("/bin/sh", "-c", code, **keys)


class Stay:
    """One guest, what it said, and its end. To be made in a running loop."""

    def __init__(
        self,
        what: Manifest,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        sdk: Path | None = None,
        reaper: Reaper | None = None,
        place: Path | None = None,
    ) -> None:
        self.lines: list[tuple[str, str]] = []
        self.place = place or folder / "run" / "acme-1"
        self._spoke = asyncio.Event()
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        setting = GuestSetting(
            what,
            folder,
            self.place,
            dict(os.environ) if environment is None else environment,
            sdk,
        )
        self.guest = Guest(setting, left=self._exit.set_result, said=self._said, reaper=reaper)

    def _said(self, stream: str, text: str) -> None:
        self.lines.append((stream, text))
        self._spoke.set()

    def texts(self, stream: str = "stdout") -> list[str]:
        """What it said on one of its streams."""
        return [text for name, text in self.lines if name == stream]

    async def has_said(self, lines: int) -> None:
        """Wait until it has said so many lines."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.lines) < lines:
                self._spoke.clear()
                await self._spoke.wait()

    async def first_line(self) -> str:
        """What it said first."""
        await self.has_said(1)
        return self.lines[0][1]

    async def left(self) -> Exit:
        """Its end."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._exit


async def until(claim: Callable[[], object]) -> None:
    """Wait for what happens in this loop."""
    async with asyncio.timeout(DEADLINE_S):
        while not claim():  # noqa: ASYNC110 # no event tells of other processes
            await asyncio.sleep(0.005)


async def stay(what: Manifest, folder: Path, **keys: Any) -> tuple[Stay, Exit]:
    """A guest from its start to its end."""
    one = Stay(what, folder, **keys)
    one.guest.start()
    return one, await one.left()


def lives(what: Manifest, folder: Path, **keys: Any) -> tuple[Stay, Exit]:
    """The same, in a loop of its own."""
    return asyncio.run(stay(what, folder, **keys))

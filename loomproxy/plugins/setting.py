"""What all plugins of a node have in common: the hands that the node lends them.

Plugins know nothing of workers, sockets or the runtime directory; what they need of them is here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loomproxy.plugins.publisher import Publisher
from loomproxy.plugins.reaper import Reaper

InFlight = Callable[[str], Awaitable[Mapping[str, int] | None]]
"""Asks how many exchanges each endpoint of a pool has, by address; None: not every worker said."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class Setting(msgspec.Struct, frozen=True):
    """Common to all plugins; made by the node."""

    environment: Mapping[str, str]  # the node's own
    place: Callable[[], Path]  # a private directory for one process, not made yet
    sdk: Path | None  # a directory for PYTHONPATH
    reaper: Reaper | None  # ends guests when the node was killed
    publisher: Publisher
    in_flight: InFlight
    dice: Callable[[], float]  # 0..1, for the jitter of a backoff
    wall_s: Callable[[], int]  # seconds since 1970
    spawn: Spawn  # the group's

    def background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """As `spawn`, for work that nobody waits for."""
        task = self.spawn(work, name)
        assert not task.done()

"""A manager with real guests, and in the place of workers what they would be told."""

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from loomproxy.config.plugins import Plugins
from loomproxy.core.chat.provider import Provider
from loomproxy.node.group import Group
from loomproxy.plugins.manager import Manager
from loomproxy.plugins.publisher import Publisher
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import PluginStatus, State
from tests.plugins.garden import Garden

DEADLINE_S = 10.0


class Estate(Garden):
    """A directory of plugins, the manager that keeps them, and what it published last."""

    def __init__(self, root: Path, group: Group) -> None:
        super().__init__(root)
        self.providers: dict[str, Provider] = {}
        self.history: list[dict[str, Provider]] = []
        self.refuses: Callable[[tuple[Provider, ...]], str] = lambda _providers: ""
        self.flying: Callable[[], Mapping[str, int] | None] = dict
        numbers = itertools.count(1)
        self.publisher = Publisher(self._publish)
        self.manager = Manager(
            Setting(
                environment={"PATH": os.environ["PATH"]},
                place=lambda: root / f"room{next(numbers)}",
                sdk=None,
                reaper=None,
                publisher=self.publisher,
                in_flight=self._in_flight,
                dice=lambda: 0.0,
                wall_s=lambda: 1_800_000_000,
                spawn=group.spawn,
            )
        )

    async def _publish(self, providers: tuple[Provider, ...]) -> tuple[str, ...]:
        refusal = self.refuses(providers)
        if refusal:
            return (refusal,)
        self.providers = {one.provider_type: one for one in providers}
        self.history.append(self.providers)
        return ()

    async def _in_flight(self, _pool: str) -> Mapping[str, int] | None:
        return self.flying()

    async def begin(self, *, watch: bool = False, **config: Any) -> None:
        await self.manager.configure(section(watch=watch, **config), self.directory)

    def status(self, name: str) -> PluginStatus:
        return next(one for one in self.manager.status() if one.provider_type == name)

    def pid(self, name: str, replica: int = 0) -> int:
        return self.status(name).generations[0].replicas[replica].pid

    def rooms(self) -> list[Path]:
        return list(self.directory.parent.glob("room*"))

    def pids(self) -> list[int]:
        generations = [each for one in self.manager.status() for each in one.generations]
        return [replica.pid for one in generations for replica in one.replicas if replica.pid]

    def is_ready(self, name: str) -> bool:
        return self.states().get(name) is State.READY and self.providers[name].ready

    def is_published(self, name: str) -> bool:
        return self.providers[name].ready

    def states(self) -> dict[str, State]:
        return {one.provider_type: one.state for one in self.manager.conditions()}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about the plugins holds."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.1):  # Not all that is asked for is an event.
                            await self.manager.until_changed()
        except TimeoutError:
            raise AssertionError(f"in vain; all there is: {self.manager.status()}") from None


def section(**keys: Any) -> Plugins:
    return Plugins(directory="plugins", **keys)


@contextlib.asynccontextmanager
async def estate() -> AsyncIterator[Estate]:
    """An estate without plugins yet; nothing of them is left at the end."""
    group = Group()
    with tempfile.TemporaryDirectory(prefix="estate-") as directory:
        it = Estate(Path(directory), group)
        try:
            yield it
            pids = it.pids()
        finally:
            it.flying, it.refuses = dict, lambda _providers: ""
            async with asyncio.timeout(DEADLINE_S):
                await it.manager.end()
        assert not it.rooms()
        assert not it.providers
        assert not [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""What is told of changes among files, and what when the kernel does not tell any."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from loomproxy.plugins.watch import Watch
from tests.plugins.estate import estate, section

DEADLINE_S = 10.0


class Told:
    """What a watch told."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[frozenset[Path] | None] = asyncio.Queue()

    async def changed(self, paths: frozenset[Path] | None) -> None:
        await self.changes.put(paths)

    async def next(self) -> frozenset[Path] | None:
        async with asyncio.timeout(DEADLINE_S):
            return await self.changes.get()


def test_changes_are_told_with_their_paths_and_first_that_anything_may_have(tmp_path: Path) -> None:
    async def play() -> None:
        told = Told()
        plugins = tmp_path / "plugins"
        watch = Watch(plugins, also=frozenset, changed=told.changed)
        running = asyncio.get_running_loop().create_task(watch.live())
        assert await told.next() is None  # it is not there
        (plugins / "acme").mkdir(parents=True)
        assert await told.next() is None  # it is there
        (plugins / "acme" / "its.log").write_text("nothing that counts")
        (plugins / "acme" / "plugin.py").write_text("one")
        assert await told.next() == {plugins / "acme" / "plugin.py"}
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(play())


@pytest.mark.parametrize("error", [OSError(28, "OS file watch limit reached."), RuntimeError("no")])
def test_kernel_that_refuses_is_told_of_and_nothing_is_watched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[], str],
    error: Exception,
) -> None:
    async def refusing(*_paths: Any, **_how: Any) -> AsyncIterator[Any]:
        raise error
        yield

    monkeypatch.setattr(watchfiles, "awatch", refusing)

    async def play() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await Watch(tmp_path, also=frozenset, changed=Told().changed).live()

    asyncio.run(play())
    assert 'event="plugins are not watched"' in said()


def test_reload_of_the_configuration_watches_again_where_the_kernel_refused(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    allowed = watchfiles.awatch

    async def refusing(*_paths: Any, **_how: Any) -> AsyncIterator[Any]:
        raise OSError(28, "OS file watch limit reached.")
        yield

    async def play() -> None:
        async with estate() as it:
            monkeypatch.setattr(watchfiles, "awatch", refusing)
            await it.begin(watch=True)
            await it.until(lambda: 'event="plugins are not watched"' in said())
            monkeypatch.setattr(watchfiles, "awatch", allowed)  # Somebody raised the limit.
            await it.manager.configure(section(watch=True), it.directory)
            it.plant("acme")
            await it.until(lambda: it.is_ready("acme"))

    asyncio.run(play())

"""A plugin whose files change all the time is reloaded so often, and no more."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from loomproxy.plugins import throttle
from loomproxy.plugins.manifest import Found
from loomproxy.plugins.status import State
from loomproxy.plugins.throttle import RELOADS_OFTEN, Throttle
from loomproxy.plugins.wish import Wish
from tests.plugins.estate import Estate, estate, section
from tests.plugins.guesthouse import DEADLINE_S, manifest

FOUND = Found(Path("/p/plugin.yaml"), Path("/p"), manifest("true"))


def wish(digest: str) -> Wish:
    return Wish("acme", FOUND, digest)


def test_twenty_changes_pass_then_the_newest_waits_until_the_oldest_is_a_minute_old(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    monkeypatch.setattr(throttle, "MINUTE_S", 0.5)

    async def play() -> None:
        released: asyncio.Queue[Wish] = asyncio.Queue()
        it = Throttle("acme", released.put_nowait)
        loop = asyncio.get_running_loop()
        first_at = loop.time()
        for number in range(RELOADS_OFTEN):
            assert not it.holds(wish(str(number)), serves=True)
        assert it.trouble == ""
        for number in range(5):
            assert it.holds(wish(f"more {number}"), serves=True)
        assert "its folder changed 20 times within a minute; does it write there?" in it.trouble
        # What cannot serve is tried at once, and not without end either.
        for number in range(RELOADS_OFTEN):
            assert not it.holds(wish(f"mended {number}"), serves=False)
        async with asyncio.timeout(DEADLINE_S):
            assert await released.get() == wish("more 4")
        assert loop.time() - first_at >= 0.5
        assert (it.trouble, it.drop(), released.empty()) == ("", None, True)

    asyncio.run(play())
    assert said().count("plugin reloads often") == 1


def test_what_was_dropped_is_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MINUTE_S", 0.2)
    monkeypatch.setattr(throttle, "RELOADS_OFTEN", 1)

    async def play() -> None:
        released: asyncio.Queue[Wish] = asyncio.Queue()
        it = Throttle("acme", released.put_nowait)
        assert not it.holds(wish("1"), serves=False)
        assert it.holds(wish("2"), serves=False)
        assert it.drop() == wish("2")
        assert not it.holds(wish("3"), serves=True)
        assert it.holds(wish("4"), serves=True)
        async with asyncio.timeout(DEADLINE_S):
            assert await released.get() == wish("4")

    asyncio.run(play())


async def change(it: Estate, version: int) -> None:
    it.code("acme", {"version": f"{version}.0.0", "model": f"m{version}"})
    await it.manager.look()


def test_only_what_nobody_asked_for_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "RELOADS_OFTEN", 1)

    async def play() -> None:
        async with estate() as it:

            def serves(version: int) -> bool:
                models = [model.id for model in it.providers["acme"].models]
                return it.is_ready("acme") and models == [f"m{version}"]

            def held() -> bool:
                return "does it write there?" in it.status("acme").last_error

            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            await change(it, 2)
            await it.until(lambda: serves(2))
            assert not held()
            await change(it, 3)
            assert held()
            assert (await it.manager.reload("acme")).ok  # As an operator says,
            assert serves(3)
            assert not held()
            await change(it, 4)
            assert held()
            await it.manager.configure(section(watch=False), it.directory)  # or a whole reload.
            await it.until(lambda: serves(4))
            await change(it, 5)
            await change(it, 4)  # It is as it was.
            assert not held()
            await change(it, 6)
            folder = it.directory / "acme"
            (folder / "disabled").touch()
            await it.manager.look()  # It is to end, and need not be reloaded for that.
            await it.until(lambda: it.states()["acme"] is State.DISABLED)
            assert not held()
            assert (await it.manager.enable("acme")).ok
            assert serves(6)
            assert it.status("acme").reloads == 3

    asyncio.run(play())


def test_what_failed_is_tried_at_once_however_often_it_was_reloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "RELOADS_OFTEN", 1)

    async def play() -> None:
        async with estate() as it:
            it.plant("acme", auto_start=False)
            await it.begin()
            assert (await it.manager.start("acme")).ok
            await change(it, 2)
            await it.until(lambda: it.status("acme").reloads == 1)
            it.plant("acme", {"version": "3.0.0", "model": "m3", "type": "other"})
            await it.manager.restart("acme")
            assert (await it.manager.reload("acme")).state is State.FAILED
            await change(it, 4)
            await it.until(lambda: it.is_ready("acme"))

    asyncio.run(play())


def test_plugin_that_writes_in_its_own_folder_serves_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttle, "RELOADS_OFTEN", 3)

    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme")
            code = (folder / "plugin.py").read_text()
            writes = "Path('started').write_text(str(os.getpid()))\n"
            (folder / "plugin.py").write_text(code.replace("WHAT =", f"{writes}WHAT =", 1))
            await it.begin(watch=True)
            error = "its folder changed 3 times within a minute; does it write there?"
            await it.until(lambda: error in it.status("acme").last_error)
            await it.until(lambda: it.is_ready("acme") and len(it.pids()) == 1)
            assert it.status("acme").generations[0].number <= 4

    asyncio.run(play())

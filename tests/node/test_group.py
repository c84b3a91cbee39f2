"""Actors live and end together."""

import asyncio
from collections.abc import Callable

import pytest

from loomproxy.node.group import Group, first_of


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("it broke")


def test_first_to_return_stops_all() -> None:
    async def play() -> None:
        group = Group()
        asked = asyncio.Event()
        ended: list[str] = []

        async def polite() -> None:
            await asked.wait()
            ended.append("polite")

        async def quick() -> None:
            ended.append("quick")

        group.add("polite", polite, asked.set)
        group.add("for ever", _for_ever)
        group.add("quick", quick)
        assert await group.run() == "quick"
        assert ended == ["quick", "polite"]

    asyncio.run(play())


def test_failure_of_one_stops_all_and_is_raised() -> None:
    async def play() -> None:
        group = Group()
        asked = asyncio.Event()
        group.add("polite", _wait(asked), asked.set)
        group.add("failing", _fail)
        with pytest.raises(ValueError, match="it broke"):
            await group.run()
        assert asked.is_set()

    asyncio.run(play())


def test_failure_while_stopping_is_logged(said: Callable[[], str]) -> None:
    async def play() -> None:
        group = Group()
        asked = asyncio.Event()

        async def bad_loser() -> None:
            await asked.wait()
            await _fail()

        async def quick() -> None:
            pass

        group.add("bad loser", bad_loser, asked.set)
        group.add("quick", quick)
        assert await group.run() == "quick"

    asyncio.run(play())
    assert 'task="bad loser"' in said()


def test_short_tasks_fail_alone_and_end_with_the_group(said: Callable[[], str]) -> None:
    async def play() -> None:
        group = Group()
        failed = group.spawn(_fail(), "short")
        left = group.spawn(_for_ever(), "left")
        group.background(_for_ever(), "also left")

        async def until_failed() -> None:
            await asyncio.wait([failed])

        group.add("until failed", until_failed)
        await group.run()
        assert left.cancelled()

    asyncio.run(play())
    assert "it broke" in said()


def test_first_of_cancels_the_others_and_raises_what_the_first_raised() -> None:
    async def play() -> None:
        with pytest.raises(ValueError, match="it broke"):
            await first_of(_for_ever(), _fail())
        event = asyncio.Event()
        event.set()
        await first_of(_for_ever(), _wait(event)())

    asyncio.run(play())


def _wait(event: asyncio.Event):  # type: ignore[no-untyped-def] # a coroutine function
    async def wait() -> None:
        await event.wait()

    return wait

"""What the proxies made of the corpus: each plays it once, for all tests here."""

import asyncio

import pytest

from tests.differential.lanes import loomproxy
from tests.differential.others import NAMES, other
from tests.differential.play import Observation, play
from tests.support import corpus


@pytest.fixture(scope="session")
def seen() -> dict[str, Observation]:
    """What both sides of our proxy saw of every case."""

    async def played() -> dict[str, Observation]:
        async with loomproxy() as lanes:
            return await play(lanes, corpus.every())

    return asyncio.run(played(), debug=False)


@pytest.fixture(scope="session")
def seen_by_others() -> dict[str, dict[str, Observation]]:
    """What both sides of the other proxies saw, by their names."""

    async def played(name: str) -> dict[str, Observation]:
        async with other(name) as lanes:
            return await play(lanes, corpus.every())

    async def all_played() -> list[dict[str, Observation]]:
        return await asyncio.gather(*(played(name) for name in NAMES))

    return dict(zip(NAMES, asyncio.run(all_played(), debug=False), strict=True))

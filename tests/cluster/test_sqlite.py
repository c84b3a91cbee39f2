"""What can be wrong with a file: it is said, and no call hangs."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from loomproxy.cluster.store import SchemaError, StoreAwayError
from loomproxy.config.cluster import Database
from tests.cluster.house import ACTIVE, member, opened


def test_the_file_is_for_us_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with opened(Database(path=str(tmp_path / "store.db"))) as store:
            await store.register(member(), ACTIVE)
            modes = {name: os.stat(tmp_path / name).st_mode for name in os.listdir(tmp_path)}  # noqa: PTH208, PTH116 -- plain names
        assert "store.db" in modes
        assert not {name for name, mode in modes.items() if mode & 0o077}

    before = os.umask(0o022)
    try:
        asyncio.run(play())
    finally:
        os.umask(before)


def test_a_place_that_does_not_exist_is_said(tmp_path: Path) -> None:
    async def play() -> None:
        async with opened(Database(path=str(tmp_path / "no" / "store.db")), migrated=False):
            raise AssertionError("it opened")

    with pytest.raises(StoreAwayError, match=r"no/store\.db"):
        asyncio.run(play())


def test_a_file_that_is_no_store_is_said_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("a letter to my mother, " * 100)
    before = path.read_bytes()

    async def play() -> None:
        async with opened(Database(path=str(path)), migrated=False):
            raise AssertionError("it opened")

    with pytest.raises(SchemaError, match="not a database"):
        asyncio.run(play())
    assert path.read_bytes() == before


def test_somebody_who_holds_its_lock_is_not_waited_for_long(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "store.db"
        async with opened(Database(path=str(path), lock_timeout_s=0.1)) as store:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreAwayError, match="locked"):
                await store.register(member(), ACTIVE)
            other.execute("ROLLBACK")
            other.close()
            await store.register(member(), ACTIVE)

    asyncio.run(play())


def test_many_calls_at_once_take_turns(tmp_path: Path) -> None:
    async def play() -> None:
        async with opened(Database(path=str(tmp_path / "store.db"))) as store:
            await store.register(member(), ACTIVE)
            beats = [store.beat("one", "1" * 32, ACTIVE) for _ in range(50)]
            assert all(beat.known for beat in await asyncio.gather(*beats))

    asyncio.run(play())

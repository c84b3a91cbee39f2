"""A node's part in its cluster, without workers: what it begins with, and what it survives."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loomproxy.config.cluster import Database
from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.core.health import Status
from loomproxy.node.cluster import Cluster
from loomproxy.node.group import Group
from loomproxy.node.guests import Ground
from loomproxy.node.lifecycle import NotYetError
from loomproxy.node.reload import Source

FILE = """
node: {instance_id: one/two}
listeners: [{name: public, address: "127.0.0.1:0"}]
routes: [{respond: {status: 200, body: file}}]
"""
DOCUMENT = "routes: [{respond: {status: 200, body: published}}]"


def ground(directory: Path, **database: Any) -> Ground:
    config = parse(FILE, "c.yaml", {})
    assert isinstance(config, Config)
    replace = msgspec.structs.replace
    static = replace(
        config.static,
        database=Database(path=str(directory / "store.db"), **database),
    )
    environment = {"STATE_DIRECTORY": f"{directory}/state:/elsewhere"}
    return Ground(replace(config, static=static), "c.yaml", environment, lambda: 0.5)


def body(config: Config) -> str:
    respond = config.dynamic.routes[0].respond
    assert respond is not None
    return respond.body


async def taking(cluster: Cluster) -> Cluster:
    """Through its gates."""
    await cluster.reach_database()
    await cluster.migrate()
    await cluster.take_snapshot()
    return cluster


def make(at: Ground, adopted: list[Config] | None = None, left: list[str] | None = None) -> Cluster:
    async def adopt(source: Source) -> tuple[str, ...]:
        config = source()
        if not isinstance(config, Config):
            return tuple(map(str, config.items))
        (adopted if adopted is not None else []).append(config)
        return ()

    return Cluster(
        at, "one/two", adopt=adopt, leave=lambda: (left if left is not None else []).append("left")
    )


async def until(cluster: Cluster, claim: Callable[[], Any]) -> None:
    """Hint until it is so, since a heartbeat is long."""
    async with asyncio.timeout(15):
        while not claim():
            cluster.hint()
            await asyncio.sleep(0.01)


def test_it_begins_with_its_own_file_and_keeps_that(tmp_path: Path) -> None:
    async def play() -> None:
        cluster = await taking(make(ground(tmp_path)))
        assert body(cluster.first) == "file"
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["published-one_two.json"]
        await cluster.end()

    asyncio.run(play())


def test_it_begins_with_what_is_published(tmp_path: Path) -> None:
    async def play() -> None:
        cluster = await taking(make(ground(tmp_path)))
        await cluster.store.publish(DOCUMENT, author="", note="", expected=None)
        await cluster.end()
        again = await taking(make(ground(tmp_path)))
        assert body(again.first) == "published"
        assert again.watch.running == 1
        await again.end()

    asyncio.run(play())


def test_what_it_cannot_run_at_its_start_leaves_it_with_what_it_ran_last(tmp_path: Path) -> None:
    async def play() -> None:
        cluster = await taking(make(ground(tmp_path)))
        await cluster.store.publish(DOCUMENT, author="", note="", expected=None)
        await taking(cluster)
        await cluster.store.publish("routes: [{pool: no}]", author="", note="", expected=None)
        await cluster.end()
        again = await taking(make(ground(tmp_path)))
        assert body(again.first) == "published"
        assert (again.watch.running, again.watch.refused) == (1, 2)
        assert "no is no pool" in again.watch.problems[0]
        await again.end()
        for file in (tmp_path / "state").iterdir():
            file.unlink()
        new = make(ground(tmp_path))
        await new.reach_database()
        await new.migrate()
        with pytest.raises(NotYetError, match=r"revision 2: .*no is no pool"):
            await new.take_snapshot()
        await new.end()

    asyncio.run(play())


def test_a_mistake_in_its_part_is_told_and_it_takes_part_again(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    async def play() -> None:
        cluster = await taking(make(ground(tmp_path)))
        sound, broken = cluster.membership.beat, asyncio.Event()

        async def once() -> None:
            cluster.membership.beat = sound  # type: ignore[method-assign] # the sound one is put back
            broken.set()
            raise ZeroDivisionError

        cluster.membership.beat = once  # type: ignore[method-assign] # that is the mistake
        cluster.start(Group())
        await broken.wait()
        await until(cluster, lambda: cluster.membership.pulse.beats > 2)
        await cluster.end()

    asyncio.run(play())
    assert "ZeroDivisionError" in said()


def test_an_eviction_is_followed_and_the_status_told(tmp_path: Path) -> None:
    async def play() -> None:
        left: list[str] = []
        cluster = await taking(make(ground(tmp_path), left=left))
        cluster.start(Group())
        await until(cluster, lambda: cluster.membership.pulse.beats > 0)
        assert cluster.dependency().status is Status.HEALTHY
        assert await cluster.store.evict("one/two")
        await until(cluster, lambda: left)
        await cluster.draining()
        (view,) = await cluster.store.members(60.0)
        assert view.report.status == "draining"
        assert cluster.leases.holding() == ()
        await cluster.end()

    asyncio.run(play())


def test_a_store_that_is_away_is_degraded_unless_it_is_required(tmp_path: Path) -> None:
    async def play() -> None:
        for required, status in ((False, Status.DEGRADED), (True, Status.UNHEALTHY)):
            cluster = make(ground(tmp_path / "no" / "such", required=required))
            with pytest.raises(NotYetError):
                await cluster.reach_database()
            dependency = cluster.dependency()
            assert (dependency.status, dependency.required) == (status, required)
            assert "no/such" not in dependency.message, "anybody reads it"
            await cluster.draining()
            await cluster.end()

    asyncio.run(play())


def test_a_revision_is_followed_and_one_that_is_refused_is_tried_again_when_mended(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        adopted: list[Config] = []
        at = ground(tmp_path)
        cluster = await taking(make(at, adopted))
        cluster.start(Group())
        await cluster.store.publish(DOCUMENT, author="", note="", expected=None)
        await until(cluster, lambda: cluster.watch.running == 1)
        assert body(adopted[-1]) == "published"
        wanting = "routes: [{match: {listeners: [second]}, respond: {status: 200, body: x}}]"
        await cluster.store.publish(wanting, author="", note="", expected=None)
        await until(cluster, lambda: cluster.watch.refused == 2)
        assert cluster.reading().refused
        listeners = (*at.config.static.listeners, *_second())
        static = msgspec.structs.replace(at.config.static, listeners=listeners)
        mended = msgspec.structs.replace(at.config, static=static)

        class Done:
            ok = True

        async def reload(source: Source) -> Any:
            assert isinstance(source(), Config)
            return Done()

        await cluster.reread(lambda: mended, reload)
        await until(cluster, lambda: cluster.watch.running == 2)
        assert not cluster.reading().refused
        await cluster.end()

    asyncio.run(play())


def _second() -> tuple[Any, ...]:
    config = parse(FILE.replace("public", "second"), "c.yaml", {})
    assert isinstance(config, Config)
    return config.static.listeners

"""A whole node with real plugins: what health says of them, and what it does with them."""

import asyncio
import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loomproxy.config.model import Config, Dynamic, Listener, Plugins, Pool
from loomproxy.core.chat.provider import Provider
from loomproxy.node.guests import Ground, Rooms
from loomproxy.node.main import things_to_try
from tests.node.stage import DEADLINE_S, Stage, config, run, stage
from tests.plugins.garden import Garden


@pytest.fixture
def garden(tmp_path: Path) -> Garden:
    return Garden(tmp_path)


def with_plugins(
    garden: Garden, *pools: str, startup_timeout_s: float = 30.0, **keys: Any
) -> Config:
    plain = config(*pools, workers=1, startup_timeout_s=startup_timeout_s)
    plugins = Plugins(directory=str(garden.directory), **keys)
    return msgspec.structs.replace(plain, plugins=plugins)


def provider(it: Stage, name: str) -> Provider | None:
    found = (one for one in it.node.supervisor.current.providers if one.provider_type == name)
    return next(found, None)


async def until(it: Stage, holds: Callable[[], bool]) -> None:
    """Wait until something about the plugins holds."""
    manager = it.node.guests.manager
    assert manager is not None
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            waiting = asyncio.get_running_loop().create_task(manager.until_changed())
            await asyncio.wait({waiting}, timeout=0.1)
            waiting.cancel()


def serves(it: Stage, name: str) -> Callable[[], bool]:
    def holds() -> bool:
        found = provider(it, name)
        return found is not None and found.ready

    return holds


def test_plugins_are_published_told_of_and_end_after_the_workers(garden: Garden) -> None:
    pids: list[int] = []

    async def play() -> None:
        garden.plant("acme")
        garden.plant("odd", command="no-such-program")
        async with stage(with_plugins(garden, watch=False)) as it:
            await until(it, serves(it, "acme"))
            assert it.node.guests.manager is not None
            (generation,) = it.node.guests.manager.status()[0].generations
            pids.extend(replica.pid for replica in generation.replicas)
            status, body = await it.admin("/health")
            told = json.loads(body)["dependencies"]
            assert (status, told["plugin:acme"]) == (200, {"status": "healthy"})
            await until(it, lambda: "odd" in it.node.guests.dependencies()["plugin:odd"].message)
            assert it.node.guests.dependencies()["plugin:odd"].message == (
                "The plugin odd failed, and waits for its operator."
            )
            assert json.loads((await it.admin("/health/ready"))[1])["ready"] is True
            assert list(it.directory.glob("plugins-*/*/plugin.sock"))
            it.node.drain()
            assert await it.left() == 0
            assert not list(it.directory.glob("plugins-*"))

    run(play)
    assert garden.notes("acme") == ["initialize {}", "cleanup"]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_node_is_ready_when_its_required_plugins_are(garden: Garden) -> None:
    async def play() -> None:
        garden.plant("acme", required=True)
        garden.plant("slow", required=True)
        garden.knob("slow", "mute").touch()
        async with stage(with_plugins(garden, startup_timeout_s=4.0)) as it:
            # It lives without one of them, and says what is missing.
            status, body = await it.admin("/health/ready")
            assert status == 503
            told = json.loads(body)["dependencies"]
            assert told["plugin:acme"] == {"status": "healthy"}
            assert told["plugin:slow"] == {
                "status": "unhealthy",
                "message": "The plugin slow is starting.",
            }
            garden.knob("slow", "mute").unlink()
            await until(it, serves(it, "slow"))
            assert (await it.admin("/health/ready"))[0] == 200
            garden.knob("acme", "unhealthy").touch()
            await until(it, lambda: not serves(it, "acme")())
            assert (await it.admin("/health/ready"))[0] == 503

    run(play)


def test_reload_of_the_configuration_reaches_the_plugins_that_it_concerns(garden: Garden) -> None:
    async def play() -> None:
        schema = [{"name": "size", "type": "int", "default": 3}]
        garden.plant("acme", metadata={"config_schema": schema})
        garden.plant("other")
        start = with_plugins(garden, "a", watch=False)
        async with stage(start) as it:
            await until(it, serves(it, "acme"))
            await until(it, serves(it, "other"))

            def after(pool: str, **sizes: object) -> Config:
                dynamic = Dynamic(pools={pool: Pool(endpoints=())})
                plugins = msgspec.structs.replace(start.plugins, config={"acme": sizes})
                return msgspec.structs.replace(start, dynamic=dynamic, plugins=plugins)

            it.next = after("b", size="wide")
            report = await it.node.reload()
            assert "plugins.config.acme.size" in report.problems[0]
            assert list(it.node.supervisor.current.dynamic.pools) == ["a"]
            it.next = after("b", size=5)
            assert (await it.node.reload()).ok
            await until(it, lambda: garden.notes("acme")[-1:] == ["cleanup"])
            assert garden.notes("acme") == [
                'initialize {"size": 3}',
                'initialize {"size": 5}',
                "cleanup",
            ]
            assert garden.notes("other") == ["initialize {}"]
            assert list(it.node.supervisor.current.dynamic.pools) == ["b"]
            # Without a directory there are none.
            it.next = msgspec.structs.replace(it.next, plugins=Plugins())
            assert (await it.node.reload()).ok
            await until(it, lambda: it.node.supervisor.current.providers == ())

    run(play)


def test_directory_of_plugins_is_relative_to_the_file() -> None:
    async def play() -> None:
        async with stage(config(workers=1)) as it:
            guests = it.node.guests
            assert guests.manager is None
            assert guests.dependencies() == {}
            section = Plugins(directory="./plugins")
            assert guests._directory(section) == Path.cwd() / "plugins"
            assert guests._directory(Plugins(directory="~/p")) == Path.home() / "p"
            assert guests._directory(Plugins()) is None

    run(play)


def test_what_a_killed_node_left_is_swept_and_what_a_living_one_has_is_not() -> None:
    with tempfile.TemporaryDirectory(prefix="rooms-") as directory:
        above = Path(directory)
        ground = Ground(config(), "", {"RUNTIME_DIRECTORY": directory}, lambda: 0.0)
        (above / "plugins-1").mkdir()
        (above / "plugins-1" / "lock").touch()
        living = Rooms(ground)
        assert list(above.iterdir()) == [living.directory]
        assert living.place() == living.directory / "1"
        assert living.place() == living.directory / "2"
        other = Rooms(ground)  # of the same pid: as if it were in another container
        assert living.directory.exists()
        assert other.directory != living.directory
        for rooms in (living, other):
            rooms.remove()
            assert not rooms.directory.exists()


def test_rooms_are_not_swept_by_a_node_that_starts_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    ground = Ground(config(), "", {"RUNTIME_DIRECTORY": str(tmp_path)}, lambda: 0.0)
    flock = fcntl.flock

    def later(fd: int, how: int) -> None:
        monkeypatch.undo()
        Rooms(ground).remove()  # Another node's, which sweeps what it finds.
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", later)
    rooms = Rooms(ground)
    assert rooms.place().parent.is_dir()
    assert [one.name for one in rooms.directory.iterdir()] == ["lock"]
    rooms.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_greeting_has_a_chat_to_try_where_a_listener_takes_chats(garden: Garden) -> None:
    said: list[list[str]] = []

    def play(*, chat: bool) -> Callable[[], Any]:
        async def greet() -> None:
            listener = Listener("public", "127.0.0.1:0", chat=chat)
            plain = msgspec.structs.replace(
                with_plugins(garden, watch=False), static=config(listeners=(listener,)).static
            )
            async with stage(plain) as it:
                await until(it, serves(it, "acme"))
                (address,) = [one.address for one in it.node.sockets.listening]
                said.append([line.replace(address, "ADDRESS") for line in things_to_try(it.node)])

        return greet

    garden.plant("acme")
    run(play(chat=True))
    run(play(chat=False))
    title, chat, health = said[0][1:]
    assert title == "Try:"
    assert chat.startswith(
        """  curl -s http://ADDRESS/v1/chat/completions -d '{"model": "acme/one","""
    )
    assert health.endswith("/health")
    assert said[1] == []

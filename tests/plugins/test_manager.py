"""What becomes of plugins as their files, their processes and their operators do things."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from loomproxy.plugins import manager
from loomproxy.plugins.status import State
from tests.plugins.estate import estate, section


def test_plugins_are_found_started_and_published_each_by_itself() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme", config_schema=None)
            it.plant("slow", startup_timeout=30)
            it.knob("slow", "mute").touch()
            it.plant("idle", auto_start=False)
            it.plant("odd", {"version": "1.0.0", "model": "one", "type": "even"})
            (it.directory / "bad").mkdir()
            (it.directory / "bad" / "plugin.yaml").write_text("metadata: {name: 5}\n")
            await it.begin()
            await it.until(lambda: it.is_ready("acme") and it.states()["odd"] is State.FAILED)
            acme = it.providers["acme"]
            assert [model.id for model in acme.models] == ["one"]
            assert acme.reason == ""
            assert acme.published_at == 1_800_000_000
            ((name, value),) = acme.endpoints[0].secrets
            assert name == b"Authorization"
            assert value.startswith(b"Bearer ")
            status = it.status("acme")
            assert status.generations[0].replicas[0].rss_bytes > 1 << 20
            assert (status.restarts, status.last_error, status.kind) == (0, "", "process")
            assert it.states() == {
                "acme": State.READY,
                "slow": State.STARTING,
                "idle": State.STOPPED,
                "odd": State.FAILED,
                "bad": State.INVALID,
            }
            assert "provider_type is 'even'" in it.status("odd").last_error
            assert it.providers["slow"].reason == "The plugin slow is starting."
            assert it.providers["idle"].reason == "The plugin idle is stopped."
            assert it.notes("acme") == ["initialize {}"]
            it.knob("slow", "mute").unlink()
            await it.until(lambda: it.is_ready("slow"))

    asyncio.run(play())


def test_configuration_is_checked_before_anything_runs() -> None:
    async def play() -> None:
        schema = [
            {"name": "key", "type": "string", "required": True, "sensitive": True},
            {"name": "size", "type": "int", "default": 3},
        ]
        async with estate() as it:
            it.plant("acme", metadata={"config_schema": schema})
            await it.begin(config={"acme": {"size": "much", "colour": 1}})
            await it.until(lambda: it.states()["acme"] is State.INVALID)
            why = it.status("acme").last_error
            assert "plugins.config.acme.size" in why
            assert "plugins.config.acme.key" in why
            assert "plugins.config.acme.colour" in why
            assert it.pids() == []
            good = section(config={"acme": {"key": "secret"}})
            assert await it.manager.problems(good, it.directory) == ()
            await it.manager.configure(good, it.directory)
            await it.until(lambda: it.is_ready("acme"))
            assert it.notes("acme") == ['initialize {"key": "secret", "size": 3}']
            assert it.status("acme").config == {"key": "***", "size": 3}
            # Another one that is wrong is told, and what runs goes on.
            bad = section(config={"acme": {}})
            (problem,) = await it.manager.problems(bad, it.directory)
            assert problem.startswith("plugins.config.acme.key")
            await it.manager.configure(bad, it.directory)
            await it.until(lambda: it.status("acme").reloads_failed == 1)
            assert it.is_ready("acme")

    asyncio.run(play())


def test_reload_switches_when_the_new_generation_is_ready_and_drains_the_old_one() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            old = it.providers["acme"].endpoints[0].address
            it.flying = lambda: {str(old): 1}
            it.code("acme", {"version": "2.0.0", "model": "two"})
            await it.manager.look()
            await it.until(lambda: it.status("acme").reloads == 1)
            new, draining = it.providers["acme"].endpoints
            assert new.enabled
            assert (draining.enabled, draining.address) == (False, old)
            assert [model.id for model in it.providers["acme"].models] == ["two"]
            generations = it.status("acme").generations
            assert [one.state for one in generations] == [State.READY, State.DRAINING]
            processes = [replica.state for one in generations for replica in one.replicas]
            assert processes == [State.READY, State.DRAINING]
            assert it.notes("acme") == ["initialize {}"] * 2
            it.flying = lambda: None  # a worker does not say: whoever is unsure waits
            await asyncio.sleep(0.15)
            assert len(it.status("acme").generations) == 2
            it.flying = dict
            await it.until(lambda: len(it.status("acme").generations) == 1)
            assert it.notes("acme")[2:] == ["cleanup"]
            assert [one.address for one in it.providers["acme"].endpoints] == [new.address]
            # At no moment was there none.
            ready = [one["acme"].ready for one in it.history]
            assert all(ready[ready.index(True) :])

    asyncio.run(play())


def test_old_generation_that_dies_while_it_drains_is_not_started_again() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            address = str(it.providers["acme"].endpoints[0].address)
            pid = it.pid("acme")
            it.flying = lambda: {address: 1}
            assert (await it.manager.reload("acme")).ok
            assert pid in it.pids()
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: len(it.status("acme").generations) == 1)
            assert it.status("acme").restarts == 0
            assert [line.text for line in it.manager.logs("acme", 0, 9)] == ["hello from acme"] * 2

    asyncio.run(play())


def test_workers_that_do_not_take_a_publication_are_asked_again() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            it.refuses = lambda _all: "not now"
            pid = it.pid("acme")
            report = asyncio.get_running_loop().create_task(it.manager.stop("acme"))
            await it.until(lambda: it.states()["acme"] is State.DRAINING)
            assert it.is_published("acme")
            assert it.pids() == [pid]  # nobody was told, so it serves on
            it.refuses = lambda _all: ""
            assert (await report).state is State.STOPPED
            assert not it.is_published("acme")

    asyncio.run(play())


def test_reload_to_something_broken_keeps_the_old_generation_and_says_why() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme", startup_timeout=15.0)
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            pid = it.pid("acme")
            it.knob("acme", "die").touch()
            report = await it.manager.reload("acme")
            assert not report.ok
            assert "exit status 1; it last said: I do not like it here" in report.problems[0]
            it.knob("acme", "die").unlink()
            it.code("acme", {"version": "2.0.0", "model": "two", "api": "2.0.0"})
            report = await it.manager.reload("acme")
            assert "plugin_api_version: 2.0.0" in report.problems[0]
            (it.directory / "acme" / "plugin.json").write_text("{")
            await it.manager.look()
            await it.until(lambda: it.status("acme").reloads_failed == 3)
            assert it.status("acme").restarts == 0  # nothing that served has left
            assert "plugin.json" in it.status("acme").last_error
            it.plant("acme", {"version": "2.0.0", "model": "two"}, startup_timeout=15.0)
            it.refuses = lambda all_: "not two" if len(all_[0].endpoints) == 2 else ""
            report = await it.manager.reload("acme")
            assert report.problems == ("not two",)
            assert it.pid("acme") == pid
            assert it.is_ready("acme")
            assert (it.status("acme").reloads, it.status("acme").reloads_failed) == (0, 4)
            assert it.status("acme").last_error == "not two"
            it.refuses = lambda _all: ""
            assert (await it.manager.reload("acme")).ok
            assert it.status("acme").last_error == ""
            assert it.pid("acme") != pid

    asyncio.run(play())


def test_nothing_is_done_when_nothing_changed_but_when_it_is_told_to() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            pid = it.pid("acme")
            (it.directory / "acme" / "plugin.py").touch()
            (it.directory / "acme" / "__pycache__").mkdir()
            (it.directory / "acme" / "__pycache__" / "plugin.pyc").write_bytes(b"1")
            (it.directory / "acme" / "its.log").write_text("log")
            await it.manager.look()
            report = await it.manager.start("acme")
            assert report.ok
            assert it.pid("acme") == pid
            first, second = await asyncio.gather(
                it.manager.reload("acme"), it.manager.reload("acme")
            )
            assert first.ok
            assert second.ok
            assert it.status("acme").reloads in (1, 2)
            assert it.pid("acme") != pid

    asyncio.run(play())


def test_crashed_process_is_out_at_once_and_started_again() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme", replicas=2)
            await it.begin()
            await it.until(lambda: len(it.providers.get("acme", NONE).endpoints) == 2)
            pid = it.pid("acme")
            os.kill(pid, signal.SIGKILL)
            await it.until(lambda: len(it.providers["acme"].endpoints) == 1)
            assert it.is_ready("acme")  # the other one serves
            os.kill(it.pid("acme", 1), signal.SIGKILL)
            await it.until(lambda: not it.providers["acme"].endpoints)
            assert it.providers["acme"].reason == "The plugin acme is restarting after a crash."
            assert [model.id for model in it.providers["acme"].models] == ["one"]
            assert "SIGKILL" in it.status("acme").generations[0].replicas[0].last_exit
            await it.until(lambda: len(it.providers["acme"].endpoints) == 2)
            assert it.pid("acme") != pid
            assert it.status("acme").restarts == 2
            assert it.status("acme").generations[0].number == 1

    asyncio.run(play())


def test_unhealthy_process_is_out_of_rotation_until_it_is_well_and_a_hung_one_is_restarted() -> (
    None
):
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            pid = it.pid("acme")
            it.knob("acme", "unhealthy").touch()
            await it.until(lambda: it.states()["acme"] is State.UNHEALTHY)
            await it.until(lambda: not it.providers["acme"].ready)
            assert len(it.providers["acme"].endpoints) == 1  # what is in flight there goes on
            assert it.providers["acme"].reason == "The plugin acme reports that it is not healthy."
            assert it.status("acme").last_error == "unhealthy: not so well"
            it.knob("acme", "unhealthy").unlink()
            await it.until(lambda: it.is_ready("acme"))
            assert it.pid("acme") == pid
            os.kill(pid, signal.SIGSTOP)
            await it.until(lambda: it.status("acme").restarts == 1)
            await it.until(lambda: it.is_ready("acme") and it.pid("acme") != pid)

    asyncio.run(play())


def test_plugin_that_crashes_too_often_or_cannot_be_run_is_failed_until_something_changes() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            it.knob("acme", "die").touch()
            it.plant("none", command="no-such-program")
            await it.begin()
            await it.until(lambda: it.states()["none"] is State.FAILED)
            assert it.status("none").generations[0].replicas[0].starts == 1
            reason = "The plugin none failed, and waits for its operator."
            await it.until(lambda: it.providers["none"].reason == reason)
            it.plant("none")
            await it.manager.look()
            await it.until(lambda: it.is_ready("none"))
            await it.until(lambda: it.states()["acme"] is State.FAILED)
            assert it.status("acme").restarts == 5
            assert "I do not like it here" in it.status("acme").last_error
            it.knob("acme", "die").unlink()
            report = await it.manager.start("acme")
            assert (report.ok, report.state) == (True, State.READY)

    asyncio.run(play())


def test_operators_start_stop_restart_enable_and_disable() -> None:
    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            report = await it.manager.stop("acme")
            assert (report.ok, report.state) == (True, State.STOPPED)
            assert it.notes("acme")[-1] == "cleanup"
            assert it.providers["acme"].reason == "The plugin acme is stopped."
            it.code("acme", {"version": "1.0.1", "model": "one"})
            await it.manager.look()  # A change of its files is no reason to start it.
            assert it.states()["acme"] is State.STOPPED
            assert (await it.manager.start("acme")).ok
            pid = it.pid("acme")
            assert (await it.manager.restart("acme")).ok
            assert it.pid("acme") != pid
            report = await it.manager.disable("acme")
            assert (report.ok, report.state) == (True, State.DISABLED)
            assert (folder / "disabled").exists()
            report = await it.manager.start("acme")
            assert not report.ok
            assert "enable" in report.problems[0]
            report = await it.manager.enable("acme")
            assert (report.ok, report.state) == (True, State.READY)
            assert not (folder / "disabled").exists()
            unknown = await it.manager.start("nobody")
            assert unknown.problems == ("there is no plugin 'nobody'; expected one of: acme",)

    asyncio.run(play())


def test_restart_starts_nothing_before_the_old_process_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manager, "STOP_WAIT_S", 0.0)  # A stop does not wait for it; this does.

    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            address, pid = str(it.providers["acme"].endpoints[0].address), it.pid("acme")
            it.flying = lambda: {address: 1}
            restarting = asyncio.create_task(it.manager.restart("acme"))
            await it.until(lambda: it.states()["acme"] is State.DRAINING)
            assert (await asyncio.wait({restarting}, timeout=0.2))[1]
            assert it.pids() == [pid]
            it.flying = dict
            report = await restarting
            assert (report.ok, report.state) == (True, State.READY)
            assert it.notes("acme") == ["initialize {}", "cleanup", "initialize {}"]
            assert pid not in it.pids()

            # As if the kernel could not end it.
            within_s = 300.0 + 5.0 + 2.0
            monkeypatch.setattr(manager, "RESTART_MARGIN_S", 0.1 - within_s)
            address = str(it.providers["acme"].endpoints[0].address)
            it.flying = lambda: {address: 1}
            report = await it.manager.restart("acme")
            assert (report.ok, report.state) == (False, State.DRAINING)
            assert "not gone 0 s after" in report.problems[0]
            assert len(it.pids()) == 1

    asyncio.run(play())


def test_lines_of_a_plugin_are_kept_with_where_they_came_from() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            assert await it.manager.until_logged("acme", 0, 10.0)
            (line,) = it.manager.logs("acme", 0, 10)
            assert (line.number, line.generation, line.replica) == (1, 1, 0)
            assert (line.stream, line.text) == ("stdout", "hello from acme")
            assert not await it.manager.until_logged("acme", 1, 0.01)
            assert it.manager.logs("acme", 1, 10) == ()
            assert it.manager.logs("nobody", 0, 10) == ()

    asyncio.run(play())


def test_directory_is_followed_as_people_change_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with estate() as it:
            await it.begin(watch=True)
            it.plant("acme")
            await it.until(lambda: it.is_ready("acme"))
            it.code("acme", {"version": "2.0.0", "model": "two"})
            await it.until(lambda: it.status("acme").reloads == 1)
            linked = it.plant("linked").rename(tmp_path / "elsewhere")
            (it.directory / "linked").symlink_to(linked)
            await it.until(lambda: it.is_ready("linked"))
            (linked / "new.py").write_text("pass")
            await it.until(lambda: it.status("linked").reloads >= 1)
            shutil.rmtree(it.directory / "acme")
            await it.until(lambda: set(it.providers) == {"linked"})
            assert set(it.states()) == {"linked"}
            # The whole directory goes, and comes again.
            aside = it.directory.rename(it.directory.parent / "aside")
            await it.until(lambda: not it.providers)
            aside.rename(it.directory)
            await it.until(lambda: it.is_ready("linked"))

    asyncio.run(play())


NONE = type("None_", (), {"endpoints": ()})()

"""One plugin where things cross: refusals, removals, processes that leave slowly or not start."""

import asyncio
import errno
import os
import shutil
import signal

import pytest

from loomproxy.core.chat.provider import Provider
from loomproxy.plugins import replica
from loomproxy.plugins.status import State
from tests.plugins.estate import DEADLINE_S, estate


def test_generation_that_one_worker_refused_finishes_what_others_began_with_it() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            (old,) = it.providers["acme"].endpoints
            begun: list[str] = []

            def refuses(providers: tuple[Provider, ...]) -> str:
                new = [one for one in providers[0].endpoints if one.address != old.address]
                if begun or not new or not new[0].enabled:
                    return ""
                begun.append(str(new[0].address))
                return "not I"

            it.refuses = refuses
            it.flying = lambda: dict.fromkeys(begun, 1)
            assert (await it.manager.reload("acme")).problems == ("not I",)
            # Every worker had been told of it, and none was to use it, when that was taken back.
            assert [one.enabled for one in it.providers["acme"].endpoints] == [True, False]
            await asyncio.sleep(0.15)
            states = [one.state for one in it.status("acme").generations]
            assert states == [State.READY, State.DRAINING]
            it.flying = dict
            await it.until(lambda: len(it.status("acme").generations) == 1)
            assert it.providers["acme"].endpoints == (old,)

    asyncio.run(play())


def test_process_that_was_asked_to_leave_has_its_grace_though_it_answers_no_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica, "PROBE_TIMEOUT_MIN_S", 0.1)

    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme", stop_timeout=20.0)
            main = 'if __name__ == "__main__":'
            leaves_slowly = (
                "import signal\n"
                "def leave(*args):\n"
                "    (KNOBS / 'mute').touch()\n"
                "    note('term')\n"
                "    while (KNOBS / 'mute').exists():\n"
                "        time.sleep(0.02)\n"
                "    note('left')\n"
                "    os._exit(0)\n"
                "signal.signal(signal.SIGTERM, leave)\n"
            )
            code = (folder / "plugin.py").read_text()
            (folder / "plugin.py").write_text(code.replace(main, leaves_slowly + main))
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            stopping = asyncio.get_running_loop().create_task(it.manager.stop("acme"))
            await it.until(lambda: it.notes("acme")[-1] == "term")
            # Longer than three probes may take that are not answered.
            await asyncio.wait({stopping}, timeout=1.0)
            it.knob("acme", "mute").unlink()
            assert (await stopping).state is State.STOPPED
            assert it.notes("acme") == ["initialize {}", "cleanup", "term", "left"]

    asyncio.run(play())


def test_process_that_cannot_be_started_for_lack_of_room_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            made = os.memfd_create
            left = [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")]

            def make(name: str) -> int:
                if left:
                    raise left.pop()
                return made(name)

            monkeypatch.setattr(os, "memfd_create", make)
            os.kill(it.pid("acme"), signal.SIGKILL)
            await it.until(lambda: "temporarily unavailable" in it.status("acme").last_error)
            assert it.states()["acme"] is State.BACKOFF
            await it.until(lambda: it.is_ready("acme"))
            assert it.status("acme").restarts == 2

    asyncio.run(play())


def test_operator_who_asks_while_the_folder_is_removed_is_answered() -> None:
    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            shutil.rmtree(folder)
            await it.manager.look()  # It ends from now on.
            async with it.manager._looking:  # Others look, and take their time.
                enabling = asyncio.create_task(it.manager.enable("acme"))
                await it.until(lambda: "acme" not in it.states())
            async with asyncio.timeout(DEADLINE_S):
                assert (await enabling).ok

    asyncio.run(play())


def test_generation_that_falls_while_workers_are_told_of_it_does_not_take_over() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme")
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            pid = it.pid("acme")
            told, fallen = asyncio.Event(), asyncio.Event()
            publish = it._publish

            async def slowly(providers: tuple[Provider, ...]) -> tuple[str, ...]:
                if not told.is_set() and len(providers[0].endpoints) > 1:
                    told.set()
                    await fallen.wait()
                return await publish(providers)

            it.publisher._publish = slowly
            reload = asyncio.create_task(it.manager.reload("acme"))
            await told.wait()
            generations = it.status("acme").generations
            os.kill(generations[1].replicas[0].pid, signal.SIGKILL)
            await it.until(lambda: it.status("acme").generations[1].replicas[0].pid == 0)
            fallen.set()
            report = await reload
            assert "it left with SIGKILL" in report.problems[0]
            assert it.pid("acme") == pid
            assert it.is_ready("acme")

    asyncio.run(play())


def test_process_that_was_given_up_beside_one_that_serves_is_started_by_its_operator() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("acme", replicas=2)
            await it.begin()
            await it.until(lambda: it.is_ready("acme") and len(it.pids()) == 2)

            def states() -> list[State]:
                return [one.state for one in it.status("acme").generations[0].replicas]

            await it.until(lambda: states() == [State.READY] * 2)
            ready, pid = it.pid("acme", 1), 0
            # As five crashes would, for a process that fails at once.
            folder = it.directory / "acme"
            code = (folder / "plugin.py").read_text()
            (folder / "plugin.py").write_text("import sys; sys.exit(126)")
            os.kill(it.pid("acme"), signal.SIGKILL)
            await it.until(lambda: states() == [State.FAILED, State.READY])
            (folder / "plugin.py").write_text(code)
            it.history.clear()
            assert (await it.manager.start("acme")).ok
            pid = it.pid("acme", 1)
            assert states() == [State.READY] * 2
            assert pid != ready
            assert all(one["acme"].ready for one in it.history)

    asyncio.run(play())

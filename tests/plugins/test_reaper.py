"""Nothing of a guest outlives its node; with a real node-like process that is killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loomproxy.plugins.contract import TOKEN_VARIABLE
from loomproxy.plugins.reaper import STARTS_MAX, Reaper
from loomproxy.process import clean_environment, environment
from tests.plugins.guesthouse import DEADLINE_S, until
from tests.support.processes import alive, command_line, memory_bytes
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]

CHILD = "sleep 600 & echo $!; wait"
STRAY = "setsid sh -c 'echo $$; exec sleep 600' & wait"
"""What a guest does: it starts somebody, in its own session or in another, and says whom."""

# A parent as the node is one: a reaper, and a guest that starts somebody itself. `again`: its first
# reaper is killed after it was told of the guest, so that the second one has to know. `none`: there
# is no reaper, and the guest itself is ended by the kernel.
NODE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.plugins.guesthouse import Stay, shell
from loomproxy.plugins.reaper import Reaper

async def main():
    reaper = Reaper()
    reaper.start()
    what = shell(sys.argv[4], user=sys.argv[3])
    guest = Stay(what, Path(sys.argv[1]), reaper=None if sys.argv[2] == "none" else reaper)
    guest.guest.start()
    grandchild = await guest.first_line()
    if sys.argv[2] == "again":
        first = reaper.pid
        os.kill(first, signal.SIGKILL)
        while reaper.pid in (0, first):
            await asyncio.sleep(0.01)
    print(reaper.pid, guest.guest.pid, grandchild, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def killed_node(
    folder: Path, reaper: str, *, user: str = "", does: str = CHILD
) -> Iterator[list[int]]:
    """A node that was killed: the pids of its reaper, its guest, and what the guest started."""
    env = clean_environment(environment())
    env["PYTHONPATH"] += f":{ROOT}"
    with subprocess.Popen(
        [sys.executable, "-c", NODE, folder, reaper, user, does],
        env=env,
        stdout=subprocess.PIPE,
    ) as node:
        assert node.stdout is not None
        pids = [int(word) for word in node.stdout.readline().split()]
        assert len(pids) == 3
        try:
            assert all(alive(pid) for pid in pids)
            assert (os.getsid(pids[2]) == pids[2]) is (does == STRAY)
            os.kill(node.pid, signal.SIGKILL)
            yield pids
        finally:
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def end_of(pid: int) -> None:
    eventually(lambda: not alive(pid), f"the end of {pid}")


@pytest.mark.parametrize("does", [CHILD, STRAY], ids=["child", "stray"])
@pytest.mark.parametrize("reaper", ["first", "again"])
def test_nothing_of_a_guest_outlives_a_node_that_is_killed(
    folder: Path, reaper: str, does: str
) -> None:
    with killed_node(folder, reaper, does=does) as (reaper_pid, guest, grandchild):
        end_of(grandchild)
        end_of(guest)
        end_of(reaper_pid)


@pytest.mark.parametrize(
    "user",
    [
        "",
        pytest.param(
            "nobody", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch")
        ),
    ],
)
def test_guest_dies_with_its_node_by_the_kernels_hand_alone(folder: Path, user: str) -> None:
    with killed_node(folder, "none", user=user) as (_reaper, guest, grandchild):
        end_of(guest)
        assert alive(grandchild)  # this is what a reaper is for


def sleeper(token: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "600"], process_group=0, env={TOKEN_VARIABLE: token})


def settled(pid: int) -> bool:
    """Whether a reaper ignores what it has to: it has begun to read."""
    ignored = int(
        next(
            line.split()[1]
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("SigIgn")
        ),
        16,
    )
    return bool(ignored & 1 << signal.SIGTSTP - 1)


def test_reaper_is_the_last_to_leave_and_small() -> None:
    async def play() -> None:
        reaper = Reaper()
        reaper.start()
        await until(lambda: settled(reaper.pid))
        pid = reaper.pid
        assert os.getpgid(pid) == pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
        with (
            sleeper("of-one") as listed,
            sleeper("of-one") as stray,
            sleeper("of-another") as forgotten,
            sleeper("of-one-more") as other,
        ):
            reaper.watch(listed.pid, "of-one")
            reaper.watch(forgotten.pid, "of-another")
            reaper.forget(forgotten.pid)
            assert memory_bytes(pid) < 16 << 20
            assert "of-one" not in command_line(pid)
            assert reaper.pid == pid
            async with asyncio.timeout(DEADLINE_S):
                await reaper.stop()
            assert listed.wait(DEADLINE_S) == -signal.SIGKILL
            assert stray.wait(DEADLINE_S) == -signal.SIGKILL
            assert (forgotten.poll(), other.poll()) == (None, None)
            forgotten.kill()
            other.kill()
        assert not alive(pid)
        assert reaper.pid == 0
        await reaper.stop()  # there is none any more

    asyncio.run(play())


def test_reaper_that_does_not_read_is_replaced_and_nothing_is_forgotten(
    said: Callable[[], str],
) -> None:
    async def play() -> None:
        reaper = Reaper()
        reaper.start()
        first = reaper.pid
        os.kill(first, signal.SIGSTOP)
        with sleeper("of-one") as listed:
            reaper.watch(listed.pid, "of-one")
            for group in range(1 << 22, (1 << 22) + 10_000):  # more than the pipe holds
                reaper.watch(group, "of-many")
                reaper.forget(group)
            await until(lambda: reaper.pid not in (0, first))
            await reaper.stop()
            assert listed.wait(DEADLINE_S) == -signal.SIGKILL

    asyncio.run(play())
    assert 'event="reaper left" reason=SIGKILL' in said()


def test_reaper_that_is_killed_again_and_again_is_given_up(said: Callable[[], str]) -> None:
    async def play() -> None:
        reaper = Reaper()
        reaper.start()
        pids = set()
        while reaper.pid:
            pid = reaper.pid
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: reaper.pid != pid)
        assert len(pids) == STARTS_MAX
        reaper.watch(1 << 22, "of-none")  # nobody hears it, and that is no error
        await reaper.stop()

    asyncio.run(play())
    assert "no reaper any more" in said()


def test_list_of_processes_says_what_a_reaper_is_for() -> None:
    async def play() -> None:
        reaper = Reaper()
        reaper.start()
        await until(lambda: settled(reaper.pid))
        assert "# loomproxy: ends its guests" in command_line(reaper.pid)
        await reaper.stop()

    asyncio.run(play())

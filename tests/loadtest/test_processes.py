"""What is started is pinned, watched and always ended, by its id."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.accounting import all_stats, tree_of
from loadtest.processes import running, wait_until
from loadtest.trouble import Trouble

# Starts a grandchild that ignores SIGTERM, says so, and ignores SIGTERM itself.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""
WILLING = "import time; print('ready', flush=True); time.sleep(600)"


def said_ready(log: Path) -> bool:
    return b"ready" in log.read_bytes()


def pids() -> set[int]:
    return {one.pid for one in all_stats()}


def test_a_process_runs_on_its_core_and_is_gone_afterwards(tmp_path: Path) -> None:
    log, core = tmp_path / "log", min(os.sched_getaffinity(0))
    argv = [sys.executable, "-c", WILLING]
    with running(argv, core=core, log=log, directory=tmp_path) as process:
        wait_until(lambda: said_ready(log), process, what="willing", log=log)
        assert os.sched_getaffinity(process.pid) == {core}
        assert process.pid in pids()
    assert process.pid not in pids()


def test_a_tree_that_will_not_leave_is_killed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.processes.STOP_TIMEOUT_S", 0.2)
    log = tmp_path / "log"
    with running([sys.executable, "-c", STUBBORN], core=None, log=log, directory=tmp_path) as one:
        wait_until(lambda: said_ready(log), one, what="stubborn", log=log)
        members = {member.pid for member in tree_of(one.pid)}
        assert len(members) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(one.pid, 0)
    # The grandchild is init's by now, which may not have buried it yet: dead is enough.
    for left in members & pids():
        assert ") Z " in Path(f"/proc/{left}/stat").read_text()


def test_a_process_that_leaves_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-c", "raise SystemExit('port is taken')"]
    with (
        running(argv, core=None, log=log, directory=tmp_path) as process,
        pytest.raises(Trouble, match=r"(?s)hasty: left with status 1 .*port is taken"),
    ):
        wait_until(lambda: False, process, what="hasty", log=log)


def test_a_process_that_never_gets_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.processes.START_TIMEOUT_S", 0.1)
    log = tmp_path / "log"
    argv = [sys.executable, "-c", WILLING]
    with (
        running(argv, core=None, log=log, directory=tmp_path) as process,
        pytest.raises(Trouble, match="slow: not ready within"),
    ):
        wait_until(lambda: False, process, what="slow", log=log)


def test_the_executables_tell_their_options() -> None:
    root = Path(__file__).resolve().parents[2]
    for name in ("compare", "memory"):
        asked = subprocess.run(
            [sys.executable, str(root / "loadtest" / name), "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        assert "--loomproxy COMMAND" in asked.stdout

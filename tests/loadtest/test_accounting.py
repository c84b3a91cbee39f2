"""CPU time and memory, read from /proc: every process of the tree counts once, and nobody else."""

import os
import subprocess
import sys

import pytest

from loadtest.accounting import (
    CpuTime,
    Stat,
    cpu_time,
    cpu_time_of,
    memory_of,
    parse_busy,
    parse_smaps_rollup,
    parse_stat,
    tree,
    tree_of,
)

# proc(5): pid (comm) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt
# utime stime cutime cstime priority nice threads itrealvalue starttime ...
LINE = (
    "4711 ({name}) S 12 4711 4711 0 -1 4194560 900 800 7 6 "
    "250 130 40 20 20 0 1 0 987654 25628672 3300 18446744073709551615 1 1 0 0 0\n"
)


@pytest.mark.parametrize("name", ["nginx", "a (b) c", "x) S 99 1 1", ") (", "new\nline"])
def test_a_command_name_may_hold_anything(name: str) -> None:
    assert parse_stat(LINE.format(name=name)) == Stat(
        pid=4711, parent=12, user_ticks=290, kernel_ticks=150, started_ticks=987654
    )


@pytest.mark.parametrize("line", ["", "4711 nginx S 12", "4711 (nginx) S 12 4711", ") 1 ("])
def test_what_is_no_stat_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"in '"):
        parse_stat(line)


def stat(pid: int, parent: int, user: int = 0, kernel: int = 0) -> Stat:
    return Stat(pid, parent, user, kernel, started_ticks=pid)


def test_a_tree_holds_grandchildren_and_no_neighbours() -> None:
    stats = [stat(1, 0), stat(31, 30), stat(20, 10), stat(10, 1), stat(30, 20), stat(11, 1)]
    assert [one.pid for one in tree(stats, 10)] == [10, 20, 30, 31]
    assert [one.pid for one in tree(stats, 11)] == [11]
    assert tree(stats, 99) == []


def test_cpu_time_is_the_sum_of_the_tree_in_seconds() -> None:
    members = [stat(1, 0, user=150, kernel=20), stat(2, 1, user=50, kernel=10)]
    assert cpu_time(members, ticks_per_s=100) == CpuTime(user_s=2.0, kernel_s=0.3)


def test_user_and_kernel_are_subtracted_apart() -> None:
    used = CpuTime(5.0, 3.0) - CpuTime(4.0, 1.0)
    assert used == CpuTime(1.0, 2.0)
    assert used.total_s == 3.0


def test_the_busy_machine_does_not_count_idle_waiting_or_guests_twice() -> None:
    text = "cpu  100 20 30 4000 500 6 7 8 90 9\ncpu0 50 10 15 2000 250 3 3 4 45 4\nintr 1\n"
    assert parse_busy(text) == 100 + 20 + 30 + 6 + 7 + 8


@pytest.mark.parametrize("text", ["", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3\n"])
def test_what_is_no_line_of_all_cores_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line of all cores"):
        parse_busy(text)


def test_memory_is_in_bytes() -> None:
    text = (
        "559e-7ffc ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty: 7 kB\n"
    )
    assert parse_smaps_rollup(text) == (2048 * 1024, 1024 * 1024)


def test_memory_without_its_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="no Rss and Pss"):
        parse_smaps_rollup("Rss: 2048 kB\n")


BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
HOLD = "import sys; print('held', flush=True); sys.stdin.read()"


def test_a_child_that_left_is_still_counted() -> None:
    before = cpu_time_of(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    used = cpu_time_of(os.getpid()) - before
    assert 0.18 <= used.total_s < 5.0


def test_a_living_child_is_in_the_tree_and_its_memory_is_seen() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert child.pid in [one.pid for one in tree_of(os.getpid())]
        (memory,) = memory_of(child.pid)
    assert memory.pid == child.pid
    assert memory.rss_bytes >= memory.pss_bytes > 1 << 20
    assert HOLD in memory.command

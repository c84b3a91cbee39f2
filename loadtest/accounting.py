"""How much CPU time and memory a tree of processes has used, read from /proc.

CPU time of a tree is the sum over its living processes of their own time and of the time of
those they have already waited for (`cutime`, `cstime`), so a worker that was replaced during a
measurement is still counted. A process that left and was not yet waited for is counted as soon
as it is. Clock ticks are 10 ms on Linux: over a second of load that is 1 %.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB_BYTES = 1024

# Fields of /proc/PID/stat after the command name, counted from 0 at the state (proc(5) calls the
# state field 3).
FIELD_PARENT = 1
FIELD_UTIME = 11
FIELD_STIME = 12
FIELD_CUTIME = 13
FIELD_CSTIME = 14
FIELD_STARTED = 19

# Columns of the first line of /proc/stat: user nice system idle iowait irq softirq steal. The
# guest columns after them are contained in user and nice (proc(5)).
BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class Stat:
    """One process as /proc/PID/stat tells it; ticks include those of waited-for processes."""

    pid: int
    parent: int
    user_ticks: int
    kernel_ticks: int
    started_ticks: int  # with the pid, names a process for ever: pids are used again.


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time in seconds, user and kernel apart."""

    user_s: float
    kernel_s: float

    @property
    def total_s(self) -> float:
        """User and kernel together, in seconds."""
        return self.user_s + self.kernel_s

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        """Return what was used since `earlier`."""
        return CpuTime(self.user_s - earlier.user_s, self.kernel_s - earlier.kernel_s)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in bytes: resident, and proportional (shared pages divided)."""

    pid: int
    command: str
    rss_bytes: int
    pss_bytes: int


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/PID/stat; ValueError when it is not one.

    The command name stands in parentheses and may itself hold spaces and parentheses, so the
    fields are counted from the last closing one.
    """
    opening, closing = text.find("("), text.rfind(")")
    if opening < 0 or closing < opening:
        raise ValueError(f"no command name in {text!r}")
    fields = text[closing + 1 :].split()
    if len(fields) <= FIELD_STARTED:
        raise ValueError(f"only {len(fields)} fields after the command name in {text!r}")
    return Stat(
        pid=int(text[:opening]),
        parent=int(fields[FIELD_PARENT]),
        user_ticks=int(fields[FIELD_UTIME]) + int(fields[FIELD_CUTIME]),
        kernel_ticks=int(fields[FIELD_STIME]) + int(fields[FIELD_CSTIME]),
        started_ticks=int(fields[FIELD_STARTED]),
    )


def tree(stats: Iterable[Stat], root: int) -> list[Stat]:
    """Return `root` and everything it started, directly or not; [] when `root` is not there."""
    by_parent: dict[int, list[Stat]] = {}
    found: list[Stat] = []
    for stat in stats:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            found.append(stat)
    # `found` grows while it is walked: each member brings those it started.
    for member in found:
        found.extend(by_parent.get(member.pid, ()))
    return found


def cpu_time(members: Iterable[Stat], ticks_per_s: int) -> CpuTime:
    """Add up the members of a tree, in seconds."""
    user_ticks = kernel_ticks = 0
    for member in members:
        user_ticks += member.user_ticks
        kernel_ticks += member.kernel_ticks
    return CpuTime(user_ticks / ticks_per_s, kernel_ticks / ticks_per_s)


def parse_busy(text: str) -> int:
    """Read the ticks that all cores together were not idle, from /proc/stat; else ValueError."""
    name, *columns = text.splitlines()[0].split() if text else [""]
    if name != "cpu" or len(columns) <= max(BUSY_COLUMNS):
        raise ValueError(f"no line of all cores in {text[:100]!r}")
    return sum(int(columns[number]) for number in BUSY_COLUMNS)


def parse_smaps_rollup(text: str) -> tuple[int, int]:
    """Read (Rss, Pss) in bytes from /proc/PID/smaps_rollup; ValueError when one is missing."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in {"Rss", "Pss"}:
            sizes[name] = int(rest.split()[0]) * KIB_BYTES
    if len(sizes) != len({"Rss", "Pss"}):
        raise ValueError(f"no Rss and Pss in {text!r}")
    return sizes["Rss"], sizes["Pss"]


def all_stats() -> Iterator[Stat]:
    """Yield every process of this machine that can be read; those leaving meanwhile are not."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                yield parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue


def tree_of(root: int) -> list[Stat]:
    """Return the living tree of process `root`."""
    return tree(all_stats(), root)


def cpu_time_of(root: int) -> CpuTime:
    """Return the CPU time the tree of `root` has used up to now."""
    return cpu_time(tree_of(root), os.sysconf("SC_CLK_TCK"))


def machine_busy_s() -> float:
    """Return how many seconds the cores of this machine were busy since its start, together."""
    return parse_busy((PROC / "stat").read_text()) / os.sysconf("SC_CLK_TCK")


def memory_of(root: int) -> list[Memory]:
    """Return the memory of each process in the tree of `root`, by pid."""
    found = []
    for member in sorted(tree_of(root), key=lambda stat: stat.pid):
        directory = PROC / str(member.pid)
        rss_bytes, pss_bytes = parse_smaps_rollup((directory / "smaps_rollup").read_text())
        argv = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        found.append(Memory(member.pid, argv.strip(), rss_bytes, pss_bytes))
    return found

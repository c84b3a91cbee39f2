"""What /proc says of processes: who is whose child, what they hold, and who carries our mark."""

import os
import select
import signal
from pathlib import Path
from typing import Final

from tests.support.waiting import eventually

MARK: Final = "LOOMPROXY_TEST_MARK"
"""An environment variable that children inherit: it finds even those without a parent."""


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(found)


def marked(mark: str) -> list[int]:
    """Every living process that carries this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                variables = (directory / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in variables and state(int(directory.name)) != "Z":
                found.append(int(directory.name))
    return found


def state(pid: int) -> str:
    """One letter: R, S, T (stopped), Z (zombie); "" when there is none of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether the process runs still."""
    return state(pid) not in {"", "Z", "X"}


def command_line(pid: int) -> str:
    """Its argv, joined."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def memory_bytes(pid: int, what: str = "VmRSS") -> int:
    """Resident memory now, or with `VmHWM` the most it ever was (since `forget_peak`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{what} of {pid} is not there")


def forget_peak(pid: int) -> None:
    """Let VmHWM begin again from now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """How many descriptors it holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 # only the count matters, 10,000 paths do not


def wait_gone(pid: int, what: str, *, within_s: float) -> None:
    """Wait until a process, of whatever parent, is no more."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(within_s * 1000), f"{what} ({pid}) still lives after {within_s} s"
    finally:
        os.close(handle)
    eventually(lambda: not alive(pid), f"{what} ({pid}) gone")


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to one process that we started, or that it started."""
    os.kill(pid, how)

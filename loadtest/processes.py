"""Start processes on a core of their own, and end them whatever happens to us.

Each runs in its own session (so that Ctrl-C at the terminal reaches only us, and we end the rest
in order), pinned with taskset, and asks the kernel to be ended with us (setpriv --pdeathsig), so
that even our own `kill -9` leaves nothing behind. All are ended by their ids, never by a name.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from loadtest.accounting import Stat, tree_of
from loadtest.trouble import Trouble

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 15.0  # A zipapp that unpacks itself for the first time needs some of it.
STOP_TIMEOUT_S = 5.0  # Past it SIGKILL: what is measured is over by then.
POLL_S = 0.02
SPARE_DESCRIPTORS = 256  # What a process needs besides its connections.
LOG_TAIL_BYTES = 2000

# The kernel ends a process started through this when we end, for whatever reason.
ENDING_WITH_US = ("setpriv", "--pdeathsig", "TERM")

Process = subprocess.Popen[bytes]


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def start(argv: Sequence[str], *, core: int | None, log: Path, directory: Path) -> Process:
    """Start `argv` in `directory`, pinned to `core` if one is given, output appended to `log`."""
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*ENDING_WITH_US, *pinned, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )


def stop(process: Process) -> None:
    """End `process` and all it started; returns when they are gone or were killed."""
    members = tree_of(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    for member in members:
        _kill_if_alive(member)
    process.wait(STOP_TIMEOUT_S)


def _kill_if_alive(member: Stat) -> None:
    """Kill what has not left by itself: the same process, not a later one with its pid."""
    for now in tree_of(member.pid)[:1]:
        if now.started_ticks == member.started_ticks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, core: int | None, log: Path, directory: Path
) -> Iterator[Process]:
    """Hold a started process for the length of a `with` block."""
    process = start(argv, core=core, log=log, directory=directory)
    try:
        yield process
    finally:
        stop(process)


def wait_until(ready: Callable[[], bool], process: Process, *, what: str, log: Path) -> None:
    """Poll until `ready` answers true; Trouble with the log's end when it never does."""
    deadline_at = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            _give_up(f"{what}: left with status {process.returncode} instead of starting", log)
        if time.monotonic() > deadline_at:
            _give_up(f"{what}: not ready within {START_TIMEOUT_S:.0f} s", log)
        time.sleep(POLL_S)


def _give_up(seen: str, log: Path) -> NoReturn:
    tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if log.exists() else ""
    raise Trouble(f"{seen}. Its last words, which say what to mend:\n{tail}")


def raise_descriptor_limit(connections: int) -> None:
    """Let this process, and each it starts, hold `connections`; Trouble when they may not."""
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Trouble(
            f"RLIMIT_NOFILE: {hard} descriptors at most, {needed} are needed."
            " Raise it (ulimit -Hn, as root) or ask for fewer connections."
        )
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


def raise_on_sigterm() -> None:
    """Let SIGTERM unwind the `with` blocks as Ctrl-C does, so that all we started is ended."""

    def interrupted(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)

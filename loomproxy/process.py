"""Spawn, watch and stop one child process. When to do which is `core.child`'s to decide.

A child is started from an argv, with the descriptors it is meant to have and an environment that
was chosen, in a process group of its own: a Ctrl-C in the terminal reaches the node alone, and what
a child leaves behind in its group goes with it. Its end is seen through a pidfd, which belongs to
this one process and cannot be confused with a later owner of the same pid. What it says on stderr
is passed on, and the last lines are kept, because they say why it left.
"""

import asyncio
import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

import loomproxy

LINES_KEPT_MAX: Final = 20
"""How many last lines of a child's stderr are kept: a traceback with its message."""

LINE_BYTES_MAX: Final = 4096
"""Longer lines are cut here, so that a child that never ends its line costs no more than this."""

_READ_BYTES: Final = 65536
_KEPT_NAMES: Final = frozenset(
    ("HOME", "LANG", "LANGUAGE", "LOGNAME", "MALLOC_ARENA_MAX", "PATH", "TMPDIR", "TZ", "USER")
)
_KEPT_PREFIXES: Final = ("LC_", "LD_", "PYTHON", "COVERAGE_", "LOOMPROXY_")
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class Exit(msgspec.Struct, frozen=True):
    """How a child ended."""

    code: int  # its exit status, or minus the signal that ended it
    lines: tuple[str, ...]  # the last it said on stderr

    def __str__(self) -> str:
        """In words, for the log."""
        if self.code >= 0:
            return f"exit status {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class Process:
    """One running child.

    `left` is called once, when it has ended and was reaped; `said` with each line of its stderr.
    Neither may raise. Make it with `spawn`, in a running loop.
    """

    def __init__(
        self,
        popen: "subprocess.Popen[bytes]",
        left: Callable[[Exit], None],
        said: Callable[[str], None],
    ) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._left = left
        self._said = said
        self._loop = asyncio.get_running_loop()
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT_MAX)
        self._rest = b""
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(popen.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        assert popen.stderr is not None
        self._stderr = popen.stderr.fileno()
        os.set_blocking(self._stderr, False)
        self._loop.add_reader(self._stderr, self._read)

    @property
    def running(self) -> bool:
        """Whether `left` is still to come."""
        return not self._ended.is_set()

    def terminate(self) -> None:
        """Ask it to leave (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and all that is in its group."""
        self._signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """Ask it to leave, kill it after `grace_s`; return when it has ended."""
        self.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._ended.wait()
        self.kill()
        await self._ended.wait()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the group: it exists until its leader is reaped, so this reaches nobody else."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _reap(self) -> None:
        self._signal(signal.SIGKILL)  # what it leaves behind; its own end is not changed by that
        code = self._popen.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._stderr_closed:
            self._read()
            self._close_stderr()
        if self._rest:
            self._line(self._rest)
        self._ended.set()
        self._left(Exit(code, tuple(self._lines)))

    @property
    def _stderr_closed(self) -> bool:
        assert self._popen.stderr is not None
        return self._popen.stderr.closed

    def _close_stderr(self) -> None:
        self._loop.remove_reader(self._stderr)
        assert self._popen.stderr is not None
        self._popen.stderr.close()

    def _read(self) -> None:
        """Take what it said; once per wake-up, so that a talkative child does not hold the loop."""
        try:
            data = os.read(self._stderr, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close_stderr()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        self._rest = self._rest[:LINE_BYTES_MAX]

    def _line(self, line: bytes) -> None:
        text = line[:LINE_BYTES_MAX].decode("utf-8", "backslashreplace").rstrip()
        self._lines.append(text)
        self._said(text)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    left: Callable[[Exit], None],
    said: Callable[[str], None],
) -> Process:
    """Start `argv` in a process group of its own. OSError when it cannot be started.

    stdin is empty, stdout is ours, stderr is read. The descriptors keep their numbers in the child.
    """
    popen = subprocess.Popen(  # noqa: S603 # the argv is ours, or the operator's own
        argv,
        env=dict(env),
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    return Process(popen, left, said)


def environment() -> dict[str, str]:
    """Our own environment: read here for everybody who starts or is started by somebody."""
    return dict(os.environ)  # noqa: TID251 # this is the one place outside the configuration


def clean_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a child of our own code is given: where it runs and in which language.

    It is given none of our secrets. systemd's variables (NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS
    …) are meant for the node alone.
    """
    kept = {
        name: value
        for name, value in ours.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
    kept["PYTHONPATH"] = os.pathsep.join(_import_path())
    return kept


def own_argv(*arguments: str) -> list[str]:
    """An argv that runs this same code again, from wherever it was imported.

    A tree, a wheel or a zipapp.
    """
    # -P: what lies in the current directory is no module of ours.
    return [sys.executable, "-P", "-m", loomproxy.__name__, *arguments]


def _import_path() -> list[str]:
    """Where we and what we need are imported from, ours first.

    The interpreter adds its own by itself.
    """
    ours = str(Path(loomproxy.__file__).parent.parent)
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    others = [
        entry
        for entry in sys.path
        if entry.startswith("/")
        and entry != ours
        and not any(_below(entry, top) for top in standard)
    ]
    return [ours, *others]


def _below(entry: str, standard: str) -> bool:
    """Whether the interpreter puts `entry` on the path without being told."""
    rest = entry.removeprefix(standard)
    return rest in {"", "/lib-dynload"} and entry.startswith(standard)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; leave at once if it has died already.

    prctl(2), PR_SET_PDEATHSIG. To be called first thing by a child; Linux only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(1)

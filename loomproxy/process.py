"""Spawn, watch and stop one child process. When to do which is `core.child`'s to decide.

A child is started from an argv, with the descriptors it is meant to have and an environment that
was chosen, in a process group of its own: a Ctrl-C in the terminal reaches the node alone, and what
a child leaves behind in its group goes with it. Its end is seen through a pidfd, which belongs to
this one process and cannot be confused with a later owner of the same pid. What it says on stderr
is passed on, and the last lines are kept, because they say why it left.

A program that is not ours (`spawn_guest`) is read on stdout as well, and may say whatever it likes:
its pipes are always drained, so that it never waits for us, but only so many lines a second are
passed on; how many were not, is.
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
from functools import partial
from pathlib import Path
from typing import IO, Final

import msgspec

import loomproxy

LINES_KEPT_MAX: Final = 20
"""How many last lines of a child's stderr are kept: a traceback with its message."""

LINE_BYTES_MAX: Final = 4096
"""Longer lines are cut here, so that a child that never ends its line costs no more than this."""

LINES_PER_S_MAX: Final = 200
"""How many lines a second are passed on of each stream of a guest.

The rest is read and counted only. A log line for each request is what guests say at most when they
are well, and two hundred of 4 KiB are still less than a megabyte for whoever keeps them.
"""

ORPHANS_EVERY_S: Final = 5.0
"""How often it is looked for children that nobody waits for, where they are given to us."""

ORPHANS_MAX: Final = 1000
"""How many are let go at once; the others wait for the next time."""

_SECOND_S: Final = 1.0
_READ_BYTES: Final = 65536
_LAST_READS: Final = 16  # of a megabyte, the most that a child can have its pipe hold (pipe(7))
_KEPT_NAMES: Final = frozenset(
    (
        *(
            "HOME",
            "LANG",
            "LANGUAGE",
            "LOGNAME",
            "MALLOC_ARENA_MAX",
            "PATH",
            "TMPDIR",
            "TZ",
            "USER",
        ),
        *("SSL_CERT_DIR", "SSL_CERT_FILE"),  # whom the node trusts, its workers do
    )
)
_KEPT_PREFIXES: Final = ("LC_", "LD_", "PYTHON", "COVERAGE_", "LOOMPROXY_")
_WITHHELD: Final = frozenset(
    ("LOOMPROXY_ADMIN_TOKEN",)
)  # shown by the command line, asked for by us
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


_WAITED_FOR: Final[set[int]] = set()  # our children, each of which somebody waits for


class Exit(msgspec.Struct, frozen=True):
    """How a child ended."""

    code: int  # its exit status, or minus the signal that ended it
    lines: tuple[str, ...]  # the last it said, on those of its streams that we read

    def __str__(self) -> str:
        """In words, for the log."""
        if self.code >= 0:
            return f"exit status {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class _Stream:
    """What a child says on one pipe: its lines as they come, and the last ones.

    `kept` gets all lines, `said` at most `lines_per_s_max` in a second. 0: all.
    """

    def __init__(
        self,
        pipe: IO[bytes],
        kept: collections.deque[bytes],
        said: Callable[[str], None],
        lines_per_s_max: int,
    ) -> None:
        self._pipe = pipe
        self._kept = kept
        self._said = said
        self._lines_per_s_max = lines_per_s_max
        self._told = 0  # lines in this second
        self._dropped = 0  # lines in this second
        self._second: asyncio.TimerHandle | None = None  # ends it
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def end(self) -> None:
        """Take what is left in the pipe, and close it: the child has ended."""
        for _time in range(_LAST_READS):
            if self._pipe.closed or not self._read():
                break
        self._close()
        if self._rest:
            self._take(b"\n")
        self._next_second()
        if self._second is not None:
            self._second.cancel()

    def _close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()

    def _read(self) -> bool:
        """Take what it said, and tell whether there was something.

        Once per wake-up, so that a talkative child does not hold the loop.
        """
        try:
            data = os.read(self._pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._take(data)
        else:
            self._close()
        return bool(data)

    def _take(self, data: bytes) -> None:
        """Tell the lines that may be told; of the others look at the last ones only."""
        data = self._rest + data
        lines = data.count(b"\n")
        tellable = min(lines, self._tellable()) if lines else 0
        *whole, data = data.split(b"\n", tellable)
        for line in whole:
            self._kept.append(line[:LINE_BYTES_MAX])
            self._said(_text(line))
        self._told += tellable
        if lines > tellable:
            # One more piece than is kept: the first may hold many lines that nobody will see.
            *whole, data = data.rsplit(b"\n", LINES_KEPT_MAX + 1)
            self._kept.extend(line[:LINE_BYTES_MAX] for line in whole[-LINES_KEPT_MAX:])
            self._dropped += lines - tellable
        self._rest = data[:LINE_BYTES_MAX]

    def _tellable(self) -> int:
        """How many lines may be told at this moment."""
        if not self._lines_per_s_max:
            return sys.maxsize
        if self._second is None:
            self._second = self._loop.call_later(_SECOND_S, self._next_second)
        return self._lines_per_s_max - self._told

    def _next_second(self) -> None:
        """Say what was not said; the next second begins with the next line."""
        if self._second is not None:
            self._second.cancel()
            self._second = None
        if self._dropped:
            self._said(
                f"({self._dropped} lines not shown: more than {self._lines_per_s_max} in a second)"
            )
        self._told = self._dropped = 0


def _text(line: bytes) -> str:
    return line[:LINE_BYTES_MAX].decode("utf-8", "backslashreplace").rstrip()


class Process:
    """One running child.

    `left` is called once, when it has ended and was reaped. It may not raise. Made by `spawn` and
    `spawn_guest`, in a running loop.
    """

    def __init__(
        self,
        popen: "subprocess.Popen[bytes]",
        left: Callable[[Exit], None],
        said: Mapping[str, Callable[[str], None]],
        lines_per_s_max: int,
    ) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._lines: collections.deque[bytes] = collections.deque(maxlen=LINES_KEPT_MAX)
        self._ended = asyncio.Event()
        self._pidfd = _pidfd(popen)
        self._loop.add_reader(self._pidfd, self._reap)
        _WAITED_FOR.add(self.pid)
        self._streams = [
            _Stream(pipe, self._lines, said[name], lines_per_s_max)
            for name, pipe in (("stdout", popen.stdout), ("stderr", popen.stderr))
            if pipe is not None
        ]

    @property
    def running(self) -> bool:
        """Whether `left` is still to come."""
        return not self._ended.is_set()

    def terminate(self) -> None:
        """Ask it to leave (SIGTERM), and all that is in its group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and all that is in its group."""
        self._signal(signal.SIGKILL)

    async def wait(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

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
        _WAITED_FOR.discard(self.pid)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        for stream in self._streams:
            stream.end()
        self._ended.set()
        self._left(Exit(code, tuple(_text(line) for line in self._lines)))


def _pidfd(popen: "subprocess.Popen[bytes]") -> int:
    """A descriptor for a child just started. OSError when we have none left; then it is killed."""
    try:
        return os.pidfd_open(popen.pid)
    except OSError:
        with popen:  # waits for it, and closes its pipes
            popen.kill()
        raise


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    left: Callable[[Exit], None],
    said: Callable[[str], None],
) -> Process:
    """Start `argv` in a process group of its own. OSError when it cannot be started.

    stdin is empty, stdout is ours, stderr is read: `said` is told each line, and may not raise. The
    descriptors keep their numbers in the child.
    """
    popen = subprocess.Popen(  # noqa: S603 # the argv is ours, or the operator's own
        argv,
        env=dict(env),
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    return Process(popen, left, {"stderr": said}, 0)


def spawn_guest(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    left: Callable[[Exit], None],
    said: Callable[[str, str], None],
) -> Process:
    """Start a program that is not ours, as `spawn` does, in the directory `cwd`.

    Both of its streams are read: `said` is told the stream, `stdout` or `stderr`, and a line of it,
    at most `LINES_PER_S_MAX` times a second. It may not raise.
    """
    popen = subprocess.Popen(  # noqa: S603 # the argv is a manifest's, which the operator put there
        argv,
        cwd=cwd,
        env=dict(env),
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    streams = {name: partial(said, name) for name in ("stdout", "stderr")}
    return Process(popen, left, streams, LINES_PER_S_MAX)


def reap_orphans() -> int:
    """Let go of children that ended and that nobody here started; return how many there were.

    Whose parent has left is given to process 1, which in a container may be us: what guests leave
    behind would stay in the list of processes for ever.
    """
    reaped = 0
    try:
        while reaped < ORPHANS_MAX:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in _WAITED_FOR:
                break
            os.waitpid(ended.si_pid, os.WNOHANG)
            reaped += 1
    except ChildProcessError:
        pass  # there are no children at all
    return reaped


async def reaping_orphans() -> None:
    """Do that again and again, for ever."""
    while True:
        reap_orphans()
        await asyncio.sleep(ORPHANS_EVERY_S)  # noqa: TID251 # no event of the loop's says so


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
        if name in _KEPT_NAMES or (name.startswith(_KEPT_PREFIXES) and name not in _WITHHELD)
    }
    kept["PYTHONPATH"] = os.pathsep.join(_import_path())
    return kept


def own_argv(*arguments: str) -> list[str]:
    """An argv that runs this same code again, from wherever it was imported.

    A tree, a wheel or a zipapp.
    """
    # -P: what lies in the current directory is no module of ours.
    return [sys.executable, "-P", "-m", loomproxy.__name__, *arguments]


def bare_argv(source: str, *arguments: str) -> list[str]:
    """An argv that runs `source` in a bare interpreter, the quickest and smallest there is.

    It has the standard library and nothing else: -I, no environment and no current directory; -S,
    no site-packages.
    """
    return [sys.executable, "-I", "-S", "-c", source, *arguments]


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

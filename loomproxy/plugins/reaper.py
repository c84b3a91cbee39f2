"""What ends the guests' processes when the node cannot: nothing outlives it, not even after -9.

The kernel kills a guest with its parent (PR_SET_PDEATHSIG), but not what the guest itself started:
of `sh -c 'node server.js & wait'` and of `npm start` only the shell would go. So one small process
per node, a *reaper*, holds the read end of a pipe and is told over it which guests there are:
`+PGID LOOM_PLUGIN_TOKEN=TOKEN` and `-PGID`, a line each. Only the node holds the write end; when
that closes, however the node ended, the reaper kills every group it knows, then, for some began a
session of their own, every process that has one of these tokens in its environment; and it leaves.
It is in a group of its own and hears none of the signals that end others, for it has to be the
last.

Only what leaves its group and changes its environment, too, hides from it; that takes intent. A
number may be another group's only once the whole of the first is gone, and then the node says `-`
at once. Tokens are secrets: they are in the pipe and in memory, in no argument and no line of log.

If the reaper dies itself, another is started and told all groups again, `STARTS_MAX` times a
minute; then the node goes on without, and says so.
"""

import asyncio
import collections
import contextlib
import inspect
import os
from typing import Final

from loomproxy.log import log
from loomproxy.plugins.contract import TOKEN_VARIABLE
from loomproxy.process import Exit, Process, bare_argv, clean_environment, environment, spawn

STARTS_MAX: Final = 5
"""So often within a minute a reaper is started; what kills it more often will not stop at that."""

_TITLE: Final = "# loomproxy: ends its guests when the node is gone"
# What a list of processes shows of it first.

_WINDOW_S: Final = 60.0
_GRACE_S: Final = 5.0  # from the end of its pipe to its end; it needs milliseconds


class Reaper:
    """The node's one reaper. Make it in a running loop, `start` it before the first guest."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tokens: dict[int, str] = {}  # by group
        self._process: Process | None = None
        self._pipe = -1  # our end
        self._stopping = False
        self._started_at: collections.deque[float] = collections.deque(maxlen=STARTS_MAX)

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and tell it the guests that there are. OSError when it cannot be started."""
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self._started_at.append(self._loop.time())
        try:
            self._process = spawn(
                bare_argv(_PROGRAM, str(theirs)),
                env=clean_environment(environment()),
                pass_fds=(theirs,),
                left=self._left,
                said=lambda line: log("reaper said", level="warning", line=line),
            )
        except OSError:
            self._close()
            raise
        finally:
            os.close(theirs)
        for pgid, token in self._tokens.items():
            self._tell(_line(pgid, token))

    def watch(self, pgid: int, token: str) -> None:
        """Have this process group, and whoever has this token, end with the node."""
        self._tokens[pgid] = token
        self._tell(_line(pgid, token))

    def forget(self, pgid: int) -> None:
        """The group is gone; its number may soon be another's."""
        self._tokens.pop(pgid, None)
        self._tell(f"-{pgid}\n")

    async def stop(self) -> None:
        """End it, and what there still is of the guests."""
        self._stopping = True
        self._close()
        if self._process is None:
            return
        ended = self._process
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await ended.wait()
        await ended.stop(0.0)

    def _tell(self, line: str) -> None:
        """Say a line. A reaper that does not read is no use: it is killed, and replaced."""
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, line.encode())  # below PIPE_BUF, so whole or not at all
        except BlockingIOError:
            if self._process is not None:
                self._process.kill()
        except BrokenPipeError:
            pass  # it is gone, `_left` will be called, and its successor told all guests

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _left(self, end: Exit) -> None:
        self._process = None
        self._close()
        if self._stopping:
            return
        log("reaper left", level="error", reason=str(end), said=end.lines[-1:])
        if self._worn_out():
            log("no reaper any more: what guests start may outlive this node", level="error")
            return
        try:
            self.start()
        except OSError as error:
            log("reaper cannot be started", level="error", reason=str(error))

    def _worn_out(self) -> bool:
        started_at = self._started_at
        return len(started_at) == STARTS_MAX and self._loop.time() - started_at[0] < _WINDOW_S


def _line(pgid: int, token: str) -> str:
    return f"+{pgid} {TOKEN_VARIABLE}={token}\n"


def _sweep() -> None:
    """The reaper's program; its text and `_end_marked`'s run alone, in a bare interpreter."""
    import os  # noqa: PLC0415 # it has to bring all it needs
    import signal  # noqa: PLC0415 # likewise, all it needs
    import sys  # noqa: PLC0415 # likewise, all it needs

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    marks: dict[int, bytes] = {}
    with os.fdopen(int(sys.argv[1]), "rb") as pipe:
        for line in pipe:
            group, _, mark = line[1:-1].partition(b" ")
            marks.pop(int(group), None)
            if line[:1] == b"+":
                marks[int(group)] = mark
    for pgid in marks:
        try:  # noqa: SIM105 # contextlib would be its largest import
            os.killpg(pgid, signal.SIGKILL)
        except OSError:
            pass
    for _ in range(5):  # Whoever is found may just be starting another.
        if not marks or not _end_marked(frozenset(marks.values())):
            break


def _end_marked(marks: frozenset[bytes]) -> bool:
    """Kill all that have one of `marks` in their environment; return whether any had."""
    import os  # noqa: PLC0415 # see above
    import signal  # noqa: PLC0415 # see above

    found = False
    for name in os.listdir("/proc"):  # noqa: PTH208 # pathlib is no small import
        if not name.isdecimal():
            continue
        fd = -1
        try:
            fd = os.pidfd_open(int(name))  # First: what it kills is what is read then, or nobody.
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123 # nor here
                if not marks.isdisjoint(file.read().split(b"\0")):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    found = True
        except OSError:
            pass
        if fd >= 0:
            os.close(fd)
    return found


_PROGRAM: Final = "\n".join(
    (_TITLE, inspect.getsource(_end_marked), inspect.getsource(_sweep), "_sweep()")
)

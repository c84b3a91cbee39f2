"""What ends the guests' processes when the node cannot: nothing outlives it, not even after -9.

The kernel kills a guest with its parent (PR_SET_PDEATHSIG), but not what the guest itself started:
of `sh -c 'node server.js & wait'` and of `npm start` only the shell would go. So one small process
per node, a *reaper*, holds the read end of a pipe and is told over it which process groups there
are: `+PGID` and `-PGID`, a line each. Only the node holds the write end; when that closes, however
the node ended, the reaper kills every group it knows, and leaves. It is in a group of its own and
hears none of the signals that end others, for it has to be the last.

A guest that moves its own children into other groups or sessions hides them from it; that takes
intent. A number may be another group's only once the whole of the first is gone, and then the node
says `-` at once.

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
        self._groups: set[int] = set()
        self._process: Process | None = None
        self._pipe = -1  # our end
        self._stopping = False
        self._started_at: collections.deque[float] = collections.deque(maxlen=STARTS_MAX)

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and tell it the groups that there are. OSError when it cannot be started."""
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self._started_at.append(self._loop.time())
        try:
            self._process = spawn(
                bare_argv(f"{_TITLE}\n{inspect.getsource(_sweep)}\n_sweep()", str(theirs)),
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
        for group in sorted(self._groups):
            self._tell(f"+{group}\n")

    def watch(self, pgid: int) -> None:
        """Have this process group end with the node."""
        self._groups.add(pgid)
        self._tell(f"+{pgid}\n")

    def forget(self, pgid: int) -> None:
        """The group is gone; its number may soon be another's."""
        self._groups.discard(pgid)
        self._tell(f"-{pgid}\n")

    async def stop(self) -> None:
        """End it, and what there still is of the groups."""
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
            pass  # it is gone, `_left` will be called, and its successor told all groups

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


def _sweep() -> None:
    """The reaper's whole program; its text runs alone, in a bare interpreter."""
    import os  # noqa: PLC0415 # it has to bring all it needs
    import signal  # noqa: PLC0415 # likewise, all it needs
    import sys  # noqa: PLC0415 # likewise, all it needs

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    with os.fdopen(int(sys.argv[1])) as pipe:
        for line in pipe:
            (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:  # noqa: SIM105 # contextlib would be its largest import
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass

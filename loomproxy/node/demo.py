"""Keeps the demo upstream: a process of its own beside the node, for trying things out."""

import os
from collections.abc import Mapping

from loomproxy.log import log, relay
from loomproxy.node.lifecycle import GateError, NotYetError
from loomproxy.process import Exit, Process, clean_environment, own_argv, spawn

_LISTENS = "listens"  # what it says when it can be asked
_GRACE_S = 2.0  # for its last answers


class Demo:
    """The demo upstream at `address`. When it leaves by itself it is not started again."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self._address = address
        self._environment = environment
        self._process: Process | None = None
        self._end: Exit | None = None
        self._stopping = False
        self._listens = False

    def start(self) -> None:
        """Start it; `check` says whether it answers."""
        argv = own_argv("demo", "--listen", self._address, "--parent", str(os.getpid()))
        env = clean_environment(self._environment)
        self._process = spawn(argv, env=env, left=self._left, said=self._said)
        log("demo upstream started", address=self._address, pid=self._process.pid)

    async def check(self) -> None:
        """The gate: return when it listens; NotYetError before, GateError when it has left.

        Asking whether somebody answers at its address would not do: that may be somebody else.
        """
        if self._end is not None:
            last = self._end.lines[-1] if self._end.lines else str(self._end)
            raise GateError(f"the demo upstream left: {last}")
        if not self._listens:
            raise NotYetError("the demo upstream does not listen yet")

    async def stop(self) -> None:
        """End it."""
        self._stopping = True
        if self._process is not None:
            await self._process.stop(_GRACE_S)

    def _left(self, end: Exit) -> None:
        self._end = end
        if not self._stopping:
            log("demo upstream left", level="error", reason=str(end))

    def _said(self, line: str) -> None:
        if line == _LISTENS:
            self._listens = True
        else:
            relay(line, "demo upstream said")

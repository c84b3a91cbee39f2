"""How the node begins and ends: gates that must open before it is ready, steps that it leaves by.

*Gates* are asked in order, each again and again until it opens or its timeout has passed; `Gates`
knows which one is being waited for, so that a health page can say it. *Steps* are registered as
things are started, and done in the reverse order. Each has its own timeout and all have one
deadline; a step that fails or hangs is reported and the next one is done all the same. When the
deadline has passed, what remains still gets `STEP_TIMEOUT_MIN_S` each: closing things is quick, and
not closing them is what hurts.

Whatever has a beginning and an end in the node registers here; nothing here knows what they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from loomproxy.log import log

GATE_RETRY_S: Final = 0.2
"""How long to wait before a gate that was closed is asked again. Gates wait for local things."""

STEP_TIMEOUT_MIN_S: Final = 0.5
"""What each step gets even when the deadline of all has passed, or somebody forces."""

_CANCEL_TIMEOUT_S: Final = 0.2  # for a step that timed out to hear of it


class NotYetError(Exception):
    """A gate is closed; the text says what it waits for."""


class GateError(Exception):
    """A gate did not open in time; the text says which, how long it was given, and what it said."""


class _Gate(msgspec.Struct, frozen=True):
    name: str
    check: Callable[[], Awaitable[None]]
    timeout_s: float


class Gates:
    """What must be so before the node is ready."""

    def __init__(self) -> None:
        self._gates: list[_Gate] = []
        self.waiting_for = ""  # the gate being asked now; "" before and after
        self.passed = False

    def add(self, name: str, check: Callable[[], Awaitable[None]], *, timeout_s: float) -> None:
        """Add a gate.

        `check` returns when it is open, waits, or raises NotYetError to be asked again.
        """
        self._gates.append(_Gate(name, check, timeout_s))

    async def run(self, timeout_s: float, *, last: bool = True) -> None:
        """Pass all gates in order, within `timeout_s`; GateError when one stays closed.

        With `last=False` there are others to come, which are added and run later.
        """
        loop = asyncio.get_running_loop()
        deadline_at = loop.time() + timeout_s
        while self._gates:
            gate = self._gates.pop(0)
            begun_at = loop.time()
            self.waiting_for = gate.name
            await _pass(gate, min(deadline_at, begun_at + gate.timeout_s))
            log("gate passed", gate=gate.name, took_s=f"{loop.time() - begun_at:.3f}")
        self.waiting_for = ""
        self.passed = last


async def _pass(gate: _Gate, deadline_at: float) -> None:
    """Ask `gate` until it opens."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    reason = "it did not answer"
    try:
        async with asyncio.timeout_at(deadline_at):
            while True:
                try:
                    await gate.check()
                except NotYetError as closed:
                    reason = str(closed)
                else:
                    return
                await asyncio.sleep(GATE_RETRY_S)  # noqa: TID251 # the gates' own cadence
    except TimeoutError:
        waited_s = loop.time() - begun_at
        raise GateError(
            f"startup gate {gate.name!r} stayed closed for {waited_s:.1f} s: {reason}"
        ) from None


class Trouble(msgspec.Struct, frozen=True):
    """A step that did not end well."""

    step: str
    reason: str


class _Step(msgspec.Struct, frozen=True):
    name: str
    leave: Callable[[], Awaitable[None]]
    timeout_s: float


class Shutdown:
    """How to leave: the steps so far, last registered first."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._forced = asyncio.Event()
        self._troubles: list[Trouble] = []
        self.begun = False

    def add(self, name: str, leave: Callable[[], Awaitable[None]], *, timeout_s: float) -> None:
        """Register how to undo what was just started. Not while the shutdown runs."""
        assert not self.begun
        self._steps.append(_Step(name, leave, timeout_s))

    def force(self) -> None:
        """Wait for nothing any more.

        Each remaining step gets STEP_TIMEOUT_MIN_S, the current one too.
        """
        self._forced.set()

    async def run(self, timeout_s: float) -> list[Trouble]:
        """Do every step, within `timeout_s` and a little; return what went wrong. Once only."""
        assert not self.begun
        self.begun = True
        loop = asyncio.get_running_loop()
        deadline_at = loop.time() + timeout_s
        while self._steps:
            step = self._steps.pop()
            begun_at = loop.time()
            allowed_s = max(STEP_TIMEOUT_MIN_S, min(step.timeout_s, deadline_at - begun_at))
            reason = await self._do(step, allowed_s)
            took_s = f"{loop.time() - begun_at:.3f}"
            if reason:
                self._troubles.append(Trouble(step.name, reason))
                log("step failed", level="error", step=step.name, took_s=took_s, reason=reason)
            else:
                log("step done", step=step.name, took_s=took_s)
        return self._troubles

    async def _do(self, step: _Step, allowed_s: float) -> str:
        """Do one step; return what went wrong, or "". One that ignores its end is left behind."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(_awaited(step.leave), name=step.name)
        forced = loop.create_task(self._forced.wait())
        await asyncio.wait({task, forced}, timeout=allowed_s, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not task.done() and self._forced.is_set():
            await asyncio.wait({task}, timeout=min(allowed_s, STEP_TIMEOUT_MIN_S))
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
            return "forced" if self._forced.is_set() else f"not done after {allowed_s:.1f} s"
        error = None if task.cancelled() else task.exception()
        return "" if error is None else f"{type(error).__name__}: {error}"


async def _awaited(leave: Callable[[], Awaitable[None]]) -> None:
    await leave()

"""One process of a generation: started, introduced, probed, restarted, ended.

What becomes of it is decided by `core.child` and judged by `pulse`; here that is carried out. A
life begins with a spawn and ends when the process has left; whatever was asked of it in between
ends with it, so that nothing said of one life can be taken for news of the next.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from loomproxy.core import child
from loomproxy.core.child import Child, ChildPolicy, Command, Event
from loomproxy.core.endpoint import EndpointSpec
from loomproxy.core.units import NEVER, Instant
from loomproxy.log import log
from loomproxy.plugins import launcher
from loomproxy.plugins.call import Caller, CallError, prepare
from loomproxy.plugins.contract import ModelInfo
from loomproxy.plugins.guest import Guest, GuestSetting, Unrunnable, unrunnable
from loomproxy.plugins.introduce import IntroductionError, introduce
from loomproxy.plugins.mask import Mask, mask
from loomproxy.plugins.pulse import Pulse
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import ReplicaStatus, State
from loomproxy.plugins.traces import end_bearers
from loomproxy.plugins.usage import Usage
from loomproxy.plugins.wish import Wish
from loomproxy.process import Exit

CRASHES_MAX: Final = 5
CRASHES_WINDOW_S: Final = 60.0
"""So many crashes within so long, and it is not started again until somebody looks."""

PROBE_TIMEOUT_MIN_S: Final = 1.0
PROBE_TIMEOUT_MAX_S: Final = 5.0
"""How long an answer to GET /health may take: as long as the interval, within these bounds.

A plugin that is well takes milliseconds; one whose loop is held up by a request, a second.
"""

CLEANUP_TIMEOUT_S: Final = 5.0
"""How long POST /cleanup may take; what is not done by then is ended all the same."""

_STATES: Final = {
    child.State.STOPPED: State.STOPPED,
    child.State.STARTING: State.STARTING,
    child.State.READY: State.READY,
    child.State.DRAINING: State.DRAINING,
    child.State.EXITED: State.BACKOFF,
    child.State.BACKOFF: State.BACKOFF,
    child.State.FAILED: State.FAILED,
}


class _Life:
    """One process, from its spawn to its end."""

    def __init__(self) -> None:
        self.guest: Guest | None = None
        self.mask = Mask(())  # for all that it says
        self.task: asyncio.Task[None] | None = None  # introduces it, then probes it
        self.pulse = Pulse()
        self.waits_for = "its socket"
        self.trouble = ""  # why we end it
        self.lasting = False  # and it would be the same the next time
        self.begun_at = 0.0


class Replica:
    """One place for a process. `changed` is called when anything a reader could see did change."""

    def __init__(
        self,
        number: int,
        wish: Wish,
        setting: Setting,
        *,
        interval_s: Callable[[], float],
        changed: Callable[[], None],
        said: Callable[[int, str, str], None],
    ) -> None:
        manifest = wish.manifest
        self.number = number
        self.starts = 0
        self.crashes = 0
        self.models: tuple[ModelInfo, ...] = ()
        self.trouble = ""  # why it is not READY, in words for operators; "" while it is
        self.message = ""  # of its last health answer
        self.last_exit = ""
        self._wish = wish
        self._setting = setting
        self._interval_s = interval_s  # between two probes
        self._changed = changed
        self._said = said
        self._life = _Life()
        self._leaving = False
        self._stopped = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.Task[None] | None = None  # after its last process
        self._loop = asyncio.get_running_loop()
        self._child = Child(
            ChildPolicy(
                ready_timeout_s=manifest.startup_timeout_s,
                drain_timeout_s=manifest.stop_timeout_s,
                crashes_max=CRASHES_MAX,
                crashes_window_s=CRASHES_WINDOW_S,
            )
        )

    @property
    def state(self) -> State:
        """Where in its life it is."""
        state = _STATES[self._child.state]
        if state is State.READY and not self._life.pulse.healthy:
            return State.UNHEALTHY
        return state

    @property
    def pid(self) -> int:
        """Of its process; 0 when there is none."""
        guest = self._life.guest
        return guest.pid if guest is not None and self._child.running else 0

    def endpoint(self, *, enabled: bool) -> EndpointSpec | None:
        """Where it answers; `enabled` only while it is well. None: nowhere."""
        guest = self._life.guest
        if guest is None or not self._child.running or self.state is State.STARTING:
            return None
        return EndpointSpec(
            guest.address,
            enabled=enabled and self.state is State.READY,
            secrets=((b"Authorization", b"Bearer " + guest.token.encode()),),
        )

    def start(self) -> None:
        """Begin its first life."""
        self._tell(Event.START)

    def retire(self) -> None:
        """Do not start it again; a process that has not come to serve is ended."""
        self._leaving = True
        if self._child.state not in (child.State.READY, child.State.DRAINING):
            self._tell(Event.STOP)

    async def stop(self) -> None:
        """Ask it to clean up and leave, end it when it does not; return when it is gone."""
        self._leaving = True
        if self._child.state is child.State.READY:
            await self._clean_up()
        if self._child.state is not child.State.DRAINING:
            self._tell(Event.STOP)
        while self._child.running:
            self._stopped.clear()
            await self._stopped.wait()
        if self._sweep is not None:
            await asyncio.wait({self._sweep})

    def kill(self) -> None:
        """End it at once."""
        self._leaving = True
        self._tell(Event.FORCE)

    def status(self, usages: Mapping[int, Usage]) -> ReplicaStatus:
        """What operators are told."""
        guest = self._life.guest if self._child.running else None
        address = str(guest.address) if guest is not None else ""
        usage = usages.get(self.pid, Usage())
        starting = self._child.state is child.State.STARTING
        return ReplicaStatus(
            number=self.number,
            state=self.state,
            address=address,
            pid=self.pid,
            starts=self.starts,
            rss_bytes=usage.rss_bytes,
            cpu_s=usage.cpu_s,
            message=f"waits for {self._life.waits_for}" if starting else self.message,
            last_exit=self.last_exit,
        )

    def _tell(self, event: Event) -> None:
        """Something happened: decide, and do."""
        commands = self._child.handle(event, Instant(self._loop.time()), self._setting.dice())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._child.deadline_at != NEVER:
            self._timer = self._loop.call_at(self._child.deadline_at, self._deadline)
        for command in commands:
            self._do(command)
        self._stopped.set()
        self._changed()

    def _deadline(self) -> None:
        self._timer = None
        life = self._life
        if self._child.state is child.State.STARTING:
            within_s = self._wish.manifest.startup_timeout_s
            life.trouble = f"not ready within {within_s:g} s; it waited for {life.waits_for}"
        self._tell(Event.DEADLINE)

    def _do(self, command: Command) -> None:
        guest = self._life.guest
        match command:
            case Command.SPAWN:
                self._spawn()
            case Command.DRAIN:
                if self._life.task is not None:  # One that leaves need not answer any more.
                    self._life.task.cancel()
                if guest is not None:
                    guest.terminate()
            case Command.KILL:
                if guest is not None:
                    guest.kill()

    def _spawn(self) -> None:
        life = self._life = _Life()
        life.begun_at = self._loop.time()
        self.starts += 1
        manifest = self._wish.manifest
        setting = GuestSetting(
            manifest=manifest,
            directory=self._wish.found.directory,
            place=self._setting.place(),
            environment=self._setting.environment,
            sdk=self._setting.sdk,
        )
        guest = Guest(
            setting,
            left=lambda end: self._left(life, end),
            said=lambda stream, line: self._said(self.number, stream, life.mask(line)),
            reaper=self._setting.reaper,
        )
        life.mask = mask(self._wish, guest.token)
        try:
            guest.start()
        except OSError as error:
            life.trouble = f"cannot be run: {error}"
            life.lasting = isinstance(error, Unrunnable)  # Else the kernel had no room just now.
            self._loop.call_soon(self._left, life, Exit(launcher.NOT_NOW, ()))
            return
        life.guest = guest
        life.task = self._setting.spawn(self._live(life, guest), "plugin")

    async def _live(self, life: _Life, guest: Guest) -> None:
        """Introduce a process, then probe it until it leaves."""
        await asyncio.to_thread(prepare)  # while the process begins; only the first one takes long
        caller = Caller(guest.address, guest.token)

        def waits(what: str) -> None:
            life.waits_for = life.mask(what)

        try:
            wish = self._wish
            self.models = await introduce(
                caller, wish.found, wish.config, waits, port=guest.address.port
            )
            self.trouble = ""
            self._tell(Event.SAID_READY)
            await self._probe(life, caller)
        except IntroductionError as error:
            life.lasting = error.lasting
            self._hung(life, str(error))
        finally:
            await caller.aclose()

    async def _probe(self, life: _Life, caller: Caller) -> None:
        """Ask how it is, again and again, until it hangs."""
        while not life.pulse.hangs:
            pause_s = life.pulse.next_in_s(self._interval_s())
            await asyncio.sleep(pause_s)  # noqa: TID251 # the configured cadence of probes
            changed, said = await probed(caller, life.pulse, self._interval_s())
            self.message = life.mask(said)
            if changed:
                log(
                    "plugin is well again" if life.pulse.healthy else "plugin is not well",
                    level="info" if life.pulse.healthy else "error",
                    plugin=self._wish.provider_type,
                    replica=self.number,
                    reason=self.message,
                )
                self.trouble = "" if life.pulse.healthy else f"unhealthy: {self.message}"
                self._changed()
        self._hung(life, "it hangs: it answered no probe, several times in a row")

    def _hung(self, life: _Life, trouble: str) -> None:
        """End a process that runs and is of no use."""
        life.trouble = trouble
        if life is self._life and self._child.running:
            self._tell(Event.HUNG)

    async def _clean_up(self) -> None:
        guest = self._life.guest
        assert guest is not None
        caller = Caller(guest.address, guest.token)
        try:
            with contextlib.suppress(CallError, TimeoutError):
                async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                    await caller.cleanup()
        finally:
            await caller.aclose()

    def _left(self, life: _Life, end: Exit) -> None:
        """The process is gone."""
        if life.task is not None:
            life.task.cancel()
        if life.guest is not None:
            sweep = _swept(life.guest.token, self._wish.provider_type)
            self._sweep = self._setting.spawn(sweep, "sweep after a plugin")
        self.last_exit = life.mask(life.trouble or _described(end))
        if self._leaving:
            self._tell(Event.LEFT)
            if self._child.state is not child.State.STOPPED:
                self._tell(Event.STOP)
            return
        self.crashes += 1
        self.trouble = self.last_exit
        log(
            "plugin left",
            level="error",
            plugin=self._wish.provider_type,
            replica=self.number,
            lived_s=f"{self._loop.time() - life.begun_at:.3f}",
            reason=self.trouble,
        )
        lasting = life.lasting or unrunnable(end)
        self._tell(Event.UNRUNNABLE if lasting else Event.LEFT)


async def probed(caller: Caller, pulse: Pulse, interval_s: float) -> tuple[bool, str]:
    """Ask once how a plugin is: whether it is now judged otherwise, and what it said of itself."""
    timeout_s = min(PROBE_TIMEOUT_MAX_S, max(PROBE_TIMEOUT_MIN_S, interval_s))
    try:
        async with asyncio.timeout(timeout_s):
            status = await caller.health()
    except TimeoutError:
        return pulse.silent(), f"no answer to GET /health within {timeout_s:g} s"
    except CallError as error:
        return pulse.answered(healthy=False) if error.status else pulse.silent(), str(error)
    return pulse.answered(healthy=status.healthy), status.message


async def _swept(token: str, provider_type: str) -> None:
    """End what it started in a session of its own, which its group's end did not reach."""
    ended = await asyncio.to_thread(end_bearers, token)
    if ended:
        log("plugin left processes behind", level="warning", plugin=provider_type, ended=ended)


def _described(end: Exit) -> str:
    """How a process left, with the last thing it said."""
    last = next((line for line in reversed(end.lines) if line), "")
    return f"it left with {end}" + (f"; it last said: {last}" if last else "")

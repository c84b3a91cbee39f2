"""A plugin that we do not run: somebody else's process, or a builtin provider's upstream.

It has the same life as a `replica`, without the process. A remote plugin is introduced, probed, and
introduced again after it was away: it may be another process by then. So may one be that is not
well all at once, for who was never initialised says so: it is initialised again. It is never asked
to clean up, whatever becomes of us: it may serve other nodes, and is ended by whoever runs it. A
builtin provider is ready when its models are known; how its upstream is, traffic shows.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from loomproxy.core.child import backoff_s
from loomproxy.core.endpoint import EndpointSpec
from loomproxy.log import log
from loomproxy.plugins.call import Caller, CallError, prepare
from loomproxy.plugins.contract import ModelInfo
from loomproxy.plugins.introduce import IntroductionError, introduce
from loomproxy.plugins.mask import mask
from loomproxy.plugins.provider import base_path, builtin_endpoint, models_path, remote_endpoint
from loomproxy.plugins.pulse import Pulse
from loomproxy.plugins.replica import probed
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import ReplicaStatus, State
from loomproxy.plugins.usage import Usage
from loomproxy.plugins.wish import Wish


class Remote:
    """One remote plugin, or builtin provider. `changed` is called when a reader could see it."""

    def __init__(
        self,
        wish: Wish,
        setting: Setting,
        *,
        interval_s: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.number = 0
        self.starts = 0
        self.crashes = 0
        self.models: tuple[ModelInfo, ...] = ()
        self.trouble = ""
        self.message = ""
        self._builtin = wish.manifest.type == "builtin"
        self._at = (builtin_endpoint if self._builtin else remote_endpoint)(wish.manifest)
        self._wish = wish
        self._mask = mask(wish)  # for all that it says
        self._setting = setting
        self._interval_s = interval_s  # between two probes
        self._changed = changed
        self._pulse = Pulse()
        self._state = State.STOPPED
        self._task: asyncio.Task[None] | None = None
        self._leaving = False
        self._waits_for = ""
        self._again = 0  # how often it was initialised since it was well
        self._again_at = 0.0  # not before

    @property
    def state(self) -> State:
        """Where in its life it is."""
        if self._state is State.READY and not self._pulse.healthy:
            return State.UNHEALTHY
        return self._state

    @property
    def pid(self) -> int:
        """There is no process of ours."""
        return 0

    def endpoint(self, *, enabled: bool) -> EndpointSpec | None:
        """Where it answers; None while it does not."""
        if self._state is not State.READY:
            return None
        spec = self._at
        enabled = enabled and self._pulse.healthy
        return EndpointSpec(spec.address, spec.weight, enabled, spec.secrets)

    def start(self) -> None:
        """Begin to speak with it."""
        self._become(State.STARTING)
        self._task = self._setting.spawn(self._live(), "remote plugin")

    def retire(self) -> None:
        """There is nothing that would be started; nor is it told again what it is to be."""
        self._leaving = True

    async def stop(self) -> None:
        """Speak with it no more; nobody tells it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        self._become(State.STOPPED)

    def kill(self) -> None:
        """Stop to speak with it."""
        if self._task is not None:
            self._task.cancel()
        self._state = State.STOPPED

    def status(self, _usages: Mapping[int, Usage]) -> ReplicaStatus:
        """What operators are told."""
        starting = self._state is State.STARTING and self._waits_for
        return ReplicaStatus(
            number=self.number,
            state=self.state,
            address=str(self._at.address),
            starts=self.starts,
            message=f"waits for {self._waits_for}" if starting else self.message,
            last_exit=self.trouble,
        )

    async def _live(self) -> None:
        """Introduce it, probe it until it is away; again, after a wait, for ever."""
        failed = 0
        while True:
            self.starts += 1
            try:
                async with asyncio.timeout(self._wish.manifest.startup_timeout_s):
                    await self._introduce()
            except TimeoutError:
                self.trouble = f"not ready in time; it waited for {self._waits_for}"
            except (IntroductionError, CallError) as error:
                self.trouble = self._mask(str(error))
                if isinstance(error, IntroductionError) and error.lasting:
                    self._become(State.FAILED)
                    return
            else:
                failed = 0
                self._pulse = Pulse()
                self.trouble = ""
                self._become(State.READY)
                if self._builtin:
                    return
                await self._probe()
                self.trouble = f"it is away: {self.message}"
                self.crashes += 1
            failed += 1
            log("plugin is away", level="error", plugin=self._type, reason=self.trouble)
            self._become(State.BACKOFF)
            pause_s = backoff_s(failed, self._setting.dice())
            await asyncio.sleep(pause_s)  # noqa: TID251 # the backoff
            self._become(State.STARTING)

    async def _introduce(self) -> None:
        """Learn its models, and whatever else the contract wants first."""
        models = self._wish.manifest.models
        if self._builtin and models is not None:
            self.models = models
            return
        await asyncio.to_thread(prepare)
        async with contextlib.aclosing(self._caller()) as caller:
            if self._builtin:
                self._waits("its models")
                self.models = await caller.openai_models(models_path(self._wish.manifest))
            else:
                self.models = await introduce(
                    caller, self._wish.found, self._wish.config, self._waits
                )

    async def _probe(self) -> None:
        """Ask how it is, again and again, until it has been away for too long."""
        async with contextlib.aclosing(self._caller()) as caller:
            while not self._pulse.hangs:
                pause_s = self._pulse.next_in_s(self._interval_s())
                await asyncio.sleep(pause_s)  # noqa: TID251 # the configured cadence of probes
                changed, said = await probed(caller, self._pulse, self._interval_s())
                self.message = self._mask(said)
                if changed:
                    self.trouble = "" if self._pulse.healthy else f"unhealthy: {self.message}"
                    self._changed()
                await self._initialize_again(caller)

    async def _initialize_again(self, caller: Caller) -> None:
        """Say what it is to be to one that is not well: it may never have heard it."""
        now = asyncio.get_running_loop().time()
        if self._pulse.healthy:
            self._again, self._again_at = 0, 0.0
            return
        if self._leaving or not self._pulse.answers or now < self._again_at:
            return
        self._again += 1
        self._again_at = now + backoff_s(self._again, self._setting.dice())
        try:
            async with asyncio.timeout(self._wish.manifest.startup_timeout_s):
                await caller.initialize(self._wish.config)
        except (CallError, TimeoutError) as error:
            self.trouble = self._mask(f"unhealthy: {self.message}; {error}")

    def _caller(self) -> Caller:
        base = "" if self._builtin else base_path(self._wish.manifest)
        return Caller(self._at.address, "", base=base, secrets=self._at.secrets)

    def _waits(self, what: str) -> None:
        self._waits_for = self._mask(what)

    @property
    def _type(self) -> str:
        return self._wish.provider_type

    def _become(self, state: State) -> None:
        self._state = state
        self._changed()

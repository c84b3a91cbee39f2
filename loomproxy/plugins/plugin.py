"""One plugin: what should run of it, what does, and how the one becomes the other.

Whoever wants something of it sets a goal; one task, `live`, attains it, and begins anew when the
goal changed meanwhile: the newest wins. So a plugin that is slow to start or to leave holds up
nobody else, and nothing is ever done twice at the same time.

    no generation, or one that never served ──► begin: the new one serves as soon as it can
    a generation that served ──► replace: the new one starts beside it
                                   all of it READY ──► published ──► the old one drains, and ends
                                   anything else   ──► it is ended; the old one serves on
    nobody wants it ──► drain, end

A generation that drains is out of the way: it ends by itself, in its own task, while the plugin
may already do something else.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from msgspec import structs

from loomproxy.core.chat.provider import Provider
from loomproxy.core.endpoint import EndpointSpec
from loomproxy.log import log, quote
from loomproxy.plugins.contract import ModelInfo
from loomproxy.plugins.generation import Generation
from loomproxy.plugins.lines import Lines
from loomproxy.plugins.provider import provider
from loomproxy.plugins.publication import Publication
from loomproxy.plugins.reasons import reason
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import State
from loomproxy.plugins.throttle import Throttle
from loomproxy.plugins.wish import Goal, Wish

DRAINING_MAX: Final = 8
"""How many old generations may still finish what they have; a further reload waits for one to end.

Each is a whole set of processes; this bounds what reloads during long streams may cost.
"""

DRAIN_POLL_S: Final = 0.05
"""How often workers are asked whether an old generation has anything left in flight."""

Outcome = tuple[str, ...]
"""Why a goal was not attained; nothing when it was."""


class Plugin:
    """One plugin, by its provider_type. `live` is to be awaited again until it is `gone`."""

    def __init__(
        self, provider_type: str, setting: Setting, wish: Wish, changed: Callable[[], None]
    ) -> None:
        self.provider_type = provider_type
        self.goal = Goal(wish)
        self.lines = Lines()
        self.serving: Generation | None = None
        self.candidate: Generation | None = None  # starts beside the serving one
        self.leaving: list[Generation] = []  # drain, or end
        self.models: tuple[ModelInfo, ...] = wish.manifest.models or ()
        self.reloads = 0
        self.reloads_failed = 0
        self.refusal = ""  # why the last wish was not followed
        self.gone = asyncio.Event()  # for good: nothing of it runs, workers know nothing of it
        self._setting = setting
        self._tell_changed = changed  # whoever watches the state
        self._published_at = 0
        self._generations = 0
        self._crashes = 0  # of generations that are gone
        self._waiters: list[asyncio.Future[Outcome]] = []
        self._dirty = True  # the goal was not looked at
        self._busy = False
        self._stirred = asyncio.Event()
        self._publication = Publication(provider_type, setting, self._provider, over=self.gone)
        self._throttle = Throttle(provider_type, self._follow)

    # What is wanted.

    def want(self, wish: Wish, *, asked: bool = True) -> None:
        """The files or the configuration say this now; nothing happens when they said it before.

        Not `asked`: nobody told us to look, and what would be a reload may have to wait.
        """
        goal = structs.replace(self.goal, wish=wish)
        reloads = goal.wanted and self.goal.wanted and goal.run != self.goal.run
        serves = self.state not in (State.FAILED, State.INVALID)
        if asked or not reloads or not self._throttle.holds(wish, serves=serves):
            self._throttle.drop()
            self._aim(goal)

    async def ask(self, *, run: bool | None = None, anew: bool = False) -> Outcome:
        """An operator wants it started or stopped (None: neither), or begun `anew`.

        Returns why that did not come about; whoever asks while the same is being done shares it.
        """
        if self.gone.is_set():  # While whoever asks looked at its files.
            return ()
        goal = structs.replace(
            self.goal,
            wish=self._throttle.drop() or self.goal.wish,
            asked=self.goal.asked if run is None else run,
        )
        if anew and (self._dirty or not self._busy):
            goal = structs.replace(goal, times=goal.times + 1)
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._aim(goal)
        if not self._busy:
            self._dirty = True
            self._stirred.set()
        return await waiter

    def leave(self) -> None:
        """The node ends: the plugin is to be gone."""
        self.want(structs.replace(self.goal.wish, gone=True))

    async def until_ended(self, timeout_s: float) -> bool:
        """Wait until nothing of it runs, so long at most; False: something still does.

        Whoever starts it meanwhile ends the wait.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.generations and not self.goal.wanted:
                    await self._stir()
        return not self.generations or self.goal.wanted

    def _follow(self, wish: Wish) -> None:
        self._aim(structs.replace(self.goal, wish=wish))

    def _aim(self, goal: Goal) -> None:
        if goal != self.goal:
            self.goal, self._dirty = goal, True
            self._stirred.set()

    # How it is attained.

    async def live(self) -> None:
        """Attain one goal after the other, until the plugin is gone."""
        while not self.goal.wish.gone or self.serving is not None or self.leaving:
            if not self._dirty:
                await self._stir()
                continue
            self._dirty = False
            self._busy = True
            outcome = await self._attain(self.goal)
            self._busy = False
            self._tell_changed()
            if outcome is not None and not self._dirty:
                self._answer(outcome)
        await self._publication.now()
        if self.goal.wish.gone:
            self._answer(())
            self.gone.set()

    def _answer(self, outcome: Outcome) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    async def _stir(self) -> None:
        self._stirred.clear()
        await self._stirred.wait()

    async def _attain(self, goal: Goal) -> Outcome | None:
        """Bring about `goal`; None when a newer one came in between."""
        serving = self.serving
        if not goal.wanted:
            self.refusal = ""
            await self._retire()
            return ()
        if goal.wish.problems:
            return await self._refuse(goal.wish)
        if serving is not None and serving.goal.run == goal.run and not serving.any_failed:
            self.refusal = ""
            return ()
        if serving is not None and serving.worth_keeping:
            return await self._replace(goal, serving)
        return await self._begin(goal)

    async def _refuse(self, wish: Wish) -> Outcome:
        """What is wanted cannot be run: what serves goes on, anything else ends."""
        if self.serving is not None and self.serving.worth_keeping:
            self._reload_failed("; ".join(wish.problems))
        else:
            self.refusal = "; ".join(wish.problems)
            await self._retire()
            log("plugin invalid", level="error", plugin=self.provider_type, reason=self.refusal)
        return wish.problems

    async def _begin(self, goal: Goal) -> Outcome | None:
        """Start the first generation, or one instead of one that never served."""
        await self._retire()
        self.refusal = ""
        generation = self.serving = self._make(goal)
        generation.start()
        await self._publication.now()
        while generation.state is not State.READY and not generation.trouble:
            if self._dirty:
                return None
            await self._stir()
        if generation.state is State.READY:
            log("plugin ready", plugin=self.provider_type, generation=generation.number)
            await self._publication.now()
            return ()
        return (generation.trouble,)

    async def _replace(self, goal: Goal, old: Generation) -> Outcome | None:
        """Start a generation beside the one that serves, and switch to it when it is READY."""
        while len(self.leaving) >= DRAINING_MAX:
            if self._dirty:
                return None
            await self._stir()
        candidate = self.candidate = self._make(goal)
        candidate.on_trial = True
        candidate.start()
        while not (candidate.all_ready or candidate.trouble or self._dirty):
            await self._stir()
        if candidate.all_ready:
            problems = await self._switch(candidate, old)
            if not problems:
                return ()
        else:
            problems = (candidate.trouble,) if candidate.trouble else ()
            self._end_soon(candidate)
        if not problems:
            return None
        self._reload_failed("; ".join(problems))
        return problems

    async def _switch(self, candidate: Generation, old: Generation) -> Outcome:
        """Have all workers send what is new to `candidate`; nothing changed when one refuses.

        They are told of it before they use it: where one does not answer, no other has begun an
        exchange with it, and what some began before one refused is counted, and drained.
        """
        candidate.draining = True
        problems = await self._publication.now() or (
            () if candidate.all_ready else (candidate.trouble,)
        )
        if problems:
            self._end_soon(candidate)
            return problems
        self.candidate, self.serving = None, candidate
        self.leaving.append(old)
        candidate.draining, old.draining = False, True
        problems = await self._publication.now()
        if problems:
            self.serving = old
            self.leaving[self.leaving.index(old)] = candidate
            old.draining = False
            self._drain_soon(candidate)
            return problems
        candidate.on_trial = False
        self.reloads += 1
        self.refusal = ""
        log("plugin reloaded", plugin=self.provider_type, generation=candidate.number)
        self._drain_soon(old)
        return ()

    async def _retire(self) -> None:
        """Nothing new goes to what serves; it finishes, and ends."""
        old, self.serving = self.serving, None
        if old is None:
            self._publication.soon()
            return
        self.leaving.append(old)
        self._drain_soon(old)
        await self._publication.now()

    def _drain_soon(self, generation: Generation) -> None:
        generation.retire()
        self._setting.background(self._drain(generation), "drain of a plugin")

    async def _drain(self, generation: Generation) -> None:
        """Have workers send nothing new to an old generation, wait for the rest, and end it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(generation.goal.wish.manifest.drain_timeout_s):
                await self._publication.until_taken()
                while not await self._idle(generation):  # noqa: ASYNC110 # no event says so
                    await asyncio.sleep(DRAIN_POLL_S)  # noqa: TID251 # the cadence of asking workers
        generation.silent = True
        await self._publication.now()
        await self._end(generation)

    async def _idle(self, generation: Generation) -> bool:
        """Whether nothing is in flight on it, as all workers say."""
        addresses = generation.addresses
        if not addresses or (self.serving is not None and addresses & self.serving.addresses):
            return True
        counts = await self._setting.in_flight(f"plugin:{self.provider_type}")
        return counts is not None and not any(counts.get(address) for address in addresses)

    def _end_soon(self, generation: Generation) -> None:
        self.candidate = None
        generation.retire()
        generation.silent = True
        self.leaving.append(generation)
        self._setting.background(self._end(generation), "end of a plugin")

    async def _end(self, generation: Generation) -> None:
        try:
            await generation.stop()
        finally:
            if not generation.ended.is_set():
                generation.kill()
            self._crashes += generation.crashes
            self.leaving.remove(generation)
            await self._publication.now()
            self._stirred.set()
            self._tell_changed()
        log("plugin stopped", plugin=self.provider_type, generation=generation.number)

    def kill(self) -> None:
        """End all of its processes at once: the node leaves, and waits for nothing."""
        for generation in self.generations:
            generation.kill()

    def _make(self, goal: Goal) -> Generation:
        self._generations += 1
        return Generation(
            self._generations,
            goal,
            self._setting,
            interval_s=lambda: self.goal.wish.interval_s,
            changed=self._changed,
            said=self._said,
        )

    def _reload_failed(self, why: str) -> None:
        self.reloads_failed += 1
        self.refusal = why
        log("plugin reload refused", level="error", plugin=self.provider_type, reason=why)

    # What others see of it.

    @property
    def generations(self) -> tuple[Generation, ...]:
        """All that run, the serving one first."""
        own = (self.serving, self.candidate)
        return tuple(one for one in own if one is not None) + tuple(reversed(self.leaving))

    @property
    def restarts(self) -> int:
        """How often one of its processes left unasked."""
        return self._crashes + sum(generation.crashes for generation in self.generations)

    @property
    def state(self) -> State:
        """Where in its life it is."""
        if self.serving is not None:
            return self.serving.state
        if any(not generation.ended.is_set() for generation in self.leaving):
            return State.DRAINING
        if self.goal.wish.disabled:
            return State.DISABLED
        if self.goal.wanted:
            return State.INVALID if self.goal.wish.problems else State.STARTING
        return State.STOPPED

    @property
    def trouble(self) -> str:
        """Why it does not serve, or the last reload was refused or waits, for operators."""
        serving = self.serving
        why = serving.trouble if serving is not None else "; ".join(self.goal.wish.problems)
        return "; ".join(one for one in (self.refusal or why, self._throttle.trouble) if one)

    @property
    def required(self) -> bool:
        """Whether its node is not ready without it."""
        return self.goal.wish.manifest.required

    @property
    def reason(self) -> str:
        """Why it does not serve, in words for clients; "" while it does."""
        if self.state is State.READY:
            return ""
        crashed = self.serving is not None and bool(self.serving.crashes or self.serving.trouble)
        remote = not self.goal.wish.manifest.command
        return reason(self.provider_type, self.state, crashed=crashed, remote=remote)

    def _changed(self) -> None:
        """One of its processes is in another state."""
        self._stirred.set()
        self._tell_changed()
        self._publication.soon()

    def _learn(self) -> None:
        """Keep what it serves: that is told of it also while it does not."""
        if self.serving is not None and self.serving.state is State.READY:
            models = self.serving.models
            if models != self.models or not self._published_at:
                self.models = models
                self._published_at = self._setting.wall_s()

    def _said(self, generation: int, replica: int, stream: str, line: str) -> None:
        self.lines.add(generation, replica, stream, line)
        quote(
            line,
            "plugin said",
            of=self.provider_type,
            plugin=self.provider_type,
            generation=generation,
            stream=stream,
        )

    def _provider(self) -> Provider | None:
        """What workers should know of it at this moment."""
        self._learn()
        if self.goal.wish.gone and self.serving is None and not self.leaving:
            return None
        endpoints: dict[str, EndpointSpec] = {}
        for generation in self.generations:
            known = generation is not self.candidate or generation.draining
            for endpoint in generation.endpoints() if known and not generation.silent else ():
                endpoints.setdefault(str(endpoint.address), endpoint)
        found = self.serving.goal.wish.found if self.serving is not None else self.goal.wish.found
        return provider(
            found,
            self.models,
            tuple(endpoints.values()),
            reason=self.reason,
            published_at=self._published_at,
        )

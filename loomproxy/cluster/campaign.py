"""One lease sought, held and given back by this process; the decisions are `core.lease`'s.

The shell around a `Holder`: it asks the store, starts and cancels the guarded work, and tells the
holder what came of it. A question that is under way never delays the end of belief: when that has
come, the work is cancelled, whatever the store may still answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from loomproxy.cluster.store import Busy, FencedError, Held, SchemaError, Store, StoreAwayError
from loomproxy.core import lease
from loomproxy.core.lease import Holder, Patience
from loomproxy.core.units import NEVER, Instant
from loomproxy.log import log

STOP_TIMEOUT_S: Final = 1.0
"""How long cancelled work may take to end before it is reported, and waited for no longer."""


class LeaseBusyError(Exception):
    """Somebody else holds the lease, and did not let it go in time."""


class LeaseLostError(Exception):
    """The lease was lost, and the work that it guarded is cancelled."""


class Terms(msgspec.Struct, frozen=True):
    """What a campaign is for, and on whose behalf."""

    name: str
    owner: str  # incarnation
    patience: Patience
    dice: Callable[[], float]


class _WorkOver(msgspec.Struct, frozen=True):
    token: int
    error: Exception | None


class _Close(msgspec.Struct, frozen=True):
    """Give it back and end."""


class _Hint(msgspec.Struct, frozen=True):
    """There is a reason to look earlier."""


_Happening = lease.Event | _WorkOver | _Close | _Hint


class Campaign:
    """Seeks one lease, and runs `work` while it is held, again and again until closed.

    `work` is cancelled when the lease is lost or given up. When it returns or fails by itself the
    lease is given up and others go first. `answered` is called with each answer to a try.
    """

    def __init__(
        self,
        store: Store,
        terms: Terms,
        work: Callable[[Held], Awaitable[None]],
        answered: Callable[[Held | Busy | Exception], None] = lambda _answer: None,
    ) -> None:
        self._store = store
        self._terms = terms
        self._work = work
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._holder = Holder(terms.patience, self._now())
        # At most one question and one piece of work are under way; hints and closing are few.
        self._news: asyncio.Queue[_Happening] = asyncio.Queue()
        self._hinted = False
        self._at_work: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self.lost = 0  # times

    @property
    def held(self) -> Held | None:
        """What this process believes to hold now."""
        if not self._holder.believes or self._now() >= self._holder.believes_until:
            return None
        return Held(self._terms.name, self._terms.owner, self._holder.token)

    def hint(self) -> None:
        """It may be free, or there may be a wish that we step down: ask now."""
        if not self._hinted:
            self._hinted = True
            self._news.put_nowait(_Hint())

    async def close(self) -> None:
        """Cancel the work, give the lease back, and return when that is done or cannot be done."""
        self._news.put_nowait(_Close())
        await self._closed.wait()

    async def run(self) -> None:
        """Campaign until closed or cancelled; what is held then is given back."""
        try:
            async with asyncio.TaskGroup() as group:
                happening: _Happening = lease.Wake()
                while not isinstance(happening, _Close):
                    await self._carry_out(self._decide(happening), group)
                    happening = await self._next()
                await self._carry_out(self._holder.give_up(self._now()), group)
        finally:
            try:
                await self._carry_out(self._holder.give_up(self._now()), None)
                while not self._news.empty():  # A try may have been granted meanwhile.
                    await self._carry_out(self._decide(self._news.get_nowait()), None)
            finally:
                self._closed.set()

    def _decide(self, happening: _Happening) -> list[lease.Command]:
        now = self._now()
        match happening:
            case _WorkOver(token, error):
                if token != self._holder.token:  # Of an earlier time that we held it.
                    return []
                if isinstance(error, FencedError):
                    return self._holder.fenced(now)
                return self._holder.give_up(now) if self._holder.believes else []
            case _Hint():
                self._hinted = False
                return self._holder.hint(now)
            case _Close():
                return []
            case event:
                return self._holder.handle(event, now, self._terms.dice())

    async def _next(self) -> _Happening:
        deadline = self._holder.deadline
        try:
            async with asyncio.timeout_at(None if deadline == NEVER else deadline):
                return await self._news.get()
        except TimeoutError:
            return lease.Wake()

    async def _carry_out(
        self, commands: list[lease.Command], group: asyncio.TaskGroup | None
    ) -> None:
        for command in commands:
            match command:
                case lease.Ask(number):
                    assert group is not None
                    group.create_task(self._ask(number))
                case lease.Renew(number, token):
                    assert group is not None
                    group.create_task(self._renew(number, token))
                case lease.Work(token):
                    assert group is not None
                    held = Held(self._terms.name, self._terms.owner, token)
                    log("lease held", lease=held.name, token=token)
                    self._at_work = group.create_task(self._guarded(held))
                case lease.Cancel(lost):
                    await self._stop(lost=lost)
                case lease.Release(token):
                    await self._release(token)

    async def _ask(self, number: int) -> None:
        terms = self._terms
        answer: Held | Busy | Exception
        event: lease.Answer = lease.Failed(number)
        try:
            answer = await self._store.acquire(terms.name, terms.owner, terms.patience.ttl_s)
            if isinstance(answer, Held):
                event = lease.Granted(number, answer.token)
            else:
                event = lease.Busy(number, answer.remaining_s)
        except (StoreAwayError, SchemaError) as error:
            answer = error
        self._news.put_nowait(event)
        self._answered(answer)

    async def _renew(self, number: int, token: int) -> None:
        terms = self._terms
        event: lease.Answer = lease.Failed(number)
        try:
            held = Held(terms.name, terms.owner, token)
            renewal = await self._store.renew(held, terms.patience.ttl_s)
            event = lease.Renewed(number, renewal.leaving) if renewal else lease.Refused(number)
        except (StoreAwayError, SchemaError) as error:
            log("lease not renewed", level="warning", lease=terms.name, reason=str(error))
        self._news.put_nowait(event)

    async def _guarded(self, held: Held) -> None:
        error: Exception | None = None
        try:
            await self._work(held)
        except Exception as failure:  # noqa: BLE001 -- told, and others go first
            error = failure
            log("guarded work failed", level="error", lease=held.name, reason=str(failure))
        self._news.put_nowait(_WorkOver(held.token, error))

    async def _stop(self, *, lost: bool) -> None:
        self.lost += lost
        at_work, self._at_work = self._at_work, None
        log("lease lost" if lost else "lease given up", lease=self._terms.name)
        if at_work is None:
            return
        at_work.cancel()
        _, still = await asyncio.wait({at_work}, timeout=STOP_TIMEOUT_S)
        if still:
            log("guarded work does not end", level="error", lease=self._terms.name)

    async def _release(self, token: int) -> None:
        """Once, and bounded by the store; where it fails, the lease runs out by itself."""
        try:
            await self._store.release(Held(self._terms.name, self._terms.owner, token))
        except (StoreAwayError, SchemaError) as error:
            log("lease not given back", level="warning", lease=self._terms.name, reason=str(error))

    def _now(self) -> Instant:
        return Instant(self._loop.time())

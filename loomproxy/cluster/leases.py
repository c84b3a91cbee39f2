"""The leases of this process: tried for, held while something is done, or campaigned for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from loomproxy.cluster.campaign import Campaign, LeaseBusyError, LeaseLostError, Terms
from loomproxy.cluster.store import Busy, Held, Store
from loomproxy.core.lease import Patience

RETRY_MAX_S: Final = 1.0
"""How long one who waits for a lease with `hold` waits at most between two tries."""


class Leases:
    """What one incarnation holds and seeks: each name once.

    `ttl_s` and `retry_s` are for leases that say nothing else: how long one lasts unrenewed, and
    how long a campaign waits at most between two tries.
    """

    def __init__(
        self, store: Store, owner: str, *, ttl_s: float, retry_s: float, dice: Callable[[], float]
    ) -> None:
        self._store = store
        self._owner = owner
        self._ttl_s = ttl_s
        self._retry_s = retry_s
        self._dice = dice
        self._campaigns: dict[str, Campaign] = {}
        self._lost = 0  # by campaigns that have ended

    @property
    def lost(self) -> int:
        """How often a lease was lost while something was done under it."""
        return self._lost + sum(campaign.lost for campaign in self._campaigns.values())

    def holding(self) -> tuple[Held, ...]:
        """What this process believes to hold now."""
        found = (campaign.held for campaign in self._campaigns.values())
        return tuple(held for held in found if held is not None)

    def hint(self) -> None:
        """Something changed: a lease may be free, or somebody may want us to step down."""
        for campaign in self._campaigns.values():
            campaign.hint()

    async def keep(self, name: str, work: Callable[[Held], Awaitable[None]]) -> None:
        """Campaign for `name` until `release_all`, and do `work` whenever and while it is held."""
        await self._run(name, Campaign(self._store, self._terms(name), work))

    @asynccontextmanager
    async def hold(
        self, name: str, *, ttl_s: float | None = None, wait_s: float = 0.0
    ) -> AsyncIterator[Held]:
        """Hold `name` while the block runs.

        Tries once, or for `wait_s`; then LeaseBusyError, or what the store raised at the last try.
        When the lease is lost the block is cancelled, and LeaseLostError is raised in its place.
        RuntimeError where this process holds or seeks it already: a lease is no reentrant lock.
        ValueError where `ttl_s` is not above 0.
        """
        if ttl_s is not None and ttl_s <= 0:
            raise ValueError(f"a lease cannot last {ttl_s:g} s")
        visit = _Visit(wait_s)
        terms = self._terms(name, ttl_s, min(self._retry_s, RETRY_MAX_S))
        campaign = Campaign(self._store, terms, visit.guard, visit.hear)
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run(name, campaign))
                watch = group.create_task(visit.watch(name))
                try:
                    yield await visit.gained()
                except Exception as error:  # noqa: BLE001 -- raised below, without the group around
                    failure = error
                watch.cancel()
                await campaign.close()
        except BaseExceptionGroup as several:
            raise _first(several) from None
        if failure is not None:
            raise failure

    async def release_all(self) -> None:
        """End every campaign and hold: work is cancelled, what is held is given back."""
        for campaign in tuple(self._campaigns.values()):
            await campaign.close()

    async def _run(self, name: str, campaign: Campaign) -> None:
        if name in self._campaigns:
            raise RuntimeError(f"lease {name!r} is held or sought by this process already")
        self._campaigns[name] = campaign
        try:
            await campaign.run()
        finally:
            del self._campaigns[name]
            self._lost += campaign.lost

    def _terms(self, name: str, ttl_s: float | None = None, retry_s: float | None = None) -> Terms:
        patience = Patience(ttl_s or self._ttl_s, retry_s or self._retry_s)
        return Terms(name, self._owner, patience, self._dice)


class _Visit:
    """One `hold`: what its campaign tells the block."""

    def __init__(self, wait_s: float) -> None:
        self._deadline_at = asyncio.get_running_loop().time() + wait_s
        self._gained: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._last: Busy | Exception | None = None
        self._lost = asyncio.Event()

    def hear(self, answer: Held | Busy | Exception) -> None:
        """An answer to a try: without the lease, the time may be up."""
        if isinstance(answer, Held):
            return
        self._last = answer
        if asyncio.get_running_loop().time() >= self._deadline_at:
            self._give_up()

    async def gained(self) -> Held:
        """The lease, or what is raised where it was not to be had in time."""
        try:
            # A try that began in time may be answered a little later: `hear` ends the wait then.
            async with asyncio.timeout_at(self._deadline_at):
                return await asyncio.shield(self._gained)
        except TimeoutError:
            if self._last is not None:
                self._give_up()
            return await self._gained

    async def guard(self, held: Held) -> None:
        """Until cancelled: by the end of the block, or because the lease is lost."""
        if not self._gained.done():
            self._gained.set_result(held)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._lost.set()

    async def watch(self, name: str) -> None:
        """Raise once the lease is lost: that cancels the block."""
        await self._lost.wait()
        raise LeaseLostError(f"lease {name!r} was lost, or had to be given up")

    def _give_up(self) -> None:
        if self._gained.done():
            return
        if isinstance(self._last, Busy):
            self._gained.set_exception(
                LeaseBusyError(
                    f"{self._last.owner} holds it, for {self._last.remaining_s:.1f} s more "
                    "unless that is prolonged"
                )
            )
        elif self._last is not None:
            self._gained.set_exception(self._last)


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that a caller can do something about: groups are how we are built inside."""
    found = several.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found

"""This instance's place on the list: taken, kept by beats, and left in order."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from loomproxy.cluster.store import Beat, Member, Report, SchemaError, Store, StoreAwayError
from loomproxy.log import log

JITTER: Final = 0.1
"""By which share a beat may come early: so that those of many instances do not coincide."""


class Neighbours(Protocol):
    """Who is told what beats bring."""

    def heard(self, newest: int, /) -> None:
        """The newest revision has this number."""

    def evicted(self) -> None:
        """An operator wants this instance to leave."""


class Pulse(msgspec.Struct):
    """How beating goes, for status and metrics."""

    beats: int = 0  # answered
    missed: int = 0  # not answered
    away: str = ""  # why the last one was not answered; empty: it was
    answered_at: float = 0.0  # on the loop's clock
    latency_s: float = 0.0  # of the last answer
    replaced: bool = False  # another process uses the name of this instance


class Membership:
    """One incarnation among the others. `report` says what each beat tells of it."""

    def __init__(
        self,
        store: Store,
        member: Member,
        heartbeat_s: float,
        *,
        report: Callable[[], Report],
        neighbours: Neighbours,
        dice: Callable[[], float],
    ) -> None:
        self._store = store
        self._member = member
        self._heartbeat_s = heartbeat_s
        self._report = report
        self._neighbours = neighbours
        self._dice = dice
        self._registered = False
        self._beating = asyncio.Lock()
        self._left = False
        self._soon = asyncio.Event()
        self.pulse = Pulse()

    async def live(self) -> None:
        """Beat for ever, at its cadence and when told that there is something to tell."""
        while True:
            await self.beat()
            self._soon.clear()
            wait_s = self._heartbeat_s * (1.0 - JITTER * self._dice())
            try:
                async with asyncio.timeout(wait_s):
                    await self._soon.wait()
            except TimeoutError:
                continue

    def beat_soon(self) -> None:
        """There is news that others should see before the next beat is due."""
        self._soon.set()

    async def beat(self) -> None:
        """One beat: what the store answers is passed on; that it does not is remembered."""
        async with self._beating:
            if self._left:
                return
            loop = asyncio.get_running_loop()
            begun_at = loop.time()
            try:
                beat = await self._tell()
            except (StoreAwayError, SchemaError) as error:
                self._missed(str(error))
                return
            if self.pulse.away:
                log("the store answers again")
            self.pulse.away = ""
            self.pulse.beats += 1
            self.pulse.answered_at = loop.time()
            self.pulse.latency_s = loop.time() - begun_at
        self._neighbours.heard(beat.newest)
        if beat.evicted:
            self._neighbours.evicted()

    async def leave(self) -> None:
        """Strike this incarnation off the list, and free what it holds. Raises as the store."""
        async with self._beating:
            self._left = True
            if self._registered:
                await self._store.unregister(self._member.incarnation)

    async def _tell(self) -> Beat:
        member, report = self._member, self._report()
        if not self._registered:
            beat = await self._store.register(member, report)
            self._registered = True
            log("registered", instance=member.instance_id, incarnation=member.incarnation)
            return beat
        beat = await self._store.beat(member.instance_id, member.incarnation, report)
        if beat.replaced and not self.pulse.replaced:
            log(
                "the name of this instance is used by another process",
                level="error",
                instance=member.instance_id,
                reason="node.instance_id is the same; this one is not on the list, and goes on "
                "serving. Give each a name of its own.",
            )
        self.pulse.replaced = beat.replaced
        if not beat.known and not beat.replaced:
            beat = await self._store.register(member, report)
            log("registered again", instance=member.instance_id)
        return beat

    def _missed(self, why: str) -> None:
        if not self.pulse.away:
            log("the store is away", level="warning", reason=why)
        self.pulse.away = why
        self.pulse.missed += 1

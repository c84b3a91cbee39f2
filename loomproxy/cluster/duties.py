"""What the leader does for all: strike off who is gone for good, and what is kept for too long.

Every write carries the leader's token, so that one who was replaced without noticing changes
nothing.
"""

import asyncio
from typing import Final

import msgspec

from loomproxy.cluster.store import (
    EVENTS_MAX,
    REVISIONS_MAX,
    Held,
    SchemaError,
    Store,
    StoreAwayError,
)
from loomproxy.log import log

PRUNE_EVERY: Final = 60
"""Rounds from one look at what is kept for too long to the next."""

LEADER_KEY: Final = "leader"
"""Who leads, as the leader itself wrote it down: guarded, so it is never an old leader's word."""


class Duties(msgspec.Struct, frozen=True):
    """The work of whoever holds the leader's lease."""

    store: Store
    instance_id: str
    round_s: float  # from one round to the next
    forget_after_s: float

    async def lead(self, held: Held) -> None:
        """Do it until cancelled. FencedError: somebody else leads."""
        log("leads", token=held.token)
        told = False
        number = 0
        while True:
            try:
                if not told:
                    await self.store.write(held, LEADER_KEY, self.instance_id)
                    await self.store.note("elected", self.instance_id, f"token {held.token}")
                    told = True
                await self._round(held, number)
                number += 1
            except (StoreAwayError, SchemaError) as error:
                # The lease tells whether we still lead; what was not done is done next time.
                log("leader's round not done", level="warning", reason=str(error))
            await asyncio.sleep(self.round_s)  # noqa: TID251 -- the cadence of the rounds

    async def _round(self, held: Held, number: int) -> None:
        for instance_id in await self.store.forget(held, self.forget_after_s):
            log("instance forgotten", instance=instance_id)
        if number % PRUNE_EVERY == 0:
            await self.store.prune(held, revisions_max=REVISIONS_MAX, events_max=EVENTS_MAX)

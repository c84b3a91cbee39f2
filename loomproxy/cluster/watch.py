"""What is published, followed: a hint or a beat says that there is something newer, it is applied.

Hints may be lost and beats may be late; what the store answers when it is asked is the truth.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from loomproxy.cluster.store import Revision, SchemaError, Store, StoreAwayError
from loomproxy.log import log

LISTEN_AGAIN_S: Final = 2.0
"""How long after a connection for hints was lost the next one is tried. Beats go on meanwhile."""


class Watch:
    """Follows the newest revision. `apply` makes one current, or says what stands against it."""

    def __init__(
        self, store: Store, apply: Callable[[Revision], Awaitable[tuple[str, ...]]]
    ) -> None:
        self._store = store
        self._apply = apply
        self._stirred = asyncio.Event()
        self.newest = 0  # as far as we heard
        self.running = 0  # the revision that this instance runs; 0: its own file
        self.refused = 0  # the newest one, while it cannot be applied
        self.problems: tuple[str, ...] = ()  # why

    @property
    def lagging(self) -> bool:
        """Whether something newer is published than what runs."""
        return self.newest != self.running

    def heard(self, newest: int) -> None:
        """The newest revision has this number: look, if that is news."""
        self.newest = newest
        if newest not in (self.running, self.refused):
            self._stirred.set()

    def hint(self) -> None:
        """Something may be new: look."""
        self._stirred.set()

    def retry(self) -> None:
        """What stood against a revision may be gone: try it again."""
        self.refused = 0
        self._stirred.set()

    async def live(self) -> None:
        """Look whenever there is a reason to, for ever."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            try:
                await self.look()
            except (StoreAwayError, SchemaError) as error:
                # The next beat brings the same news again.
                log("revision not read", level="warning", reason=str(error))

    async def look(self) -> None:
        """Ask for the newest revision, and apply it where it is another one."""
        heads = await self._store.revisions(1)
        if not heads:
            # Of a store that was emptied nothing is learnt: what runs goes on.
            self.newest = 0
            return
        number = self.newest = heads[0].number
        if number in (self.running, self.refused):
            return
        revision = await self._store.revision(number)
        if revision is not None:
            await self._follow(revision)

    async def listening(self, heard: Callable[[], None]) -> None:
        """Have `heard` called for hints, for ever; one connection after the other."""
        told = False
        while True:
            try:
                await self._store.listen(heard)
            except (StoreAwayError, SchemaError) as error:
                if not told:
                    log("no hints from the store", level="warning", reason=str(error))
                told = True
            else:
                told = False
            await asyncio.sleep(LISTEN_AGAIN_S)  # noqa: TID251 -- the cadence of trying again
            heard()  # What was said meanwhile was not heard.

    async def _follow(self, revision: Revision) -> None:
        number = revision.head.number
        problems = await self._apply(revision)
        if problems:
            self.refused, self.problems = number, problems
            log("revision refused", level="error", published=number, reason="; ".join(problems))
        else:
            self.running, self.refused, self.problems = number, 0, ()
            log("revision applied", published=number, author=revision.head.author)

"""What every connection of a worker shares: world, idle connections, books, the node."""

import asyncio
import itertools
import secrets
import select
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, cast

from loomproxy.core.exchange import Exchange
from loomproxy.core.gate import CONNECTIONS_MOST
from loomproxy.core.outcome import Outcome
from loomproxy.core.tally import Tally
from loomproxy.core.units import Instant
from loomproxy.core.wheel import Wheel
from loomproxy.core.world import World
from loomproxy.worker.accesslog import AccessLog
from loomproxy.worker.clock import monotonic
from loomproxy.worker.keepalive import Keepalive
from loomproxy.worker.ports import Accepting, Teller, Unread, Waiting
from loomproxy.worker.secure import Secure
from loomproxy.worker.upstream import Upstream

NOTICE_S: Final = 0.5
"""How often connections that are not read are looked at: a client that left frees its upstream
within a second.
"""


class Services:
    """The things of a worker of which there is one each."""

    def __init__(
        self,
        world: World,
        group: asyncio.TaskGroup,
        access_log: AccessLog,
        ask_node: Callable[[int, bytes], None],
        *,
        connections_max: int = CONNECTIONS_MOST,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.world = world
        self.wheel: Wheel[Waiting] = Wheel()
        self.keepalive: Keepalive[Upstream] = Keepalive(self.wheel)
        self.secure = Secure()
        self.tally = Tally()
        self.loop = asyncio.get_running_loop()
        self._group = group
        # The moment, on the clock of every deadline.
        self.now = cast("Callable[[], Instant]", clock)
        self._access_log = access_log
        self._ask_node = ask_node
        self._asked: dict[int, tuple[Teller, Exchange, int]] = {}
        self._asks = itertools.count(1)
        self._ids = _ids()
        self.doors: list[Accepting] = []  # the listeners
        self.connections_max = connections_max  # from downstream; see `ListenerAt.opened`
        self.tellers: set[Teller] = set()  # one for each connection from downstream
        self.empty = asyncio.Event()  # there is no connection from downstream
        self.empty.set()
        self.in_flight = 0  # exchanges
        self.unread: set[Unread] = set()  # of `tellers`, those held back
        self._noticed_at = Instant(0.0)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `work` beside everything else. Its errors end the worker."""
        return self._group.create_task(work)

    def fresh_id(self) -> bytes:
        """A request id that no other has: 16 random hex digits of this worker, then a count."""
        return next(self._ids)

    def record(self, outcome: Outcome) -> None:
        """One exchange is over: count it and write it down."""
        self.in_flight -= 1
        self.tally.count(outcome)
        self._access_log.write(outcome)

    def serve(self, teller: Teller, ask: int, path: bytes) -> None:
        """Have the node answer for a page of the house."""
        assert teller.exchange is not None, "nobody asks"
        number = next(self._asks)
        self._asked[number] = (teller, teller.exchange, ask)
        self._ask_node(number, path)

    def served(self, number: int) -> tuple[Teller, int] | None:
        """Who asked question `number`, once; None when that exchange is over.

        The next exchange of the same connection counts its own questions from one again: it must
        not take this answer for its own.
        """
        asked = self._asked.pop(number, None)
        if asked is None:
            return None
        teller, exchange, ask = asked
        return (teller, ask) if teller.exchange is exchange else None

    def expire(self) -> None:
        """Tell everybody whose deadline has passed; to be called at each tick."""
        now = self.now()
        for entry in self.wheel.expired(now):
            # One told before may have moved it: who gives back a slot wakes who waited for it.
            if entry.deadline_at <= now:
                entry.expire()

    def notice(self) -> None:
        """Notice which connections that are held back have ended; to be called at each tick.

        The event loop tells of an end when it reads, and these it does not read.
        """
        now = self.now()
        if not self.unread or now < self._noticed_at + NOTICE_S:
            return
        self._noticed_at = now
        by_descriptor = {each.fileno(): each for each in self.unread}
        by_descriptor.pop(-1, None)
        poll = select.poll()
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLRDHUP)
        for descriptor, events in poll.poll(0):
            by_descriptor[descriptor].noticed(events)

    def attach(self, teller: Teller) -> None:
        """A connection from downstream began."""
        self.tellers.add(teller)
        self.empty.clear()

    def forget(self, teller: Teller) -> None:
        """A connection from downstream is over: nobody waits for its answers."""
        self.tellers.discard(teller)
        if not self.tellers:
            self.empty.set()
        for number in [n for n, (asker, *_) in self._asked.items() if asker is teller]:
            del self._asked[number]


def _ids() -> Iterator[bytes]:
    """Request ids: 14 digits of the count are written once for all 256 that differ in two."""
    prefix = secrets.token_hex(8).encode()
    for count in itertools.count(1):
        begin = b"%s%014x" % (prefix, count)
        for last in _LAST_DIGITS:
            yield begin + last


_LAST_DIGITS: Final = tuple(b"%02x" % number for number in range(256))

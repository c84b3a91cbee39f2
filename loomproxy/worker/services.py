"""What every connection of a worker shares: world, idle connections, books, the node."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from loomproxy.core.outcome import Outcome
from loomproxy.core.tally import Tally
from loomproxy.core.units import Instant
from loomproxy.core.wheel import Wheel
from loomproxy.core.world import World
from loomproxy.worker.accesslog import AccessLog
from loomproxy.worker.keepalive import Keepalive

if TYPE_CHECKING:
    from loomproxy.worker.driver import Driver


class Waiting(Protocol):
    """What the wheel holds: connections, each with its one deadline."""

    deadline_at: Instant
    scheduled_at: Instant

    def expire(self) -> None:
        """The deadline has passed."""

    def __hash__(self) -> int:
        """By identity."""


class Services:
    """The things of a worker of which there is one each."""

    def __init__(
        self,
        world: World,
        group: asyncio.TaskGroup,
        access_log: AccessLog,
        ask_node: Callable[[int, bytes], None],
    ) -> None:
        self.world = world
        self.wheel: Wheel[Waiting] = Wheel()
        self.keepalive = Keepalive(self.wheel)
        self.tally = Tally()
        self.loop = asyncio.get_running_loop()
        self._group = group
        self._access_log = access_log
        self._ask_node = ask_node
        self._asked: dict[int, tuple[Driver, int]] = {}
        self._asks = itertools.count(1)
        self._id_prefix = secrets.token_hex(8).encode()
        self._ids = itertools.count(1)
        self.drivers: set[Driver] = set()  # one for each connection from downstream
        self.empty = asyncio.Event()  # there is no connection from downstream
        self.empty.set()
        self.in_flight = 0  # exchanges

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `work` beside everything else. Its errors end the worker."""
        return self._group.create_task(work)

    def fresh_id(self) -> bytes:
        """A request id that no other has: 16 random hex digits of this worker, then a count."""
        return b"%s%016x" % (self._id_prefix, next(self._ids))

    def record(self, outcome: Outcome) -> None:
        """One exchange is over: count it and write it down."""
        self.in_flight -= 1
        self.tally.count(outcome)
        self._access_log.write(outcome)

    def serve(self, driver: "Driver", ask: int, path: bytes) -> None:
        """Have the node answer for a page of the house."""
        number = next(self._asks)
        self._asked[number] = (driver, ask)
        self._ask_node(number, path)

    def served(self, number: int) -> "tuple[Driver, int] | None":
        """Who asked question `number`; once."""
        return self._asked.pop(number, None)

    def attach(self, driver: "Driver") -> None:
        """A connection from downstream began."""
        self.drivers.add(driver)
        self.empty.clear()

    def forget(self, driver: "Driver") -> None:
        """A connection from downstream is over: nobody waits for its answers."""
        self.drivers.discard(driver)
        if not self.drivers:
            self.empty.set()
        for number in [n for n, (asker, _) in self._asked.items() if asker is driver]:
            del self._asked[number]

"""A worker without processes and sockets: real connections, drivers and exchanges on fakes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from loomproxy.config.model import Listener
from loomproxy.core.outcome import Outcome
from loomproxy.core.pool import Pool
from loomproxy.core.world import World
from loomproxy.worker.accesslog import AccessLog
from loomproxy.worker.downstream import Downstream
from loomproxy.worker.driver import wake
from loomproxy.worker.services import Services
from tests.core.exchange.scenery import house
from tests.shell.fakes import Call, Clock, Door, Network, Transport

WITHIN_S = 20.0
HEAD_S, IDLE_S = 10.0, 75.0

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
FIXED = b"GET /fixed HTTP/1.1\r\nHost: a.example\r\n\r\n"  # answered by the route itself
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def run(play: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous play, which must end in time."""

    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await play()

    asyncio.run(bounded())


class Notes(AccessLog):
    """An access log that keeps outcomes."""

    def __init__(self) -> None:
        super().__init__("off", lambda _outcome: b"", lambda _reason, _lost: None)
        self.outcomes: list[Outcome] = []

    def write(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Client:
    """A connection from downstream, and what is at its other end."""

    def __init__(self, stage: "Stage", transport: Transport) -> None:
        self.downstream = Downstream(stage.door, stage.services)
        self.transport = transport.connect(self.downstream)
        self.send = self.transport.feed

    @property
    def driver(self) -> Any:
        return self.downstream._driver

    @property
    def exchange(self) -> Any:
        return self.driver.exchange

    def answers(self) -> bytes:
        return self.transport.answers()

    def statuses(self) -> list[int]:
        """Of the responses that arrived since the last look."""
        return [int(each[:3]) for each in self.answers().split(b"HTTP/1.1 ")[1:]]


class Stage:
    """One worker's things."""

    def __init__(self, group: asyncio.TaskGroup, listener: Listener, world: World) -> None:
        self.clock = Clock()
        self.log = Notes()
        self.asked: list[tuple[int, bytes]] = []
        self.world = world
        self.services = Services(
            world, group, self.log, lambda *ask: self.asked.append(ask), clock=self.clock
        )
        self.network = Network()
        self.services.loop = self.network  # type: ignore[assignment] # the part that is used
        self.door = Door(listener, self.services)

    def client(self, peername: object = ("192.0.2.7", 40000)) -> Client:
        """A client connects."""
        return Client(self, Transport(peername))

    @property
    def pool(self) -> Pool:
        return self.world.pools["web"]

    @property
    def outcomes(self) -> list[Outcome]:
        return self.log.outcomes

    @property
    def terminations(self) -> list[str]:
        return [outcome.termination for outcome in self.outcomes]

    async def turn(self) -> None:
        """Let the loop do what was put off, and what came of that."""
        loop = asyncio.get_running_loop()
        for _ in range(10):
            turned = loop.create_future()
            loop.call_soon(turned.set_result, None)
            await turned

    async def call(self, number: int = -1) -> Call:
        """The connection that is being opened."""
        await self.turn()
        return self.network.calls[number]

    async def accept(self, number: int = -1) -> Transport:
        """The endpoint accepts; what was sent to it is at once there."""
        transport = (await self.call(number)).accept()
        await self.turn()
        return transport

    async def later(self, seconds: float) -> None:
        """Time passes, and the worker ticks."""
        self.clock.now += seconds
        self.services.expire()
        for pool in self.world.pools.values():
            for ticket in pool.wake(self.services.now()):
                wake(ticket)
        await self.turn()

    def hold_nothing(self) -> None:
        """Whatever happened, nothing of it is held any more."""
        assert self.services.in_flight == 0
        assert not self.services.tellers
        assert not self.services._asked
        assert self.door.here == []
        assert [each.in_flight for each in self.pool.endpoints] == [0] * len(self.pool.endpoints)
        assert not self.pool.queue
        idle = [each for stack in self.services.keepalive._idle.values() for each in stack]
        assert len(self.services.wheel) <= len(idle)
        for call in self.network.calls:
            protocol = call.transport.protocol
            assert protocol is None or protocol.driver is None
            assert protocol is None or protocol in idle or call.transport.closing


@contextlib.asynccontextmanager
async def stage(
    *, listener: dict[str, Any] | None = None, endpoints: int = 1, **pool: Any
) -> AsyncIterator[Stage]:
    """A stage; at its end the clients leave, and nothing may be held."""
    settings = {"head_timeout_s": HEAD_S, "idle_timeout_s": IDLE_S, **(listener or {})}
    async with asyncio.TaskGroup() as group:
        it = Stage(group, Listener("public", "127.0.0.1:0", **settings), house(endpoints, **pool))
        yield it
        for client in list(it.door.here):
            assert isinstance(client, Downstream)
            client._transport.abort()
        await it.turn()
        it.hold_nothing()

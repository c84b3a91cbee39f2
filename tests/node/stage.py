"""A whole node in the test's own loop, with small real workers in processes of their own."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvloop

from loomproxy import process
from loomproxy.config.model import Config, Dynamic, Listener, Pool, Static
from loomproxy.config.model import Drain as DrainKeys
from loomproxy.config.model import Node as NodeKeys
from loomproxy.config.problem import Problems
from loomproxy.node.control import Launch, Node

STANDIN = str(Path(__file__).with_name("standin.py"))
DEADLINE_S = 30.0


def config(*pools: str, listeners: tuple[Listener, ...] | None = None, **node: Any) -> Config:
    """Two workers and one listener, unless told otherwise."""
    keys: dict[str, Any] = {
        "workers": 2,
        "worker_ping_interval_s": 0.1,
        "worker_ping_timeout_s": 1.0,
        "drain": DrainKeys(0.0, 5.0),
        "instance_id": "stage",
        **node,
    }
    at = (Listener("public", "127.0.0.1:0"),) if listeners is None else listeners
    return Config(
        Static(node=NodeKeys(**keys), listeners=at),
        Dynamic(pools={name: Pool(endpoints=()) for name in pools}),
    )


class Stage:
    """A running node, and what one can ask of it."""

    def __init__(self, start: Config, directory: Path, *standin: str) -> None:
        self.directory = directory
        self.next: Config | Problems = start  # what the next reload finds
        self.greeted = asyncio.Event()
        self.environment = {**process.environment(), "RUNTIME_DIRECTORY": str(directory)}
        self.node = Node(
            Launch(
                start,
                lambda: self.next,
                "stage.yaml",
                self.environment,
                lambda: 0.0,
                lambda _node: self.greeted.set(),
                (sys.executable, STANDIN, *standin, "--channel"),
            )
        )
        self.running = asyncio.get_running_loop().create_task(self.node.run())

    async def ready(self) -> None:
        """Wait for it to say that it is."""
        async with asyncio.timeout(DEADLINE_S):
            greeted = asyncio.get_running_loop().create_task(self.greeted.wait())
            await asyncio.wait({greeted, self.running}, return_when=asyncio.FIRST_COMPLETED)
            greeted.cancel()
        assert self.greeted.is_set(), "it left before it was ready"

    async def left(self) -> int:
        """Wait for it to leave; its exit status."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.running

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about the supervisor holds."""
        async with asyncio.timeout(DEADLINE_S):
            await self.node.supervisor._until(holds)

    @property
    def pids(self) -> list[int]:
        return [slot.worker.pid if slot.worker else 0 for slot in self.node.supervisor.slots]

    def kill(self, slot: int, number: signal.Signals = signal.SIGKILL) -> int:
        pid = self.pids[slot]
        os.kill(pid, number)
        return pid

    async def get(self, path: str = "/", place: int = 0) -> Any:
        """One request to a listener, answered by a worker."""
        address = self.node.sockets.listening[place].address
        if address.startswith("unix:"):
            opened = asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            opened = asyncio.open_connection(host.strip("[]"), int(port))
        return json.loads((await _exchange(opened, f"GET {path} HTTP/1.0\r\n\r\n"))[1])

    async def admin(self, target: str, method: str = "GET", fields: str = "") -> tuple[int, str]:
        """One request to the admin listener: status and body."""
        opened = asyncio.open_unix_connection(self.node.admin_address.removeprefix("unix:"))
        head, body = await _exchange(
            opened, f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        )
        return int(head.split()[1]), body


async def _exchange(opening: Any, request: str) -> tuple[str, str]:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await opening
        writer.write(request.encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


@contextlib.asynccontextmanager
async def stage(start: Config, *standin: str) -> AsyncIterator[Stage]:
    """A node that is ready; it has left, and its workers with it, at the end."""
    with tempfile.TemporaryDirectory(prefix="stage-") as directory:
        it = Stage(start, Path(directory), *standin)
        try:
            await it.ready()
            yield it
        finally:
            if not it.running.done():
                it.node.drain()
                await it.left()
            assert not list(it.directory.glob("*.sock"))


def run(play: Callable[[], Any]) -> None:
    """Run a play in the loop that nodes have."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())

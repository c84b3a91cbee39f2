"""The admin pages over plugins in memory, served on real sockets by a loop in another thread.

Commands of the command line block, as they do for people; so the house has a thread of its own.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from loomproxy.node.http import HttpServer
from tests.node.fakes import Plugins
from tests.node.house import TOKEN, House

Got = TypeVar("Got")
DEADLINE_S = 30.0


class Served:
    """A house that is asked at `unix`, or at `tcp` with the token."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.unix = f"unix:{directory}/admin.sock"
        self.tcp = ""
        self.operator = Plugins()

    def play(self, act: Callable[[], Got]) -> Got:
        """Do something in the house's loop."""

        async def acted() -> Got:
            return act()

        return asyncio.run_coroutine_threadsafe(acted(), self.loop).result(DEADLINE_S)

    async def open(self) -> list[HttpServer]:
        house = House(self.operator, token=TOKEN)
        private = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        private.bind(self.unix.removeprefix("unix:"))
        public = socket.create_server(("127.0.0.1", 0))
        self.tcp = f"127.0.0.1:{public.getsockname()[1]}"
        servers = [
            HttpServer(house.admin.answer, house.group.spawn),
            HttpServer(house.admin.answer_anybody, house.group.spawn),
        ]
        for server, sock in zip(servers, (private, public), strict=True):
            await server.listen(sock)
        return servers


@contextlib.contextmanager
def served(directory: Path) -> Iterator[Served]:
    """A house; at the end nobody is in it any more."""
    it = Served(directory)
    thread = threading.Thread(target=it.loop.run_forever)
    thread.start()
    try:
        servers = asyncio.run_coroutine_threadsafe(it.open(), it.loop).result(DEADLINE_S)
        yield it
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.close(), it.loop).result(DEADLINE_S)
    finally:
        it.loop.call_soon_threadsafe(it.loop.stop)
        thread.join(DEADLINE_S)
        it.loop.close()

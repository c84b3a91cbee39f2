"""A TCP passage before a server, which can be stalled, cut, half closed, or made one-way.

It has a thread of its own, so that tests with and without a loop use it alike. What is told to it
is done when the call returns.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

PIECE_BYTES: Final = 1 << 16
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close sends RST (socket(7))."""

_TOLD_WITHIN_S: Final = 10.0


class Passage:
    """Carries connections to `upstream`, a port on loopback; `port` is where it listens."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._refusing = False
        self.flows = {"up": True, "down": True}
        self.connections = 0  # so far
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._changed = self._told(asyncio.Event)
        self._server: asyncio.Server = self._run(self._listen(0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    # What befalls it.

    def stall(self) -> None:
        """Nothing passes in either direction; connections stand, new ones too."""
        self._flow(up=False, down=False)

    def swallow_answers(self) -> None:
        """What is asked arrives; its answer does not."""
        self._flow(up=True, down=False)

    def cut(self) -> None:
        """Every connection is reset, and new ones are refused."""
        self._told(self._refuse)
        self._told(lambda: [link.reset() for link in tuple(self._links)])

    def reset(self) -> None:
        """Every connection is reset; new ones are welcome."""
        self._told(lambda: [link.reset() for link in tuple(self._links)])

    def half_close(self) -> None:
        """The server seems to have nothing more to say on any connection; it may be spoken to."""
        self._told(lambda: [link.end_down() for link in tuple(self._links)])

    def heal(self) -> None:
        """All is well from now on; what was held back arrives."""
        self._flow(up=True, down=True)
        if self._refusing:
            self._server = self._run(self._listen(self.port))
            self._refusing = False

    @property
    def open_connections(self) -> int:
        """How many it carries now."""
        return len(self._links)

    def close(self) -> None:
        """End it with all connections."""
        self.cut()
        self._run(self._settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TOLD_WITHIN_S)
        self._loop.close()

    # How it carries.

    async def may(self, direction: str) -> None:
        """Return when bytes may pass in a direction."""
        while not self.flows[direction]:
            await self._changed.wait()

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError):
                await link.run(self._upstream)
        finally:
            self._links.discard(link)
            link.reset()

    def _refuse(self) -> None:
        self._refusing = True
        self._server.close()

    async def _settled(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(3):  # What was aborted is closed in a later turn of the loop.
            await asyncio.sleep(0)

    def _flow(self, **flows: bool) -> None:
        def change() -> None:
            self.flows.update(flows)
            self._changed.set()
            self._changed = asyncio.Event()

        self._told(change)

    def _told(self, act: Callable[[], T]) -> T:
        async def acted() -> T:
            return act()

        return self._run(acted())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TOLD_WITHIN_S)


class _Link:
    """One connection, and the one to the server that belongs to it."""

    def __init__(
        self, passage: Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._passage = passage
        self._near = (reader, writer)
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, port: int) -> None:
        await self._passage.may("up")
        self._far = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("up", self._near[0], self._far[1]))
                group.create_task(self._carry("down", self._far[0], self._near[1]))
        except* OSError:
            pass

    def reset(self) -> None:
        for _, writer in filter(None, (self._near, self._far)):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def end_down(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._near[1].write_eof()

    async def _carry(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            piece = await reader.read(PIECE_BYTES)
            await self._passage.may(direction)
            if not piece:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                return
            with contextlib.suppress(RuntimeError):  # Its other half was closed by a fault.
                writer.write(piece)
                await writer.drain()


@contextlib.contextmanager
def passage(upstream: int) -> Iterator[Passage]:
    """A passage to a port; at the end it is gone with all it carried."""
    made = Passage(upstream)
    try:
        yield made
    finally:
        made.close()

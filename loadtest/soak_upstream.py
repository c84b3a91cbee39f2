"""The upstream of a soak: one port that answers well, others that go wrong in every way they can.

    python -m loadtest.soak_upstream SEED PORT TROUBLED_PORT...

What is asked for is in the path: `/size/N/…` for a body of N bytes, `/events/…` for an event stream
of N bytes, `/echo/…` for an upgraded connection that says what it hears. Each body names its own
path, so that a client notices bytes of another answer.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from loadtest.processes import LOOPBACK

HEAD_BYTES_MAX = 1 << 17
PIECE_BYTES_MAX = 1 << 16
EVENTS = 10
EVENT_PAUSE_S = 0.01
STALL_S = 20.0  # Far beyond the proxy's patience with this pool.
DRIBBLE_PAUSE_S = 0.002
DRIBBLED_BYTES_MAX = 60
FAULT_RATIO = 0.5  # The other answers of a troubled port are right: its connections are reused.
POISON = b"HTTP/1.1 200 Poison\r\nContent-Length: 6\r\n\r\npoison"
EVENT_STREAM = (
    b"HTTP/1.1 200 Fine\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST (socket(7)).


def payload(path: str, size: int) -> bytes:
    """Return `size` bytes that only `path` has."""
    word = f"{path} ".encode()
    return (word * (size // len(word) + 1))[:size]


def size_of(path: str) -> int:
    """Return the body length that `path` asks for: its second part."""
    return int(path.split("/")[2])


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was read, its body included."""

    path: str
    body: bytes

    def answer(self) -> bytes:
        """Return the right answer; 400 where the body came up wrong."""
        if self.body and self.body != payload(f"up {self.path}", len(self.body)):
            return b"HTTP/1.1 400 Wrong body\r\nContent-Length: 0\r\n\r\n"
        size = size_of(self.path)
        return b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n" % size + payload(self.path, size)


class Line:
    """One connection from the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request:
        """Read the next request; IncompleteReadError when the proxy leaves."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ", 2)[1]
        length = 0
        for line in head.split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        return Request(path, await self._reader.readexactly(length))

    async def send(self, data: bytes) -> None:
        """Send, at the pace of who reads."""
        self._writer.write(data)
        await self._writer.drain()

    async def events(self, path: str) -> None:
        """Send an event stream: some of the body, a while, some more."""
        whole = payload(path, size_of(path))
        step = max(1, len(whole) // EVENTS)
        await self.send(EVENT_STREAM)
        for at in range(0, len(whole), step):
            part = whole[at : at + step]
            await self.send(b"%x\r\n%b\r\n" % (len(part), part))
            await asyncio.sleep(EVENT_PAUSE_S)
        await self.send(b"0\r\n\r\n")

    async def echo(self) -> None:
        """Switch, and say what is heard until the other side has said all."""
        await self.send(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        while heard := await self._reader.read(PIECE_BYTES_MAX):
            await self.send(heard)

    async def dribble(self, data: bytes) -> None:
        """Send the beginning byte by byte."""
        for at in range(DRIBBLED_BYTES_MAX):
            await self.send(data[at : at + 1])
            await asyncio.sleep(DRIBBLE_PAUSE_S)
        await self.send(data[DRIBBLED_BYTES_MAX:])

    def reset(self) -> None:
        """End the connection with RST."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._writer.transport.abort()

    def close(self) -> None:
        """End the connection in order."""
        self._writer.close()


async def well(line: Line, request: Request) -> bool:
    """Answer as asked; return whether the connection lives on."""
    if request.path.startswith("/echo/"):
        await line.echo()
        return False
    if request.path.startswith("/events/"):
        await line.events(request.path)
    else:
        await line.send(request.answer())
    return True


async def reset_before(line: Line, _request: Request) -> bool:
    """Reset instead of an answer."""
    line.reset()
    return False


async def close_before(_line: Line, _request: Request) -> bool:
    """Close instead of an answer."""
    return False


async def half_head(line: Line, request: Request) -> bool:
    """Close within the head."""
    await line.send(request.answer()[:30])
    return False


async def half_body(line: Line, request: Request) -> bool:
    """Close within the body."""
    await line.send(request.answer()[:-3])
    return False


async def reset_body(line: Line, request: Request) -> bool:
    """Reset within the body."""
    await line.send(request.answer()[:-3])
    line.reset()
    return False


async def junk(line: Line, _request: Request) -> bool:
    """Say what is no HTTP."""
    await line.send(b"\x00\x01junk\r\n\r\n")
    return True


async def stall(line: Line, request: Request) -> bool:
    """Say half of it, and nothing more."""
    await line.send(request.answer()[: len(request.answer()) // 2])
    await asyncio.sleep(STALL_S)
    return False


async def silence(_line: Line, _request: Request) -> bool:
    """Say nothing."""
    await asyncio.sleep(STALL_S)
    return False


async def dribble(line: Line, request: Request) -> bool:
    """Answer right, byte by byte."""
    await line.dribble(request.answer())
    return True


async def poison(line: Line, request: Request) -> bool:
    """Answer right, and add an answer that nobody asked for."""
    await line.send(request.answer() + POISON)
    return True


async def close_after(line: Line, request: Request) -> bool:
    """Answer right and close at once, without having said so."""
    await line.send(request.answer())
    return False


Answering = Callable[[Line, Request], Awaitable[bool]]

FAULTS: tuple[Answering, ...] = (
    *(reset_before, close_before, half_head, half_body, reset_body, junk),
    *(stall, silence, dribble, poison, close_after),
)
LEFT = (asyncio.IncompleteReadError, ConnectionError)


async def serve(line: Line, dice: Random | None) -> None:
    """Answer request after request; with `dice`, many of them wrongly."""
    try:
        lives = True
        while lives:
            request = await line.request()
            spoil = dice is not None and dice.random() < FAULT_RATIO
            answer = dice.choice(FAULTS) if dice is not None and spoil else well
            lives = await answer(line, request)
    except LEFT:
        pass
    finally:
        line.close()


async def listen(seed: int, ports: Sequence[int]) -> None:
    """Serve until cancelled: the first port well, the others as a seed has it."""
    async with contextlib.AsyncExitStack() as stack:
        for number, port in enumerate(ports):
            dice = Random(seed + number) if number else None

            async def welcome(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                dice: Random | None = dice,
            ) -> None:
                await serve(Line(reader, writer), dice)

            server = await asyncio.start_server(
                welcome, LOOPBACK, port, limit=HEAD_BYTES_MAX, backlog=1024
            )
            await stack.enter_async_context(server)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(listen(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))

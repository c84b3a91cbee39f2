"""A client that asks at a constant pace, whatever becomes of what it asked; every request counts.

It has a loop in a thread of its own. A request waits for none before it (open workload), is
idempotent, has a connection of its own, and is never tried again by the client: what fails, failed.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

import msgspec

ANSWER_WITHIN_S: Final = 30.0
IN_FLIGHT_MAX: Final = 500


class Asked(msgspec.Struct, frozen=True):
    """What became of one request."""

    at: float  # on the monotonic clock
    took_s: float
    status: int  # 0: none came
    instance: str
    why: str = ""


class Pace:
    """Asks `port` for `path`, so many times a second, until `stop`."""

    def __init__(self, port: int, per_s: float, path: str = "/") -> None:
        self._port = port
        self._every_s = 1.0 / per_s
        self._request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        self.asked: list[Asked] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and wait for what is under way."""
        self._over.set()
        self._thread.join(ANSWER_WITHIN_S + 5.0)
        assert not self._thread.is_alive()

    @property
    def failed(self) -> list[Asked]:
        """Those that were not answered 200."""
        return [one for one in self.asked if one.status != 200]

    def since(self, at: float) -> list[Asked]:
        """Those begun after a moment."""
        return [one for one in self.asked if one.at >= at]

    async def _run(self) -> None:
        begun_at = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as group:
            under_way: set[asyncio.Task[None]] = set()
            while not self._over.is_set():
                if len(under_way) < IN_FLIGHT_MAX:
                    task = group.create_task(self._ask())
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                else:
                    self.asked.append(Asked(time.monotonic(), 0.0, 0, "", "too many under way"))
                number += 1
                due_at = begun_at + number * self._every_s
                await asyncio.sleep(max(0.0, due_at - time.monotonic()))

    async def _ask(self) -> None:
        at = time.monotonic()
        status, instance, why = 0, "", ""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status, instance = await self._exchange()
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            why = f"{type(error).__name__}: {error}"
        self.asked.append(Asked(at, time.monotonic() - at, status, instance, why))

    async def _exchange(self) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in _pairs(lines[1:])}
        length = fields.get("content-length")
        if length is not None and len(body) != int(length):
            raise ValueError(f"{len(body)} bytes of {length}")
        return int(lines[0].split()[1]), fields.get("x-instance-id", "")


def _pairs(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines]


@contextlib.contextmanager
def pace(port: int, per_s: float, path: str = "/") -> Iterator[Pace]:
    """Somebody who asks at a constant pace; at the end nothing is under way any more."""
    made = Pace(port, per_s, path)
    try:
        yield made
    finally:
        made.stop()

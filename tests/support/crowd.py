"""Many clients at once that mean no good: each is a bare socket, and none waits for another."""

import contextlib
import select
import time
from typing import Final, Self

from tests.support.caller import Address, Caller

DRIBBLE_EVERY_S: Final = 0.1
"""How often a crowd that dribbles sends its next piece."""

READ_BYTES: Final = 64 << 10


class Crowd:
    """So many connections from one address; a context manager, which leaves with all of them."""

    def __init__(
        self, address: Address, size: int, *, source: str = "127.0.0.1", receive_bytes: int = 0
    ) -> None:
        self.size = size
        self.ended = 0
        self.received: dict[int, bytes] = {}  # by descriptor, of those that ended, too
        self._here: dict[int, Caller] = {}
        self._poll = select.poll()
        self._next_at = 0.0
        for _ in range(size):
            try:
                caller = Caller(address, receive_bytes=receive_bytes, source=source)
            except (
                ConnectionResetError
            ):  # refused sooner than this process learnt of its connection
                self.ended += 1
                continue
            caller.socket.setblocking(False)
            number = caller.socket.fileno()
            self._here[number] = caller
            self.received[number] = b""
            self._poll.register(number, select.POLLIN)
        self._all = list(self._here.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for caller in self._all:
            caller.close()

    def send(self, data: bytes) -> Self:
        """Everybody who is still there sends `data`, or as much of it as the kernel takes."""
        for caller in list(self._here.values()):
            with contextlib.suppress(OSError):
                caller.socket.send(data)
        return self

    def dribble(self, data: bytes) -> Self:
        """The same, if it was not done a moment ago."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + DRIBBLE_EVERY_S
            self.send(data)
        return self

    def read(self) -> Self:
        """Take a little of what came for each, and notice who was ended."""
        for number, _ in self._poll.poll(0):
            try:
                data = self._here[number].socket.recv(READ_BYTES)
            except OSError:
                data = b""
            self.received[number] += data
            if not data:
                self._poll.unregister(number)
                del self._here[number]
                self.ended += 1
        return self

    def statuses(self) -> dict[bytes, int]:
        """How often each status came first."""
        found: dict[bytes, int] = {}
        for data in self.received.values():
            found[data[9:12]] = found.get(data[9:12], 0) + 1
        return found

    @property
    def all_ended(self) -> bool:
        """Whether nobody is there any more."""
        return not self._here

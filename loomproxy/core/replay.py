"""Request bytes that are kept: until an upstream takes them, and beyond in case of another attempt.

While no upstream is there everything is held, and the caller pauses the client once `over` is true,
so at most `bytes_max` plus one read of the client is in memory. Once an upstream takes the bytes, a
request that outgrew `bytes_max` is no longer `whole`: it cannot be repeated, and nothing more of it
is kept. A request in very many pieces has outgrown it too, for each piece costs memory of its own.
"""

from typing import Final

PIECES_MAX: Final = 1024
"""Pieces kept of one request. A piece costs about 40 bytes beyond what it holds, so 64 KiB that
came byte by byte would cost 2.7 MiB; this bounds it to 40 KiB. What is sent in larger steps, as
nearly everything is, has far fewer.
"""


class Replay:
    """The body bytes of one request, as they go up."""

    __slots__ = ("_bytes_max", "_held", "_held_bytes", "_sent", "whole")

    def __init__(self, bytes_max: int) -> None:
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sent = 0
        self._bytes_max = bytes_max
        self.whole = True  # everything so far can be sent again

    @property
    def over(self) -> bool:
        """Whether more is held than should be; stop reading from the client."""
        return self._held_bytes > self._bytes_max or len(self._held) > PIECES_MAX

    def add(self, data: bytes) -> None:
        """Keep `data`, which came from the client, until `take`."""
        self._held.append(data)
        self._held_bytes += len(data)

    def take(self) -> bytes:
        """All that the held upstream has not been sent yet; b"" when there is nothing."""
        data = b"".join(self._held[self._sent :])
        self._sent = len(self._held)
        if self.over or not self.whole:
            self.whole = False
            self._held.clear()
            self._held_bytes = self._sent = 0
        return data

    def rewind(self) -> None:
        """Another attempt begins: all of it is to be sent again. Only while `whole`."""
        assert self.whole, "an attempt was repeated whose request is no longer held"
        self._sent = 0

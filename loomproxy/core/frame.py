"""Length-prefixed frames, incremental: bytes in any pieces in, whole payloads out.

A frame is four bytes of length (big endian, the length of what follows) and that many bytes of
payload. What a payload means is not known here. A frame that claims more than the bound is refused
as soon as its length is read, so that a peer can make us hold `payload_bytes_max` bytes and no
more.
"""

import struct
from typing import Final

PAYLOAD_BYTES_MAX: Final = 16 << 20
"""The largest payload, 16 MiB.

The largest that we send is a configuration or a metrics page: far below.
"""

_LENGTH: Final = struct.Struct(">I")


class FrameError(ValueError):
    """The peer sent something that cannot be a frame; nothing after it can be understood."""


def frame(payload: bytes, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
    """The frame around `payload`; FrameError when it is too large to be sent."""
    if len(payload) > payload_bytes_max:
        raise FrameError(f"a payload of {len(payload)} bytes is above {payload_bytes_max}")
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """What one connection brought so far that is not yet a whole frame."""

    __slots__ = ("_buffer", "_payload_bytes_max")

    def __init__(self, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._payload_bytes_max = payload_bytes_max

    @property
    def clean(self) -> bool:
        """Whether the connection may end here: no frame is cut in half."""
        return not self._buffer

    def receive(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the payloads that are whole now, in order; maybe none.

        After a FrameError the connection must be closed.
        """
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start, have = 0, len(buffer)
        while have - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self._payload_bytes_max:
                raise FrameError(f"a frame of {length} bytes is above {self._payload_bytes_max}")
            end = start + _LENGTH.size + length
            if end > have:
                break
            payloads.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return payloads

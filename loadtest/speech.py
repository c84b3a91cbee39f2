"""What the live upstream and our clients say to each other: both sides have it from here.

Events are numbered and all of one size, so that a client can tell a lost, doubled or torn one from
a right one by a comparison of bytes. Messages are numbered by their connection, so that an answer
that belongs to another connection is a wrong one.
"""

import base64
import hashlib
from functools import cache

# Targets of the live upstream. Proxies send everything below PREFIX to it.
PREFIX = "/live/"
SINK = f"{PREFIX}sink"
EVENTS = f"{PREFIX}events/"  # Followed by how many: /live/events/50.
ECHO = f"{PREFIX}echo"

EVENTS_PER_S = 10  # On each stream: the pace at which a large language model speaks, or a ticker.
EVENT_PERIOD_S = 1 / EVENTS_PER_S
EVENTS_MAX = 100_000  # On one stream.
EVENT_BYTES = 100  # A token with its JSON around it is of this order.

MESSAGE_BYTES_MAX = 125  # What a frame's first two bytes can say by themselves (RFC 6455 §5.2).
# A real client masks each frame anew (RFC 6455 §5.3); no proxy looks at it, and dice cost time.
MASK = b"\x37\xfa\x21\x3d"
FIN_TEXT = 0x81
MASKED = 0x80
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3.


@cache  # At most EVENTS_MAX of them.
def event(number: int) -> bytes:
    """Return event `number` of every stream: EVENT_BYTES bytes of text/event-stream."""
    opening, closing = b"id: %08d\ndata: " % number, b"\n\n"
    return opening + b"x" * (EVENT_BYTES - len(opening) - len(closing)) + closing


@cache  # At most EVENTS_MAX of them.
def chunk(number: int) -> bytes:
    """Return event `number` as the upstream frames it: one chunk of its own (RFC 9112 §7.1)."""
    return b"%x\r\n%s\r\n" % (EVENT_BYTES, event(number))


def message(connection: int) -> bytes:
    """Return what connection number `connection` says again and again."""
    return b"message of connection %06d, which comes back as it went: " % connection + b"y" * 41


def masked(payload: bytes) -> bytes:
    """XOR with the mask: what masks a payload, and what takes the mask off (RFC 6455 §5.3)."""
    return unmask(payload, MASK)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR `payload` with the four bytes of `mask`, over and over."""
    key = (mask * (len(payload) // len(mask) + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(len(payload), "big")


def client_frame(payload: bytes) -> bytes:
    """Return `payload` as a client sends it: one final, masked text frame."""
    assert len(payload) <= MESSAGE_BYTES_MAX, "longer payloads need a longer head"
    return bytes((FIN_TEXT, MASKED | len(payload))) + MASK + masked(payload)


def server_frame(payload: bytes) -> bytes:
    """Return `payload` as a server sends it: one final text frame, without a mask."""
    assert len(payload) <= MESSAGE_BYTES_MAX, "longer payloads need a longer head"
    return bytes((FIN_TEXT, len(payload))) + payload


def accept_for(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    # SHA-1 is what the RFC prescribes; it guards nothing.
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())

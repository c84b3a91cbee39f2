"""How much a peer may send before we say no, and what a no looks like.

Every bound is finite. What others chose for a request head: nginx four times 8 KiB, HAProxy 16 KiB,
Envoy 60 KiB, Node 16 KiB. Ours is large because cookies are, and a connection holds such a buffer
only while a head is arriving.
"""

from typing import Final

import msgspec

from loomproxy.core.fault import Fault

METHOD_BYTES_MAX: Final = 64
"""A longer method is refused as unsupported. The longest registered one (UPDATEREDIRECTREF) has 17
bytes."""

LEADING_EMPTY_LINES_MAX: Final = 2
"""Empty lines ignored before a request line (RFC 9112 §2.2: a server SHOULD ignore at least
one)."""

CHUNK_LINE_BYTES_MAX: Final = 512
"""A chunk-size line with its extensions, without CRLF. Nobody needs more: extensions are hardly
ever used, and we drop them (RFC 9112 §7.1.1: a recipient MUST ignore unrecognised ones)."""

CHUNK_EXTENSION_EXCESS_BYTES_MAX: Final = 16 * 1024
"""Extension bytes beyond what the payload justifies (see `framing.ChunkedBody`), for one body. Go
and hyper chose 16 KiB as well, after CVE-2023-39326."""

CHUNK_SIZE_DIGITS_MAX: Final = 15
"""Hexadecimal digits of a chunk size: below 2**60 bytes, so that no recipient's integer can
overflow."""

LENGTH_DIGITS_MAX: Final = 18
"""Decimal digits of Content-Length: below 2**60 bytes, for the same reason."""

CONNECTION_OPTIONS_MAX: Final = 32
"""Options in a request's Connection. Each must be looked up among the fields; real clients name two
or three."""

HOPS_DIGITS_MAX: Final = 9
"""Decimal digits of Max-Forwards. Nobody is further away than a few hops; this only keeps the
number within anybody's integer."""

MEMO_BYTES_MAX: Final = 1536
"""A head up to this size is remembered until the next one, which is often the same. It is held
three times, as it came, as a block and as it went on, and an idle connection shall cost less than 8
KiB with it."""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What one connection may send. All bounds are inclusive."""

    head_bytes_max: int = (
        64 * 1024
    )  # start line and fields with the blank line; also a trailer section
    target_bytes_max: int = 16 * 1024  # the request target alone
    fields_max: int = 200  # field lines of a head or a trailer section
    body_bytes_max: int = 1 << 40  # decoded payload of one message


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The peer sent what cannot be accepted; nothing more will be read from it."""

    fault: Fault
    detail: str  # what was seen, for the log; never for the client

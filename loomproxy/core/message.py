r"""The nouns of HTTP as this proxy sees them: heads, and how their bodies are framed.

A head keeps its fields as one *block*: the canonical text of all field lines, `Name: value\r\n`
each, in the order they came, names as they were written. Most requests pass through with hardly a
field looked at, so a list of pairs would be built only to be joined again. What framing, routing
and hop-by-hop rules need was picked out when the head was read, and stands beside the block;
whoever needs more asks `fields(block)`.

Whoever makes a head vouches for its block: every line a valid field line (RFC 9110 §5), no
obs-fold, no control characters, CRLF ends, no blank line.
"""

import enum
import re
from typing import Final

import msgspec


class Framing(enum.Enum):
    """How the length of a message body is told (RFC 9112 §6.3)."""

    NONE = "none"  # there is no body
    LENGTH = "length"  # Content-Length bytes
    CHUNKED = "chunked"  # Transfer-Encoding: chunked
    CLOSE = "close"  # until the sender closes; responses only
    TUNNEL = "tunnel"  # not HTTP any more: after 101


# Bound once: reading a member through its class costs as much as a call.
NONE: Final = Framing.NONE
LENGTH: Final = Framing.LENGTH
CHUNKED: Final = Framing.CHUNKED
CLOSE: Final = Framing.CLOSE
TUNNEL: Final = Framing.TUNNEL


class Memo:
    """What became of a block when it passed last: no part of the message, and no two differ.

    Heads of one connection often have the same block. Hygiene keeps here what it made of it, with
    all that this depended on.
    """

    __slots__ = ("passed", "passed_for", "said_id", "said_id_for")

    def __init__(self) -> None:
        self.said_id: bytes | None = None
        self.said_id_for: object = None
        self.passed: list[bytes] = []
        self.passed_for: tuple[object, ...] = ()

    def __eq__(self, other: object) -> bool:
        """It says nothing of a head."""
        return isinstance(other, Memo)

    __hash__ = None  # type: ignore[assignment] # nobody looks for one


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """A request line and its fields, already found to be valid and unambiguous."""

    method: bytes
    target: bytes  # origin form (`/path?query`) or `*`; absolute form has been reduced to it
    path: bytes  # the target up to the first `?`, undecoded; what routes look at
    query: bytes  # what follows the first `?`, without it; b"" when there is none
    minor_version: int  # 1 for HTTP/1.1, 0 for HTTP/1.0
    authority: bytes  # the Host field's value as it came; b"" only for HTTP/1.0 without one
    host: bytes  # the authority in lower case without its port; what routes look at
    framing: Framing  # NONE, LENGTH or CHUNKED
    body_bytes: int  # for LENGTH; 0 otherwise
    keep_alive: bool  # the client allows another exchange on this connection (RFC 9112 §9.3)
    expect_continue: bool  # `Expect: 100-continue` was sent
    upgrade: bytes  # the Upgrade field in lower case when Connection names it; else b""
    nominated: tuple[bytes, ...]  # lower-case field names that Connection lists; hop-by-hop all
    block: bytes  # every field, Host included, canonical
    memo: Memo = msgspec.field(default_factory=Memo)  # of the block
    for_us: bool = False  # Max-Forwards was 0: it goes no further (RFC 9110 §7.6.2)

    @property
    def has_body(self) -> bool:
        """Whether parts follow this head."""
        return self.framing is not NONE


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """A status line and its fields, already found to be valid and unambiguous."""

    status: int  # 100..599
    reason: bytes  # may be empty
    minor_version: int
    framing: Framing  # with the request's method taken into account: NONE for HEAD, 1xx, 204, 304
    body_bytes: int  # for LENGTH; 0 otherwise
    keep_alive: bool  # the connection may carry another exchange once this one is over
    upgrade: bytes  # lower case; meaningful with status 101
    nominated: tuple[bytes, ...]
    block: bytes
    memo: Memo = msgspec.field(default_factory=Memo)  # of the block

    @property
    def is_interim(self) -> bool:
        """Whether another response head must follow (RFC 9110 §15.2); 101 is final for HTTP."""
        return self.status < OK and self.status != SWITCHING_PROTOCOLS

    @property
    def has_body(self) -> bool:
        """Whether parts follow this head."""
        return self.framing is not NONE


class RequestPart(msgspec.Struct, frozen=True, gc=False):
    """Some of the request body, in order; `ended` with the last, which may be empty."""

    data: bytes
    ended: bool
    trailers: bytes = b""  # a canonical block, only with `ended`


class ResponsePart(msgspec.Struct, frozen=True, gc=False):
    """Some of the response body, in order; `ended` with the last, which may be empty."""

    data: bytes
    ended: bool
    trailers: bytes = b""


class Response(msgspec.Struct, frozen=True, gc=False):
    """A final response with a body of known length, of which everything has arrived."""

    head: ResponseHead
    data: bytes  # the whole body, not empty


SWITCHING_PROTOCOLS: Final = 101
OK: Final = 200

_FIELD: Final = re.compile(rb"([^:\r\n]++):[ \t]*+([^\r\n]*+)\r\n")
"""Each byte is looked at once: a head may hold 64 KiB of spaces, chosen by anybody."""


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """All (lower-case name, value) pairs of a canonical block, in order."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(block)]


def field(block: bytes, name: bytes) -> bytes | None:
    """The first value of field `name` (given in lower case), or None."""
    # A block is lower-cased whole and searched in less time than a pattern finds its lines.
    at = (b"\n" + block.lower()).find(b"\n%b:" % name)
    if at < 0:
        return None
    at += len(name) + 1
    return block[at : block.index(b"\r", at)].strip(b" \t")


IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be repeated without harm (RFC 9110 §9.2.2)."""

"""Everything that can happen to an exchange.

The heads of `message` are events too: `RequestHead` opens an exchange, `ResponseHead` (interim or
final) answers it, with `ResponsePart`s or as a `Response` that arrived whole. An answer to a
question carries the number of that question (`ask`), so that a late answer to an abandoned question
is dropped by number.
"""

import msgspec

from loomproxy.core.fault import Fault
from loomproxy.core.message import (
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)


class RequestBroken(msgspec.Struct, frozen=True, gc=False):
    """The request body cannot be read any further: bad framing, or too large."""

    fault: Fault


class SlotFreed(msgspec.Struct, frozen=True, gc=False):
    """A place in the pool that this exchange waited for is free: try to take it now."""

    ask: int


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The new connection that was asked for is there."""

    ask: int


class OpenFailed(msgspec.Struct, frozen=True, gc=False):
    """The connection asked for cannot be had; nothing was sent."""

    ask: int
    fault: Fault


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The house itself answered (health, metrics)."""

    ask: int
    status: int
    content_type: bytes
    body: bytes


class UpstreamGone(msgspec.Struct, frozen=True, gc=False):
    """The held upstream connection ended or broke before its message did."""

    fault: Fault


class TunnelData(msgspec.Struct, frozen=True, gc=False):
    """Bytes after 101, from either side."""

    data: bytes
    from_downstream: bool


class HalfClosed(msgspec.Struct, frozen=True, gc=False):
    """One side of a tunnel will send no more (FIN); the other direction goes on."""

    from_downstream: bool


class DownstreamGone(msgspec.Struct, frozen=True, gc=False):
    """The client closed, or its connection broke."""


class DownstreamFull(msgspec.Struct, frozen=True, gc=False):
    """The client does not take what we sent as fast as we send it."""


class DownstreamTaken(msgspec.Struct, frozen=True, gc=False):
    """All that was sent down so far is in the kernel's hands."""


class DownstreamTaking(msgspec.Struct, frozen=True, gc=False):
    """The deadline has passed, yet the client took some of what it was sent: it is only slow."""


class UpstreamFull(msgspec.Struct, frozen=True, gc=False):
    """The upstream does not take what we sent as fast as we send it."""


class UpstreamTaken(msgspec.Struct, frozen=True, gc=False):
    """All that was sent up so far is in the kernel's hands."""


class DeadlineExpired(msgspec.Struct, frozen=True, gc=False):
    """The deadline that was set has passed."""


class DrainExpired(msgspec.Struct, frozen=True, gc=False):
    """The drain deadline has passed: leave now."""


Event = (
    RequestHead
    | RequestPart
    | RequestBroken
    | ResponseHead
    | ResponsePart
    | Response
    | SlotFreed
    | Opened
    | OpenFailed
    | Answered
    | UpstreamGone
    | TunnelData
    | HalfClosed
    | DownstreamGone
    | DownstreamFull
    | DownstreamTaken
    | DownstreamTaking
    | UpstreamFull
    | UpstreamTaken
    | DeadlineExpired
    | DrainExpired
)

"""The same bytes cut in every way, and what a wire makes of them, in a form to compare."""

from collections.abc import Iterator

from loomproxy.core.http1.limits import Limits, Refusal
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.message import (
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)

Seen = list[object]
"""Heads, ("body", payload), ("end", trailers) and ("refused", fault name), in order."""


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and in two at every place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def requests(pieces: list[bytes], limits: Limits | None = None, *, eof: bool = True) -> Seen:
    """What a client that sends these pieces (and pipelines) is understood to say."""
    wire = RequestWire(limits or Limits())
    seen: Seen = []
    for piece in [*pieces, b""] if eof else pieces:
        wire.receive(piece)
        while _drain(wire, seen) and _over(seen):
            wire.next_message()
    return seen


def responses(
    pieces: list[bytes], method: bytes = b"GET", limits: Limits | None = None, *, eof: bool = True
) -> Seen:
    """What an upstream that sends these pieces is understood to answer, with what follows it."""
    wire = ResponseWire(limits or Limits())
    wire.expect(method)
    seen: Seen = []
    for piece in [*pieces, b""] if eof else pieces:
        wire.receive(piece)
        _drain(wire, seen)
    rest = wire.take_rest()
    return [*seen, ("rest", rest)] if rest else seen


def _over(seen: Seen) -> bool:
    """Whether the last thing seen ends a request."""
    if not seen:
        return False
    last = seen[-1]
    if isinstance(last, RequestHead):
        return not last.has_body
    return isinstance(last, tuple) and last[0] == "end"


def _drain(wire: RequestWire | ResponseWire, seen: Seen) -> bool:
    """Poll until nothing comes; whether something came."""
    came = False
    while (what := wire.poll()) is not None:
        came = True
        if isinstance(what, RequestPart | ResponsePart):
            _part(what, seen)
        elif isinstance(what, Response):
            seen += (what.head, ("body", what.data), ("end", b""))
        elif isinstance(what, Refusal):
            seen.append(("refused", what.fault.name))
        else:
            assert isinstance(what, RequestHead | ResponseHead)
            seen.append(what)
    return came


def _part(part: RequestPart | ResponsePart, seen: Seen) -> None:
    if part.data:
        last = seen[-1]
        if isinstance(last, tuple) and last[0] == "body":
            seen[-1] = ("body", last[1] + part.data)
        else:
            seen.append(("body", part.data))
    if part.ended:
        seen.append(("end", part.trailers))

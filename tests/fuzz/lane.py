"""The lane against `slow` and h11: what it accepts, both read alike."""

from collections.abc import Iterator
from typing import Final

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits
from loomproxy.core.message import Framing, ResponseHead, fields
from tests.core.http1.heard import heard_requests, heard_response, plain

HEAD_END: Final = b"\r\n\r\n"
METHODS: Final = (b"GET", b"HEAD", b"POST", b"OPTIONS")
LIMITS: Final = (
    Limits(),
    Limits(head_bytes_max=128, target_bytes_max=24, fields_max=4, body_bytes_max=64),
)
_AFTER_CHUNKED: Final = b"0\r\n\r\n"


def heads(data: bytes) -> Iterator[bytes]:
    """The heads in `data` as a wire would hand them over; the last one is made whole."""
    while data:
        end = (data + HEAD_END).index(HEAD_END) + len(HEAD_END)
        yield (data + HEAD_END)[:end]
        data = data[end:]


def lane_request(data: bytes) -> None:
    """The lane reads a request head as `slow` and h11 do, or not at all."""
    for limits in LIMITS:
        known = None
        for raw in heads(data):
            head = lane.request(raw, limits, None)
            # What was picked from another head's block is used again only where it is the same.
            assert lane.request(raw, limits, known) == head
            careful = slow.request(raw, limits)
            if head is None:
                continue
            assert careful == head
            known = head
            body = b"x" * min(head.body_bytes, 1)
            heard = heard_requests(
                raw + (_AFTER_CHUNKED if head.framing is Framing.CHUNKED else body)
            )
            said = plain(fields(head.block))
            assert heard[0] == ("request", head.method, head.target, b"1.1", said)
            begun = ("body", b"x") if body else ("end", [])
            assert heard[1] == begun


def lane_response(data: bytes) -> None:
    """The lane reads a response head as `slow` and h11 do, or not at all."""
    for limits in LIMITS:
        for raw in heads(data):
            for method in METHODS[:2]:
                head = lane.response(raw, method, limits)
                careful = slow.response(raw, method, limits)
                if head is not None:
                    assert careful == head
                    _heard_alike(head, heard_response(raw + _AFTER_CHUNKED, method))


def _heard_alike(head: ResponseHead, heard: list[object]) -> None:
    version = b"1.%d" % head.minor_version
    assert heard[0] == ("response", head.status, version, plain(fields(head.block)))
    if head.framing is Framing.TUNNEL or head.is_interim:
        return
    follows = {
        Framing.NONE: ("end", []),
        Framing.CHUNKED: ("end", []),
        Framing.CLOSE: ("body", _AFTER_CHUNKED),
        Framing.LENGTH: ("body", _AFTER_CHUNKED[: head.body_bytes]),
    }
    assert heard[1] == follows[head.framing]

"""Answers of our own: refusals, configured responses and redirects, the house about itself.

A refusal says what happened in one plain sentence with the request id, as JSON where the client's
Accept asks for it and as text elsewhere; nothing in it tells about the inside.
"""

from typing import Final

import msgspec

from loomproxy.core import hygiene
from loomproxy.core.fault import METHOD_NOT_ALLOWED, Fault
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.message import RequestHead, field
from loomproxy.core.route import Redirect, Respond

TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole response; `block` holds further canonical field lines."""

    status: int
    content_type: bytes
    body: bytes
    block: bytes = b""


LAST_RECIPIENT: Final = Answer(204, b"", b"")
"""For OPTIONS that may go no further. What may be asked of an upstream we do not know, so it says
nothing (RFC 9110 §9.3.7)."""


def refusal(fault: Fault, request: RequestHead, request_id: bytes) -> Answer:
    """What the client is told about `fault`."""
    accept = field(request.block, b"accept") or b""
    # RFC 9110 §15.5.6: a 405 MUST say which methods are allowed.
    allow = b"Allow: GET, HEAD\r\n" if fault is METHOD_NOT_ALLOWED else b""
    if b"json" in accept.lower():
        body = msgspec.json.encode(
            {"error": fault.text, "code": fault.name, "request_id": request_id.decode("ascii")}
        )
        return Answer(fault.status, JSON, body + b"\n", allow)
    body = b"%d %s\n%s\nRequest-ID: %s\n" % (
        fault.status,
        hygiene.phrase(fault.status),
        fault.text.encode(),
        request_id,
    )
    return Answer(fault.status, TEXT, body, allow)


def configured(action: Respond | Redirect, request: RequestHead, scheme: bytes) -> Answer:
    """What a route answers by itself."""
    if isinstance(action, Respond):
        return Answer(action.status, action.content_type, action.body, action.block)
    location = action.location_for(request, scheme)
    body = b"%d %s\n" % (action.status, hygiene.phrase(action.status))
    return Answer(action.status, TEXT, body, b"Location: %s\r\n" % location)


def render(
    answer: Answer,
    request: RequestHead,
    *,
    policy: ForwardPolicy,
    keep_alive: bool,
    request_id: bytes,
    date: bytes = b"",
) -> bytes:
    """The bytes of `answer` for the client that sent `request`."""
    block = answer.block
    if date:  # RFC 9110 §6.6.1: an origin with a clock MUST say when.
        block += b"Date: %b\r\n" % date
    if policy.request_id_header:
        block += b"%s: %s\r\n" % (policy.request_id_header, request_id)
    return hygiene.local_response(
        answer.status,
        content_type=answer.content_type,
        body=answer.body,
        keep_alive=keep_alive,
        head_only=request.method == b"HEAD",
        extra=block,
    )

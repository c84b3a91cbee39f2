"""Answers of our own: refusals, configured responses and redirects, the house about itself.

A refusal says what happened in one plain sentence with the request id, as JSON where the client's
Accept asks for it and as text elsewhere; nothing in it tells about the inside.
"""

from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from loomproxy.core import hygiene
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.dialect import OPENAI, Dialect
from loomproxy.core.fault import METHOD_NOT_ALLOWED, MODEL_NOT_FOUND, Fault
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.message import RequestHead, field
from loomproxy.core.route import Models, Redirect, Respond

TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"
UNBUFFERED: Final = b"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
"""What a stream says to those between us and the client: pass each event on as it comes."""


READING: Final = frozenset((b"GET", b"HEAD"))
"""The methods that the pages of the house know."""

ALLOW_READING: Final = b"Allow: GET, HEAD\r\n"


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
    allow = ALLOW_READING if fault is METHOD_NOT_ALLOWED else b""
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


def complaint(said: Complaint, dialect: Dialect, request_id: bytes) -> Answer:
    """What the client of a chat is told, in its dialect."""
    # RFC 9110 §15.5.6: a 405 MUST say which methods are allowed.
    allow = b"Allow: POST\r\n" if said.fault is METHOD_NOT_ALLOWED else b""
    wait = b"Retry-After: %b\r\n" % said.retry_after.encode() if said.retry_after else b""
    return Answer(said.status, JSON, dialect.error(said, request_id), allow + wait)


def models(action: Models, request: RequestHead, catalogue: Catalogue, request_id: bytes) -> Answer:
    """The list of models, or the one that the path names behind it."""
    if request.method not in READING:
        said = complaints.of_fault(METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED.text)
        return Answer(said.status, JSON, OPENAI.error(said, request_id), ALLOW_READING)
    name = unquote_to_bytes(request.path[len(action.path) :]).decode("utf-8", "replace")
    if not name:
        return Answer(200, JSON, catalogue.listing)
    entry = catalogue.entry(name.removeprefix("/"))
    if entry is not None:
        return Answer(200, JSON, entry)
    said = complaints.of_fault(MODEL_NOT_FOUND, param="model")
    return Answer(said.status, JSON, OPENAI.error(said, request_id))


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

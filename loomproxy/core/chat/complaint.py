"""What the client of a chat is told when it gets no answer: from our faults, and from a provider's.

A provider says what went wrong as a PluginError, `{code, message, details?, transient}`, or in the
OpenAI dialect, `{"error": {message, type, param, code}}`. The code alone decides the status; a body
that is neither is an `internal_error` that tells the provider's status and a bounded excerpt.
"""

import re
from typing import Final

import msgspec

from loomproxy.core import fault as faults
from loomproxy.core.chat.provider import Tongue
from loomproxy.core.fault import Fault

STATUS_OF_CODE: Final = {
    "invalid_request": 400,
    "content_filter": 400,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "quota_exceeded": 429,
    "authentication_failed": 502,  # The provider refused our key, not the client's.
    "provider_unavailable": 503,
    "timeout": 504,
    "internal_error": 502,
}
"""The codes of a PluginError, and what the client gets for each."""

EXCERPT_CHARS_MAX: Final = 200
"""Of a body that is no error object, as far as it is told."""

MESSAGE_CHARS_MAX: Final = 4096
"""Of a provider's own words; what is longer is cut."""

KEY_REFUSED: Final = "The provider refused the proxy's key."
"""All that a client is told of that: a provider's own words about a key may quote it."""

RETRY_SOON: Final = "1"
"""Retry-After of what may be well in a moment."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9A-Za-z: ]{20,22}GMT")
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_OPENAI_CODES: Final = {
    400: "invalid_request",
    404: "model_not_found",
    408: "timeout",
    429: "rate_limit_exceeded",
    503: "provider_unavailable",
    504: "timeout",
}
_PASSING: Final = (429, 503, 504)
"""Statuses that say enough: who stands before a provider answers with one of these, and a page."""
_UNAUTHENTICATED: Final = (401, 403)
_STATUS_ERROR_MIN: Final = 400
_STATUS_SERVER_MIN: Final = 500
_UNAVAILABLE: Final = 503
_GATEWAY_TIMEOUT: Final = 504
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class Complaint(msgspec.Struct, frozen=True):
    """What the client is told."""

    status: int  # of an answer; where one is under way already, it means nothing
    code: str
    message: str
    fault: Fault | None = None  # ours, for the log; None: the provider's own affair
    param: str | None = None  # the field of the request that is wrong
    retry_after: str = ""  # seconds, or a date; "": nothing is said
    transient: bool = False  # the same request may succeed a moment later
    verbatim: bytes = b""  # the provider's own words, where they are of the OpenAI dialect


class _PluginError(msgspec.Struct, frozen=True):
    code: str
    message: str
    details: msgspec.Raw = msgspec.Raw(b"null")
    transient: bool = False


class _OpenAiError(msgspec.Struct, frozen=True):
    message: str
    code: str | int | None = None


class _OpenAiErrors(msgspec.Struct, frozen=True):
    error: _OpenAiError


class _Details(msgspec.Struct, frozen=True):
    retry_after: float | str | None = None


def of_fault(fault: Fault, message: str = "", *, param: str | None = None) -> Complaint:
    """What is said of a fault of our own, or of one that we found."""
    return Complaint(
        fault.status,
        _code_of(fault),
        message or fault.text,
        fault,
        param,
        RETRY_SOON if fault.status == _UNAVAILABLE else "",
    )


def _code_of(fault: Fault) -> str:
    if fault in _NAMED:
        return fault.name
    if fault is faults.UPSTREAM_STALLED or fault.status == _GATEWAY_TIMEOUT:
        return "timeout"
    if fault is faults.CONNECT_FAILED or fault.status == _UNAVAILABLE:
        return "provider_unavailable"
    if _STATUS_ERROR_MIN <= fault.status < _STATUS_SERVER_MIN:
        return "invalid_request"
    return "internal_error"


_NAMED: Final = (faults.MODEL_NOT_FOUND, faults.STREAM_TRUNCATED, faults.METHOD_NOT_ALLOWED)
"""Faults whose own name says more than any code of a provider's."""


def read(status: int, body: bytes, tongue: Tongue, retry_after: bytes | None) -> Complaint:
    """What a provider's answer says that is no 2xx; `retry_after` as the field was, if it was."""
    wait = _wait(retry_after.decode("latin-1") if retry_after else "")
    openai = tongue is Tongue.OPENAI
    found = _of_openai(status, body, wait) if openai else _of_plugin(body, wait)
    if found is not None:
        return found
    code = _OPENAI_CODES[status] if openai and status in _PASSING else "internal_error"
    return Complaint(
        STATUS_OF_CODE[code],
        code,
        f"The provider answered with status {status} and no error that can be read: "
        f"{_excerpt(body)}",
        retry_after="" if code == "internal_error" else wait,
    )


def read_event(error: bytes) -> Complaint:
    """What the `error` within a success says, in either tongue: an event's, or a whole answer's."""
    return (
        _of_plugin(error, "")
        or _of_openai(STATUS_OF_CODE["internal_error"], b'{"error":%b}' % error, "")
        or Complaint(
            STATUS_OF_CODE["internal_error"],
            "internal_error",
            f"The provider reported an error that cannot be read: {_excerpt(error)}",
        )
    )


def _of_plugin(body: bytes, wait: str) -> Complaint | None:
    try:
        said = msgspec.json.decode(body, type=_PluginError)
    except _UNREADABLE:
        return None
    status = STATUS_OF_CODE.get(said.code)
    if status is None:
        return None
    refused = said.code == "authentication_failed"
    return Complaint(
        status,
        said.code,
        KEY_REFUSED if refused else said.message[:MESSAGE_CHARS_MAX],
        retry_after=_wait_of(said.details) or wait,
        transient=said.transient,
    )


def _wait_of(details: msgspec.Raw) -> str:
    try:
        said = msgspec.json.decode(details, type=_Details).retry_after
    except _UNREADABLE:
        return ""
    return _wait(f"{said:g}" if isinstance(said, float) else said or "")


def _wait(said: str) -> str:
    """A Retry-After value of what a provider said; "" where it makes none.

    RFC 9110 §10.2.3: whole seconds or a date. A part of a second counts as one.
    """
    if _SECONDS.fullmatch(said):
        whole, _, part = said.partition(".")
        return str(int(whole) + bool(part.strip("0")))
    return said if _DATE.fullmatch(said) else ""


def _of_openai(status: int, body: bytes, wait: str) -> Complaint | None:
    if status in _UNAUTHENTICATED:
        code = "authentication_failed"
        return Complaint(STATUS_OF_CODE[code], code, KEY_REFUSED)
    try:
        said = msgspec.json.decode(body, type=_OpenAiErrors).error
    except _UNREADABLE:
        return None
    message = said.message[:MESSAGE_CHARS_MAX]
    if status < _STATUS_ERROR_MIN:
        return None
    code = "internal_error" if status >= _STATUS_SERVER_MIN else "invalid_request"
    code = _OPENAI_CODES.get(status, code)
    return Complaint(status, code, message, retry_after=wait, verbatim=bytes(body))


def _excerpt(body: bytes) -> str:
    text = bytes(body[: EXCERPT_CHARS_MAX * 4]).decode("utf-8", "replace")
    return repr(_UNPRINTABLE.sub(" ", text).strip()[:EXCERPT_CHARS_MAX])

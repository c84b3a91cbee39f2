"""What a provider's refusal means in the words of the contract: its status and body, read once.

The status decides the code. What the body says becomes the message: every dialect has a place for
it, and an excerpt serves where none is found.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any, Final

from loomproxy.plugins.sdk import wire
from loomproxy.plugins.sdk.errors import PluginError

if TYPE_CHECKING:
    from loomproxy.plugins.sdk.wire import Head

EXCERPT_CHARS_MAX: Final = 500
"""Of a body without a message."""

_CODES: Final = {
    401: "authentication_failed",
    402: "quota_exceeded",
    403: "authentication_failed",
    404: "model_not_found",
    408: "timeout",
    429: "rate_limit_exceeded",
    504: "timeout",
}
_REFUSED: Final = 400
_FAILED: Final = 500
_RATE: Final = 429
_SECONDS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def error_of(place: str, head: Head, body: bytes) -> PluginError:
    """Return the PluginError that an answer means; `place` says whose it was."""
    status = int(head.first[1])
    said = _load(body)
    code = _code(status, said)
    return PluginError(
        code,
        f"{place}: {_message(status, said, body)}",
        transient=False if status < _REFUSED else None,
        retry_after=retry_after(head.fields.get("retry-after", "")),
        details={"status": status},
    )


def _code(status: int, said: Any) -> str:
    if status == _RATE and "insufficient_quota" in _words(said):
        return "quota_exceeded"
    if status in _CODES:
        return _CODES[status]
    if _REFUSED <= status < _FAILED:
        return "invalid_request"
    return "provider_unavailable"


def _words(said: Any) -> tuple[Any, ...]:
    error = said.get("error") if isinstance(said, dict) else None
    return (error.get("code"), error.get("type")) if isinstance(error, dict) else ()


def _message(status: int, said: Any, body: bytes) -> str:
    if status < _REFUSED:
        return f"answered {status}; redirects are not followed. Correct the endpoint."
    text = message_of(said) or body.decode("utf-8", "replace").strip()[:EXCERPT_CHARS_MAX]
    return f"{text} (status {status})" if text else f"answered {status}."


def message_of(said: Any) -> str:
    """Return the message of an error's body, wherever its dialect has it; "" when nowhere."""
    if isinstance(said, dict):
        error = said.get("error", said)
        text = error.get("message") if isinstance(error, dict) else error
        if isinstance(text, str):
            return text[:EXCERPT_CHARS_MAX]
    return ""


def retry_after(text: str) -> float | None:
    """Return what a Retry-After field means in seconds, date or number; None if unclear."""
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - dates are rare, the import slow

    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)  # noqa: UP017 - known to older Pythons
    now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017 - known to older Pythons
    return max(0.0, (moment - now).total_seconds())


def _load(body: bytes) -> Any:
    try:
        return wire.load(body)
    except wire.Malformed:
        return None

"""The two dialects in which clients chat, and how each says an error and the events of a stream.

OpenAI's is what everybody speaks: errors are `{"error": {message, type, param, code}}`, events have
data alone, and a provider's events pass as they came. Loom's names its events (connected, chunk,
done, error), and its errors are `{"error": text, "code": …}`.
"""

from typing import Final, Protocol

import msgspec

from loomproxy.core.chat.complaint import Complaint

_TOO_MANY: Final = 429
_OF_THE_REQUEST: Final = range(400, 500)
# Not all else is 5xx: what ends a stream in its middle has no status of its own.


class Dialect(Protocol):
    """How the proxy speaks to the client of a chat."""

    @property
    def name(self) -> str:
        """As a route names it."""

    @property
    def names_provider(self) -> bool:
        """Whether requests say `provider_id` beside their model."""

    def error(self, complaint: Complaint, request_id: bytes) -> bytes:
        """The body of an answer that is an error."""

    def opening(self) -> bytes:
        """What a stream begins with, before the provider's first event."""

    def event(self, raw: bytes, data: bytes) -> bytes:
        """A provider's event that came as `raw` and says `data`."""

    def ending(self, raw: bytes) -> bytes:
        """The end of a complete stream, for which the provider said `raw`."""

    def failure(self, complaint: Complaint, request_id: bytes) -> bytes:
        """The last event of a stream that is not complete."""


class _OpenAi:
    name: Final = "openai"
    names_provider: Final = False

    def error(self, complaint: Complaint, request_id: bytes) -> bytes:
        if complaint.verbatim:
            return complaint.verbatim
        error = {
            "message": complaint.message,
            "type": _type_of(complaint),
            "param": complaint.param,
            "code": complaint.code,
            "request_id": request_id.decode("ascii"),
        }
        return msgspec.json.encode({"error": error})

    def opening(self) -> bytes:
        return b""

    def event(self, raw: bytes, _data: bytes) -> bytes:
        return raw

    def ending(self, raw: bytes) -> bytes:
        return raw

    def failure(self, complaint: Complaint, request_id: bytes) -> bytes:
        said = msgspec.structs.replace(complaint, verbatim=b"")
        return b"data: %b\n\n" % self.error(said, request_id)


def _type_of(complaint: Complaint) -> str:
    """OpenAI's `type`, which tells kinds of errors apart more coarsely than `code`."""
    if complaint.status == _TOO_MANY:
        exhausted = complaint.code == "quota_exceeded"
        return "insufficient_quota" if exhausted else "rate_limit_error"
    asked_wrongly = complaint.status in _OF_THE_REQUEST
    return "invalid_request_error" if asked_wrongly else "api_error"


class _Loom:
    name: Final = "loom"
    names_provider: Final = True

    def error(self, complaint: Complaint, request_id: bytes) -> bytes:
        return msgspec.json.encode(
            {
                "error": complaint.message,
                "code": complaint.code,
                "request_id": request_id.decode("ascii"),
            }
        )

    def opening(self) -> bytes:
        return _named(b"connected", b'{"message":"The provider answers."}')

    def event(self, _raw: bytes, data: bytes) -> bytes:
        return _named(b"chunk", data)

    def ending(self, _raw: bytes) -> bytes:
        return _named(b"done", b'{"message":"The answer is complete."}') + b"data: [DONE]\n\n"

    def failure(self, complaint: Complaint, request_id: bytes) -> bytes:
        return _named(b"error", self.error(complaint, request_id))


def _named(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data.replace(b"\n", b"\ndata: "))


OPENAI: Final[Dialect] = _OpenAi()
LOOM: Final[Dialect] = _Loom()
DIALECTS: Final = {dialect.name: dialect for dialect in (OPENAI, LOOM)}

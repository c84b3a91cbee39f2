"""What routing reads of a chat's request body, and the body that goes to the provider.

Of the body only the fields that routing owns are understood: `model`, `stream`, and `provider_id`
in Loom's dialect; `stream_options` where usage must be asked for. All others are carried over as
they came, in their order, numbers and spelling included. Where nothing has to change, the very
bytes go on, unless a field that routing reads could stand there twice: then a provider might read
the other one.
"""

from typing import Final, TypeVar

import msgspec

from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.dialect import Dialect

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_TRUE: Final = msgspec.Raw(b"true")
_FALSE: Final = msgspec.Raw(b"false")
_OWNED: Final = frozenset(("model", "stream", "provider_id", "stream_options"))
_OWNED_AS_WRITTEN: Final = tuple(b'"%b"' % name.encode() for name in sorted(_OWNED))
_Fields = dict[str, msgspec.Raw]
Value = TypeVar("Value")
_TEXT: Final = msgspec.json.Decoder(str | None)
_FLAG: Final = msgspec.json.Decoder(bool | None)
_OBJECT: Final = msgspec.json.Decoder(_Fields | None)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)


class Asked(msgspec.Struct, frozen=True):
    """A chat's request, as far as routing reads it."""

    body: bytes
    fields: dict[str, msgspec.Raw]
    model: str  # "": none, where the dialect allows that
    provider: str  # "": the model tells
    stream: bool
    stream_options: dict[str, msgspec.Raw]

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage of its stream."""
        said = self.stream_options.get("include_usage")
        return said is not None and bytes(said) == b"true"


class _Wrong(Exception):
    """The request is not what it has to be."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.complaint = complaints.of_fault(faults.CHAT_INVALID, message, param=param)


def read(body: bytes, dialect: Dialect, *, streams: bool) -> Asked | Complaint:
    """What `body` asks for, or what is wrong with it; `streams`: its path asks for a stream."""
    try:
        fields = msgspec.json.decode(body, type=_Fields)
    except _UNREADABLE as error:
        seen = str(error) or "it nests too deeply"
        message = f"The request body is not a JSON object: {seen}."
        return complaints.of_fault(faults.CHAT_INVALID, message)
    try:
        _need_spelling(fields)
        asked = Asked(
            body,
            fields,
            model=_text(fields, "model"),
            provider=_text(fields, "provider_id") if dialect.names_provider else "",
            stream=_flag(fields, "stream") or streams,
            stream_options=_options(fields),
        )
        if dialect.names_provider:
            _need(asked.provider, "provider_id", "the name of a provider")
            _need(_messages(fields), "messages", "a list of at least one message")
        else:
            _need(asked.model, "model", "the name of a model; GET /v1/models lists them")
    except _Wrong as wrong:
        return wrong.complaint
    return asked


def _need_spelling(fields: _Fields) -> None:
    """Refuse `Model` beside `model`: a provider in Go would read the other one.

    Its encoding/json takes names in any case, and as Unicode folds them.
    """
    for name in fields:
        if name not in _OWNED and name.casefold() in _OWNED:
            meant = name.casefold()
            raise _Wrong(meant, f"`{meant}` is spelt in lower case; `{name}` is no other field.")


def _need(there: object, name: str, what: str) -> None:
    if not there:
        raise _Wrong(name, f"`{name}` is missing or empty; it must be {what}.")


def _text(fields: _Fields, name: str) -> str:
    raw = fields.get(name)
    return "" if raw is None else _decoded(raw, name, _TEXT, "text") or ""


def _flag(fields: _Fields, name: str) -> bool:
    raw = fields.get(name)
    return raw is not None and bool(_decoded(raw, name, _FLAG, "true or false"))


def _options(fields: _Fields) -> _Fields:
    name = "stream_options"
    raw = fields.get(name)
    return {} if raw is None else _decoded(raw, name, _OBJECT, "an object") or {}


def _messages(fields: _Fields) -> list[msgspec.Raw]:
    raw = fields.get("messages")
    return [] if raw is None else _decoded(raw, "messages", _LIST, "a list") or []


def _decoded(
    raw: msgspec.Raw, name: str, decoder: "msgspec.json.Decoder[Value]", what: str
) -> Value:
    try:
        return decoder.decode(raw)
    except _UNREADABLE:
        raise _Wrong(name, f"`{name}` must be {what}.") from None


def for_provider(asked: Asked, model: str, *, stream: bool, with_usage: bool) -> bytes:
    """The body for the provider: `model` as it calls it, a stream or none, usage asked for or not.

    Without a stream no `stream_options` go, for some refuse them then.
    """
    fields = dict(asked.fields)
    if asked.model != model:
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if asked.provider:
        del fields["provider_id"]
    _set_stream(fields, stream=stream)
    if with_usage and stream and not asked.wants_usage:
        fields["stream_options"] = msgspec.Raw(
            msgspec.json.encode({**asked.stream_options, "include_usage": True})
        )
    if fields == asked.fields and _says_once(asked.body):
        return asked.body
    return msgspec.json.encode(fields)


def _set_stream(fields: _Fields, *, stream: bool) -> None:
    said = fields.get("stream")
    if stream:
        if said is None or bytes(said) != b"true":
            fields["stream"] = _TRUE
        return
    fields.pop("stream_options", None)
    if said is not None and bytes(said) == b"true":
        fields["stream"] = _FALSE


def _says_once(body: bytes) -> bool:
    """Whether no field that routing reads can stand in `body` twice, however it is spelt."""
    return b"\\u" not in body and all(body.count(name) <= 1 for name in _OWNED_AS_WRITTEN)

"""What is read of a completion on its way to the client: that it is one, and the tokens it took.

A whole answer must be a JSON object, and so must be the data of each event; beyond that, what a
provider says is its own affair and passes untouched. `usage` is read where it can be, and where a
provider tells none the tokens are estimated, four bytes to a token, and said to be.
"""

from typing import Final

import msgspec

EMPTY: Final = msgspec.Raw(b"")
BYTES_PER_TOKEN: Final = 4
"""Of English text in the tokenizers of today; only where nobody has counted."""

TOKENS_MAX: Final = 1_000_000_000
"""Of a prompt or an answer; who tells more has not counted. Sums of what providers tell must go
through logs and messages of 64 bits."""

ON_ONE_LINE: Final = -1  # as msgspec.json.format has it

_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_NOTHING: Final = (b"", b"null")
_NO_CHOICES: Final = (b"[]", *_NOTHING)
_BLANKS: Final = b" \t\r\n"


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one completion."""

    prompt_tokens: int
    completion_tokens: int


class Completion(msgspec.Struct, frozen=True):
    """What matters of a whole answer."""

    id: msgspec.Raw = EMPTY
    created: msgspec.Raw = EMPTY
    model: msgspec.Raw = EMPTY
    choices: msgspec.Raw = EMPTY
    usage: msgspec.Raw = EMPTY
    error: msgspec.Raw = EMPTY

    @property
    def is_error(self) -> bool:
        """Whether it says that something went wrong, and nothing of an answer."""
        return not self.choices and bytes(self.error) not in _NOTHING


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """What matters of the data of an event."""

    choices: msgspec.Raw = EMPTY
    usage: msgspec.Raw = EMPTY
    error: msgspec.Raw = EMPTY

    @property
    def has_error(self) -> bool:
        """Whether it says that something went wrong."""
        return bool(self.error) and bytes(self.error) not in _NOTHING

    @property
    def has_choices(self) -> bool:
        """Whether it says anything of an answer."""
        choices = bytes(self.choices)
        return choices[:2] == b"[{" or choices.translate(None, _BLANKS) not in _NO_CHOICES


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    message: dict[str, msgspec.Raw] = {}
    finish_reason: msgspec.Raw = msgspec.Raw(b"null")


def read(body: bytes | bytearray) -> Completion | None:
    """A whole answer, or None where it is no JSON object."""
    try:
        return msgspec.json.decode(body, type=Completion)
    except _UNREADABLE:
        return None


def read_chunk(data: bytes) -> Chunk | None:
    """The data of an event, or None where it is no JSON object."""
    try:
        return _CHUNK.decode(data)
    except _UNREADABLE:
        return None


_CHUNK: Final = msgspec.json.Decoder(Chunk)


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """The tokens that `usage` tells, or None."""
    if not raw:  # As in nearly all chunks; an exception costs more.
        return None
    try:
        usage = msgspec.json.decode(raw, type=Usage)
    except _UNREADABLE:
        return None
    told = (usage.prompt_tokens, usage.completion_tokens)
    return usage if all(0 <= tokens <= TOKENS_MAX for tokens in told) else None


def estimate(size: int) -> int:
    """About how many tokens `size` bytes of text are; at least one."""
    return max(1, size // BYTES_PER_TOKEN)


def as_chunk(whole: Completion) -> bytes | None:
    """A whole answer as the one chunk of a stream, usage included; None where it has no choices.

    In a stream tool calls have numbers (OpenAI API reference, chat.completion.chunk), and what is
    carried over as it came may be spread over lines, which would each be a line of the event.
    """
    try:
        choices = msgspec.json.decode(whole.choices, type=list[_Choice])
        chunk: dict[str, object] = {
            "id": _or_null(whole.id),
            "object": "chat.completion.chunk",
            "created": _or_null(whole.created),
            "model": _or_null(whole.model),
            "choices": [
                {
                    "index": choice.index,
                    "delta": _delta(choice.message),
                    "finish_reason": choice.finish_reason,
                }
                for choice in choices
            ],
        }
        if bytes(whole.usage) not in _NOTHING:
            chunk["usage"] = whole.usage
        return msgspec.json.format(msgspec.json.encode(chunk), indent=ON_ONE_LINE)
    except _UNREADABLE:
        return None


def _or_null(raw: msgspec.Raw) -> msgspec.Raw:
    return raw if bytes(raw) else msgspec.Raw(b"null")


def _delta(message: dict[str, msgspec.Raw]) -> dict[str, object]:
    calls = message.get("tool_calls")
    if calls is None or bytes(calls) in _NOTHING:
        return dict(message)
    numbered = [
        {"index": index, **call}
        for index, call in enumerate(msgspec.json.decode(calls, type=list[dict[str, msgspec.Raw]]))
    ]
    return {**message, "tool_calls": numbered}

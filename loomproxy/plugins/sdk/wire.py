"""HTTP/1.1 and JSON as bytes: heads, bodies, lines and events, for the server and the client.

It knows streams and bounds, no meaning: what a path is, or which plugin answers, is others' to say.
What breaks the grammar raises `Malformed`; what is larger than its bound, `TooLarge`.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HEAD_BYTES_MAX: Final = 65536
"""Of a request's or an answer's head; node and Go's defaults are 16 KiB and 1 MiB."""

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of a body that is read as a whole: a conversation with a few images in it."""

LINE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one line of a stream: one chunk with an image inside."""

_SIZE_LINE_BYTES_MAX: Final = 4096  # a chunk's size with its extensions, which nobody uses
_READ_BYTES: Final = 65536
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")


class Malformed(Exception):
    """Bytes that are no HTTP; its text says what was wrong with them."""


class TooLarge(Exception):
    """Something is larger than its bound; its text says what, and the bound."""


class Head(NamedTuple):
    """The head of a message: the three words of its first line, and its fields in lower case."""

    first: tuple[str, str, str]
    fields: dict[str, str]

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "transfer-encoding" in self.fields

    @property
    def length(self) -> int | None:
        """What Content-Length says; None when it is absent."""
        text = self.fields.get("content-length")
        return None if text is None else int(text)

    def asks(self, option: str) -> bool:
        """Whether the Connection field holds this option."""
        options = self.fields.get("connection", "").lower().split(",")
        return option in (word.strip() for word in options)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next head; None when the connection ended before its first byte."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Malformed("the connection ended within a head") from None
    except asyncio.LimitOverrunError:
        raise TooLarge(f"a head may have {HEAD_BYTES_MAX} bytes") from None
    if len(block) > HEAD_BYTES_MAX:
        raise TooLarge(f"a head may have {HEAD_BYTES_MAX} bytes")
    first, *lines = block[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2:  # noqa: PLR2004 - an answer's third word, a phrase, may be absent
        raise Malformed(f"the first line {first[:80]!r} is none")
    fields: dict[str, str] = {}
    for line in lines:
        _add_field(fields, line)
    _check_framing(fields)
    return Head((words[0], words[1], words[2] if words[2:] else ""), fields)


def _add_field(fields: dict[str, str], line: str) -> None:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or "\n" in value or "\r" in value or "\0" in value:
        raise Malformed(f"the line {line[:80]!r} is no field")
    key, value = name.lower(), value.strip(" \t")
    if key not in fields:
        fields[key] = value
    elif key != "content-length":
        fields[key] += f", {value}"
    elif fields[key] != value:
        raise Malformed("two Content-Length fields disagree")


def _check_framing(fields: dict[str, str]) -> None:
    """Refuse what two readers could understand differently."""
    coding = fields.get("transfer-encoding")
    length = fields.get("content-length")
    if coding is not None and length is not None:
        raise Malformed("Transfer-Encoding and Content-Length stand side by side")
    if coding is not None and coding.lower() != "chunked":
        raise Malformed(f"Transfer-Encoding is {coding[:40]!r}, only chunked is understood")
    if length is not None and not _DIGITS.fullmatch(length):
        raise Malformed(f"Content-Length is {length[:40]!r}, which is no number")


async def read_pieces(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Without a length and chunks it lasts until the connection ends.

    A request has a body only with one of these: the caller asks before. Raises Malformed when the
    connection ends too soon.
    """
    if head.chunked:
        async for piece in _chunks(reader):
            yield piece
        return
    rest = head.length
    while rest is None or rest > 0:
        piece = await reader.read(_READ_BYTES if rest is None else min(rest, _READ_BYTES))
        if not piece:
            if rest is None:
                return
            raise Malformed(f"the connection ended {rest} bytes before the end of a body")
        if rest is not None:
            rest -= len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := await _chunk_size(reader):
        while size:
            piece = await reader.read(min(size, _READ_BYTES))
            if not piece:
                raise Malformed("the connection ended within a chunk")
            size -= len(piece)
            yield piece
        if await _line(reader):
            raise Malformed("a chunk is longer than its size says")
    trailer_bytes = 0
    while line := await _line(reader):
        trailer_bytes += len(line)
        if trailer_bytes > HEAD_BYTES_MAX:
            raise TooLarge(f"a trailer may have {HEAD_BYTES_MAX} bytes")


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = await _line(reader)
    digits = line.partition(b";")[0].strip(b" \t")
    if not _HEX.fullmatch(digits):
        raise Malformed(f"{line[:40]!r} is no size of a chunk")
    return int(digits, 16)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line of a chunked body without its end."""
    try:
        line = await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError:
        raise Malformed("the connection ended within a chunked body") from None
    except asyncio.LimitOverrunError:
        raise Malformed("a line of a chunked body never ends") from None
    if len(line) > _SIZE_LINE_BYTES_MAX:
        raise Malformed(f"a line of a chunked body has more than {_SIZE_LINE_BYTES_MAX} bytes")
    return line[:-2]


async def read_exactly(reader: asyncio.StreamReader, length: int) -> bytes:
    """Return a body of a known length, when it is short."""
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        missing = length - len(error.partial)
        raise Malformed(f"the connection ended {missing} bytes before the end of a body") from None


async def next_piece(pieces: AsyncIterator[bytes]) -> bytes:
    """Return the next piece of a body, or nothing at its end."""
    try:
        return await pieces.__anext__()
    except StopAsyncIteration:
        return b""


async def read_whole(pieces: AsyncIterator[bytes], bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return a whole body; TooLarge beyond `bytes_max`."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > bytes_max:
            raise TooLarge(f"a body may have {bytes_max} bytes")
    return bytes(body)


class Lines:
    """Finds lines in bytes that come in pieces; each ends with LF, CR, or CR and LF."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the lines that are whole now. What is not UTF-8 becomes U+FFFD."""
        if not piece:
            return
        if self._after_cr:  # Its line was yielded at the CR; an LF still belongs to it.
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        # Only what is new is searched: a long line may come in very many pieces.
        cut = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        whole = bytes(self._rest + piece[:cut]) if cut else b""
        if cut:
            self._rest = bytearray(piece[cut:])
        else:
            self._rest += piece
        self._after_cr = piece.endswith(b"\r")
        if len(self._rest) > LINE_BYTES_MAX:
            raise TooLarge(f"a line may have {LINE_BYTES_MAX} bytes")
        for line in whole.splitlines():
            yield line.decode("utf-8", "replace")

    def end(self) -> str:
        """Return what came after the last line's end."""
        return bytes(self._rest).decode("utf-8", "replace")


class Event(NamedTuple):
    """One server-sent event."""

    name: str  # "message" when the stream does not say
    data: str


class Events:
    """Finds server-sent events in lines. Comments, `id` and `retry` are passed over."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._first = True

    def feed(self, line: str) -> Event | None:
        """Return the event that this line ends, if it ends one."""
        if self._first:
            line = line.removeprefix("\ufeff")
            self._first = False
        if not line:
            event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        return None


def dump(value: object) -> bytes:
    """Return JSON without spaces. Halves of surrogate pairs are escaped, for UTF-8 has none."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def load(body: bytes | str) -> Any:
    """Return what JSON says; Malformed when it is none, NaN and too deep nesting included."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"is no JSON: {error}") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")

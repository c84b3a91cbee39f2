"""Where a message body ends: by chunks, or by the sender's close. By length, the wire counts.

A *body* is fed the connection's bytes and a position in them, and answers with a `Taken`: the
payload found, the position behind it, and whether that was all. It keeps no bytes of its own. A
`Refusal` comes only when nothing else could be taken, so that whatever the network's cuts were, the
same payload precedes it.

Chunked payload that arrived together is handed on together: the chunks of a peer are its own affair
and end here (RFC 9112 §7.1 makes transfer codings hop-by-hop). Extensions are read, bounded and
dropped.
"""

import re
from typing import Final, Protocol

import msgspec

from loomproxy.core.fault import Fault
from loomproxy.core.http1.limits import (
    CHUNK_EXTENSION_EXCESS_BYTES_MAX,
    CHUNK_LINE_BYTES_MAX,
    CHUNK_SIZE_DIGITS_MAX,
    Limits,
    Refusal,
)
from loomproxy.core.message import (
    CHUNKED,
    CLOSE,
    LENGTH,
    NONE,
    SWITCHING_PROTOCOLS,
    TUNNEL,
    Framing,
)

STATUS_FINAL_MIN: Final = 200

TOO_LARGE: Final = "the body is larger than body_bytes_max"

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a chunked body that has no trailers."""


def chunk(data: bytes) -> bytes:
    """Encode one chunk. `data` must not be empty: an empty chunk would end the body."""
    assert data
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: bytes) -> bytes:
    """Encode the end of a chunked body; `trailers` is a canonical block or empty."""
    return b"0\r\n%b\r\n" % trailers


def response_framing(status: int, method: bytes, length: int | None, *, chunked: bool) -> Framing:
    """How the body of a response to `method` is framed (RFC 9112 §6.3, in its order)."""
    if status == SWITCHING_PROTOCOLS:
        return TUNNEL
    if status < STATUS_FINAL_MIN or status in (204, 304) or method == b"HEAD":
        return NONE
    if chunked:
        return CHUNKED
    if length is None:
        return CLOSE
    return LENGTH if length else NONE


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Payload that a body found."""

    data: bytes
    at: int  # the first byte that was not used
    ended: bool  # the body is over
    trailers: bytes = b""  # canonical block, only with `ended`


class Body(Protocol):
    """A body being read."""

    def take(self, data: bytes, at: int) -> Taken | Refusal | None:
        """Read on from `data[at:]`. None: nothing can be said without more bytes."""

    def take_eof(self) -> bool:
        """Whether the sender's close is a proper end of this body."""


class CloseBody:
    """A body that ends when its sender closes; of responses only."""

    __slots__ = ("_fault", "_room")

    def __init__(self, bytes_max: int, fault: Fault) -> None:
        self._room = bytes_max
        self._fault = fault

    def take(self, data: bytes, at: int) -> Taken | Refusal | None:
        """All that is there."""
        have = len(data) - at
        if not have:
            return None
        if not self._room:
            return Refusal(self._fault, TOO_LARGE)
        used = min(have, self._room)
        self._room -= used
        return Taken(data[at : at + used] if used < len(data) else data, at + used, ended=False)

    def take_eof(self) -> bool:
        """RFC 9112 §6.3: the close is the end."""
        return True


# RFC 9112 §7.1, without the "bad whitespace" of §7.1.1: nobody sends it, and recipients disagree
# about it.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d}+)((?:;%b(?:=(?:%b|%b))?)*)"
    % (CHUNK_SIZE_DIGITS_MAX, _TOKEN, _TOKEN, _QUOTED)
)
# `0` alone would end the body, and is left to the rest.
_PLAIN_CHUNK_LINE: Final = re.compile(
    rb"([1-9A-Fa-f][0-9A-Fa-f]{0,%d}+)\r\n" % (CHUNK_SIZE_DIGITS_MAX - 1)
)
_VALUE: Final = rb"(?:[!-~\x80-\xff]++(?:[ \t]++(?=[!-~\x80-\xff]))?)*"
_FIELD_LINE: Final = re.compile(rb"(%b):[ \t]*+(%b)[ \t]*+\r\n" % (_TOKEN, _VALUE))
_CHUNK_EXTENSION_FREE_BYTES: Final = 16  # of extension, that any chunk may have


class _Broken(Exception):
    """The chunked framing cannot be followed any further."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(fault, detail)


class ChunkedBody:
    """A body in chunks (RFC 9112 §7.1).

    Between calls it stands before a chunk-size line, inside payload (`_missing` > 0), before the
    CRLF that ends a chunk, or before the trailer section. A piece that is not whole yet is left
    unread, so each piece is bounded by what `take` accepts to wait for.
    """

    __slots__ = (
        "_excess",
        "_fault",
        "_in_trailers",
        "_limits",
        "_missing",
        "_room",
        "_searched",
        "_too_large",
    )

    def __init__(self, limits: Limits, *, malformed: Fault, too_large: Fault) -> None:
        self._limits = limits
        self._fault = malformed
        self._too_large = too_large
        self._room = limits.body_bytes_max
        self._missing = (
            0  # payload bytes of the present chunk, and -1 when only its CRLF is to come
        )
        self._excess = 0
        self._in_trailers = False
        self._searched = 0  # bytes of the trailer section, which does not end among them

    def take(self, data: bytes, at: int) -> Taken | Refusal | None:
        """The payload of every chunk, or part of one, that is there."""
        if not (self._missing or self._in_trailers):
            # Most reads of a stream bring one chunk, whole and without extensions.
            plain = _PLAIN_CHUNK_LINE.match(data, at)
            if plain is not None:
                begin = plain.end()
                end = len(data) - 2
                size = end - begin
                if int(plain[1], 16) == size <= self._room and data.endswith(b"\r\n"):
                    self._room -= size
                    return Taken(data[begin:end], end + 2, False)  # noqa: FBT003 - as often as this
        return self._take(data, at)

    def _take(self, data: bytes, at: int) -> Taken | Refusal | None:
        """The payload of whatever pieces of chunks are there."""
        pieces: list[bytes] = []
        began = at
        try:
            while not self._in_trailers:
                after = self._step(data, at, pieces)
                if after == at:
                    break
                at = after
            trailers = self._trailers(data, at) if self._in_trailers else None
        except _Broken as broken:
            return Taken(b"".join(pieces), at, ended=False) if pieces else broken.refusal
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if trailers is not None:
            return Taken(payload, trailers[1], ended=True, trailers=trailers[0])
        # Framing alone is progress too: it must not be read twice.
        return Taken(payload, at, ended=False) if at > began else None

    def take_eof(self) -> bool:
        """RFC 9112 §8: without the zero-sized chunk the message is incomplete."""
        return False

    def _step(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Read one piece of framing or payload; return the position behind it, or `at`."""
        if self._missing > 0:
            used = data[at : at + self._missing]
            if used:
                pieces.append(used)
                self._missing = self._missing - len(used) or -1
            return at + len(used)
        if self._missing:
            return self._chunk_end(data, at)
        return self._chunk_line(data, at)

    def _chunk_end(self, data: bytes, at: int) -> int:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._missing = 0
            return at + 2
        if b"\r\n".startswith(end):
            return at
        raise _Broken(self._fault, f"chunk data is followed by {end!r}, not by CRLF")

    def _chunk_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + CHUNK_LINE_BYTES_MAX + 2)
        if end < 0:
            if len(data) - at >= CHUNK_LINE_BYTES_MAX + 2:
                raise _Broken(
                    self._fault, f"a chunk-size line is over {CHUNK_LINE_BYTES_MAX} bytes"
                )
            if data.find(b"\n", at) >= 0:
                raise _Broken(self._fault, "a chunk-size line ends in a bare LF")
            return at
        match = _CHUNK_LINE.fullmatch(data, at, end)
        if match is None:
            raise _Broken(self._fault, f"{data[at:end][:40]!r} is not a chunk size")
        size = int(match[1], 16)
        if size > self._room:
            raise _Broken(self._too_large, TOO_LARGE)
        extension_bytes = len(match[2])
        if extension_bytes:
            spare = _CHUNK_EXTENSION_FREE_BYTES + 2 * size
            self._excess = max(0, self._excess + extension_bytes - spare)
            if self._excess > CHUNK_EXTENSION_EXCESS_BYTES_MAX:
                raise _Broken(self._fault, "the body has more chunk extensions than payload")
        self._room -= size
        self._missing = size
        self._in_trailers = not size
        return end + 2

    def _trailers(self, data: bytes, at: int) -> tuple[bytes, int] | None:
        """The trailer section, canonical, and the position behind it; None while incomplete."""
        if data.startswith(b"\r\n", at):
            return b"", at + 2
        end = data.find(b"\r\n\r\n", at + self._searched, at + self._limits.head_bytes_max)
        if end < 0:
            self._searched = max(0, len(data) - at - 3)
            if len(data) - at >= self._limits.head_bytes_max:
                raise _Broken(self._fault, "the trailer section is larger than head_bytes_max")
            return None
        block = canonical_block(data[at : end + 2])
        if block is None:
            raise _Broken(self._fault, "the trailer section is malformed")
        if block.count(b"\r\n") > self._limits.fields_max:
            raise _Broken(self._fault, "there are more trailer fields than fields_max")
        return block, end + 4


def canonical_block(lines: bytes) -> bytes | None:
    """Field lines without surplus whitespace, or None when one of them is not a field line."""
    out: list[bytes] = []
    at = 0
    while at < len(lines):
        match = _FIELD_LINE.match(lines, at)
        if match is None:
            return None
        out.append(field_line(match[1], match[2]))
        at = match.end()
    return b"".join(out)


def field_line(name: bytes, value: bytes) -> bytes:
    """One canonical field line."""
    return b"%b: %b\r\n" % (name, value) if value else b"%b:\r\n" % name

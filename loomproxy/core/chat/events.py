r"""The events of an event stream, found in bytes however the network cut them.

An event ends with an empty line; lines end with LF, CRLF or CR. What is found is the event as it
came, to be passed on, and its data, to be understood: the `data` lines without their name, joined
by LF (WHATWG HTML §9.2.6). A block without data is a comment or a bare field, and passes as well.

A CR at the end of what has come may be half of a CRLF, so it is not taken for a line's end before
more came or the stream ended: the events found are the same, whatever the cuts.
"""

import re
from typing import Final

import msgspec

EVENT_BYTES_MAX: Final = 1 << 20
"""Of one event. A chunk of a completion has some hundred bytes; Loom's reader stopped here, too."""

# It begins with what the search may skip to, so that text is passed over at once.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?>\r\n|\n|\r(?!\n|\Z))")
_END_BYTES_MAX: Final = 4
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    raw: bytes  # as it came, the empty line included
    data: bytes | None  # None: it has none, so it says nothing


class Events:
    """The events of one stream. `over`: one was too large, and nothing is found any more."""

    __slots__ = ("_held", "_seen", "over")

    def __init__(self) -> None:
        self._held = bytearray()
        self._seen = 0  # so much of it holds no end
        self.over = False

    def feed(self, data: bytes, *, ended: bool) -> list[Event]:
        """The events that are whole with `data`; with `ended` also one that only lacks its end."""
        if self.over:
            return []
        held = self._held
        common = None if held or len(data) > EVENT_BYTES_MAX else _common(data)
        return self._feed(held, data, ended=ended) if common is None else [common]

    def _feed(self, held: bytearray, data: bytes, *, ended: bool) -> list[Event]:
        held += data
        found: list[Event] = []
        begin = 0
        while True:
            end = _END.search(held, max(begin, self._seen))
            if end is None:
                break
            if end.end() - begin > EVENT_BYTES_MAX:
                self.over = True
                break
            found.append(_event(bytes(held[begin : end.end()])))
            begin = self._seen = end.end()
        del held[:begin]
        # The first bytes of an end may have come.
        self._seen = max(0, len(held) - _END_BYTES_MAX)
        if self.over or len(held) > EVENT_BYTES_MAX:
            self.over = True
            self._forget()
        elif ended:
            last = bytes(held).rstrip(b"\r\n")
            self._forget()
            if last:
                found.append(_event(last + b"\n\n"))
        return found

    def _forget(self) -> None:
        self._held.clear()
        self._seen = 0


def _common(raw: bytes) -> Event | None:
    """What nearly always comes: one event, whole, of one line of data; None: something else."""
    one_line = raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw
    if one_line and raw.startswith(b"data: ") and raw.endswith(b"\n\n"):
        return Event(raw, raw[len(b"data: ") : -len(b"\n\n")])
    return None


def _event(raw: bytes) -> Event:
    common = _common(raw)
    if common is not None:
        return common
    if b"data" not in raw:
        return Event(raw, None)
    lines = _LINE.split(raw.removeprefix(b"\xef\xbb\xbf"))
    said = [_value(line) for line in lines if line == b"data" or line.startswith(b"data:")]
    return Event(raw, b"\n".join(said) if said else None)


def _value(line: bytes) -> bytes:
    return line[len(b"data:") :].removeprefix(b" ")

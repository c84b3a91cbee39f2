"""One event stream as a client gets it: bytes in, events counted, nothing else believed.

A proxy may frame anew (RFC 9112 §7.1): merge chunks, cut them, spell sizes otherwise. What must be
the same is the body: all events, in order, nothing between them, and an end. In the common case,
one chunk as the upstream framed it, that is one comparison; everything else is decoded with care.
"""

from loadtest import speech

HEAD_BYTES_MAX = 16_384
SIZE_LINE_BYTES_MAX = 1024  # Of a chunk, with its extensions.
STATUS_LINE = b"HTTP/1.1 200 "
CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


class Stream:
    """What has come of one response: `seen` events, perhaps its end, perhaps a `problem`."""

    __slots__ = ("body", "ended", "head_read", "pending", "problem", "seen")

    def __init__(self) -> None:
        """Expect a response head."""
        self.head_read = False
        self.pending = bytearray()
        self.body = bytearray()  # Of an event that has not come whole.
        self.seen = 0
        self.ended = False
        self.problem = ""

    def feed(self, received: bytes) -> None:
        """Take what has come; after a problem nothing counts any more."""
        if not self.pending and not self.body and received == speech.chunk(self.seen):
            self.seen += 1  # No head is equal to a chunk.
            return
        self.pending += received
        while not self.problem and self._read_piece():
            pass
        if not self.problem and self.ended and self.pending:
            self.problem = f"after the end: {bytes(self.pending[:100])!r}"

    def _read_piece(self) -> bool:
        """Take one head or chunk from what is pending; tell whether there was a whole one."""
        if self.ended:
            return False
        return self._read_chunk() if self.head_read else self._read_head()

    def _read_head(self) -> bool:
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            if len(self.pending) > HEAD_BYTES_MAX:
                self.problem = "no end of the head"
            return False
        head = bytes(self.pending[: end + 2])
        if not head.startswith(STATUS_LINE) or CHUNKED not in head.lower():
            self.problem = f"no chunked 200: {head[:200]!r}"
            return False
        del self.pending[: end + 4]
        self.head_read = True
        return True

    def _read_chunk(self) -> bool:
        line_end = self.pending.find(b"\r\n")
        if line_end < 0:
            if len(self.pending) > SIZE_LINE_BYTES_MAX:
                self.problem = "no end of a chunk size"
            return False
        size = self._size_of(bytes(self.pending[:line_end]))
        begin = line_end + 2
        end = begin + size
        if self.problem or len(self.pending) < end + 2:
            return False
        if self.pending[end : end + 2] != b"\r\n":
            self.problem = f"a chunk's end: {bytes(self.pending[end : end + 2])!r}"
            return False
        self.body += self.pending[begin:end]
        del self.pending[: end + 2]
        self.ended = size == 0
        self._count_events()
        return True

    def _size_of(self, line: bytes) -> int:
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            self.problem = f"no chunk size: {line[:100]!r}"
            return 0

    def _count_events(self) -> None:
        while len(self.body) >= speech.EVENT_BYTES:
            if self.body[: speech.EVENT_BYTES] != speech.event(self.seen):
                self.problem = f"instead of event {self.seen}: {bytes(self.body[:100])!r}"
                return
            del self.body[: speech.EVENT_BYTES]
            self.seen += 1
        if self.ended and self.body:
            self.problem = f"half an event at the end: {bytes(self.body)!r}"

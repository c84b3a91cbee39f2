"""The codec of one connection: bytes come in, heads and parts come out, in order.

    HEAD ──head without body──► OVER ──next_message / expect──► HEAD
     │ └──head with body──► BODY ──last part──► OVER
     │                        └──refusal──► SHUT
     ├──101──► TUNNEL ──take_rest──► SHUT
     └──refusal, end of input──► SHUT

Use: `receive` what the socket gave (b"" for its end), then `poll` until it returns None. However
the network cut the bytes, the same heads, the same payload and the same refusal come out. A wire
never reads past a message before it is told to (`next_message`, `expect`), so what a client
pipelines waits in `buffered`, and its owner pauses reading when that grows.
"""

import enum
from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core.fault import Fault
from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.framing import STATUS_FINAL_MIN, Body, ChunkedBody, CloseBody, Taken
from loomproxy.core.http1.limits import LEADING_EMPTY_LINES_MAX, MEMO_BYTES_MAX, Limits, Refusal
from loomproxy.core.message import (
    CHUNKED,
    CLOSE,
    NONE,
    SWITCHING_PROTOCOLS,
    Framing,
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)

__all__ = ["Limits", "Refusal", "RequestWire", "ResponseWire"]

_HEAD_END: Final = b"\r\n\r\n"
_CR: Final = 13

USED_BYTES_MAX: Final = 16 * 1024
"""What was read and still lies before what was not: one byte must not keep a whole read alive."""


class _State(enum.Enum):
    HEAD = "head"
    BODY = "body"
    OVER = "over"
    TUNNEL = "tunnel"
    SHUT = "shut"


# Bound once: reading a member through its class costs as much as a call.
_HEAD: Final = _State.HEAD
_BODY: Final = _State.BODY
_OVER: Final = _State.OVER
_TUNNEL: Final = _State.TUNNEL
_SHUT: Final = _State.SHUT


class _Wire:
    """What both roles share: the bytes held, and how far they were read."""

    __slots__ = ("_at", "_body", "_data", "_ended", "_limits", "_missing", "_searched", "_state")

    def __init__(self, limits: Limits, state: _State) -> None:
        self._limits = limits
        self._state = state
        self._data = b""
        self._at = 0  # the first byte not read yet
        self._searched = 0  # no head ends before here
        self._missing = 0  # bytes of a body that is framed by its length
        self._body: Body | None = None  # a body that is framed otherwise
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Take what the peer sent next; b"" says that it will send no more."""
        if not data:
            self._ended = True
        elif self._state is _SHUT:
            pass  # nobody will read it
        elif not self._data:
            self._data = data
        else:
            self._data = self._data[self._at :] + data
            self._searched = max(0, self._searched - self._at)
            self._at = 0

    @property
    def buffered(self) -> int:
        """Bytes held that were not returned yet."""
        return len(self._data) - self._at

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing to say until more comes: no bytes, and no end."""
        return not (self._data or self._ended)

    @property
    def ended(self) -> bool:
        """Whether the peer has said that it will send no more."""
        return self._ended

    def take_rest(self) -> bytes:
        """Everything held and not returned; the wire reads nothing after this."""
        rest = self._data[self._at :]
        self._shut()
        return rest

    def _shut(self) -> None:
        self._state = _SHUT
        self._data = b""
        self._at = self._searched = self._missing = 0
        self._body = None

    def _refuse(self, fault: Fault, detail: str) -> Refusal:
        self._shut()
        return Refusal(fault, detail)

    def _next_raw(self) -> bytes | None:
        """A whole head with its blank line, now used up; None while it is incomplete."""
        data = self._data
        at = self._at
        found = data.find(_HEAD_END, max(at, self._searched))
        if found < 0 or found + 4 - at > self._limits.head_bytes_max:
            return None
        end = found + 4
        self._go_on_at(end)
        return data if end == len(data) and not at else data[at:end]

    def _go_on_at(self, at: int) -> None:
        """All before `at` has been read."""
        if at == len(self._data):
            self._data = b""
            self._at = self._searched = 0
        elif at > USED_BYTES_MAX:
            self._data = self._data[at:]
            self._at = self._searched = 0
        else:
            self._at = self._searched = at

    def _why_hopeless(self) -> tuple[str, bool]:
        """Why the incomplete head can never be accepted ("" if it can); whether for its size."""
        bytes_max = self._limits.head_bytes_max
        why = slow.hopeless(self._data, self._at, self._searched, self._at + bytes_max)
        if why:
            return why, False
        if self.buffered > bytes_max:
            return f"the head is larger than {bytes_max} bytes", True
        self._searched = max(self._at, len(self._data) - len(_HEAD_END) + 1)
        return "", False

    def _take_missing(self) -> tuple[bytes, bool] | None:
        """What is there of a body of known length, and whether that was all."""
        data, at, missing = self._data, self._at, self._missing
        have = len(data) - at
        if have <= 0:
            return None
        end = at + min(have, missing)
        self._go_on_at(end)
        payload = data if end == len(data) and not at else data[at:end]
        self._missing = missing = missing - len(payload)
        if not missing:
            self._state = _OVER
        return payload, not missing

    def _take(self) -> Taken | Refusal | None:
        """What a body that is framed otherwise gives next."""
        assert self._body is not None
        taken = self._body.take(self._data, self._at)
        if not isinstance(taken, Taken):
            if taken is not None:
                self._shut()
            return taken
        self._go_on_at(taken.at)
        if taken.ended:
            self._body = None
            self._state = _OVER
        elif not taken.data:
            return None
        return taken


class RequestWire(_Wire):
    """What a client sends us."""

    __slots__ = ("_empty_lines", "_known_head", "_known_raw")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, _HEAD)
        self._empty_lines = 0
        self._known_raw = b""  # the last head, as it came
        self._known_head: RequestHead | None = None

    @property
    def idle(self) -> bool:
        """Whether no request has begun: we are between messages and hold nothing."""
        return self._state is _HEAD and not self.buffered

    @property
    def over(self) -> bool:
        """Whether the request was read to its end: what is held is of later ones."""
        return self._state is _OVER

    def next_message(self) -> None:
        """The exchange is over: read the next head. The request must have been read to its end."""
        assert self._state in (_OVER, _SHUT), self._state
        if self._state is _OVER:
            self._state = _HEAD
            self._empty_lines = 0

    def poll(self) -> RequestHead | RequestPart | Refusal | None:
        """What comes next; None: more bytes or `next_message` are needed. A refusal comes once."""
        state, data = self._state, self._data
        if state is _HEAD:
            if data == self._known_raw and not self._at and data:
                # Most clients ask for the next thing as for the last one, one at a time.
                self._go_on_at(len(data))
                return self._begun(self._known_head)
            return self._poll_head() if len(data) > self._at else None
        return self._poll_part() if state is _BODY else None

    def _poll_head(self) -> RequestHead | Refusal | None:
        if self._data[self._at] == _CR:
            why = self._skip_empty_lines()
            if why:
                return self._refuse(faults.REQUEST_MALFORMED, why)
        read = self._known_head
        if read is not None and self._data.startswith(self._known_raw, self._at):
            self._go_on_at(self._at + len(self._known_raw))
        else:
            raw = self._next_raw()
            if raw is None:
                return self._incomplete()
            answer = self._read(raw)
            if isinstance(answer, Refusal):
                self._shut()
                return answer
            read = answer
        return self._begun(read)

    def _begun(self, head: RequestHead | None) -> RequestHead:
        """A head was read; its body begins, if it has one."""
        assert head is not None, "a head that came again was never read"
        if head.framing is NONE:
            self._state = _OVER
            return head
        self._state = _BODY
        self._missing = head.body_bytes
        if head.framing is CHUNKED:
            self._body = ChunkedBody(
                self._limits, malformed=faults.REQUEST_MALFORMED, too_large=faults.BODY_TOO_LARGE
            )
        return head

    def _read(self, raw: bytes) -> RequestHead | Refusal:
        """Read a head that differs from the last one."""
        head = lane.request(raw, self._limits, self._known_head)
        if head is None:
            return slow.request(raw, self._limits)
        if len(raw) <= MEMO_BYTES_MAX:
            self._known_raw = raw
            self._known_head = head
        return head

    def _skip_empty_lines(self) -> str:
        """Skip empty lines before a request line; say what is wrong with them, or ""."""
        while self._data.startswith(b"\r\n", self._at):
            self._at += 2
            self._empty_lines += 1
            if self._empty_lines > LEADING_EMPTY_LINES_MAX:
                return f"more than {LEADING_EMPTY_LINES_MAX} empty lines came before a request"
        if self.buffered > 1 and self._data[self._at] == _CR:
            return "a CR before the request is not followed by LF"
        return ""

    def _incomplete(self) -> Refusal | None:
        if not self.buffered:
            return None
        if self._data[self._at] != _CR:  # a lone CR may become an empty line
            why, large = self._why_hopeless()
            if large:
                line_end = self._data.find(
                    b"\r\n", self._at, self._at + self._limits.head_bytes_max
                )
                return self._refuse(
                    faults.HEAD_TOO_LARGE if line_end >= 0 else faults.TARGET_TOO_LONG, why
                )
            if why:
                return self._refuse(faults.REQUEST_MALFORMED, why)
        if self._ended:
            return self._refuse(faults.CLIENT_LEFT, "the client closed within a request head")
        return None

    def _poll_part(self) -> RequestPart | Refusal | None:
        if self._missing:
            found = self._take_missing()
            if found is not None:
                return RequestPart(*found)
        else:
            taken = self._take()
            if type(taken) is Taken:
                return RequestPart(taken.data, taken.ended, taken.trailers)
            if type(taken) is Refusal:
                return taken
        if self._ended:
            return self._refuse(faults.CLIENT_LEFT, "the client closed within a request body")
        return None


class ResponseWire(_Wire):
    """What an upstream sends us. It rests until `expect` says what the next response answers."""

    __slots__ = ("_answered", "_broken", "_known_head", "_known_raw", "_method")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, _OVER)
        self._method = b""
        self._known_raw = b""  # the last head that the lane read, as it came
        self._known_head: ResponseHead | None = None
        self._answered = False  # some byte came since `expect`
        self._broken = False

    @property
    def clean(self) -> bool:
        """Whether the response is over and nothing followed: another exchange may follow."""
        return self._state is _OVER and not self._data and not self._ended

    def break_off(self) -> None:
        """The connection broke. Nothing more comes, and no body ends by that: it was cut."""
        self._broken = True
        self.receive(b"")

    def expect(self, method: bytes) -> None:
        """A request with this method was sent; the next final response answers it."""
        assert self._state is _OVER, self._state
        # Whatever is held was sent before the request: it cannot be its answer.
        assert not self._data
        if method != self._method:
            self._method = method
            self._known_head = None  # How a response is framed depends on its method.
        self._answered = False
        self._state = _HEAD

    def poll(self) -> ResponseHead | ResponsePart | Response | Refusal | None:
        """What comes next; None when more bytes or `expect` are needed. A refusal comes once.

        A response whose body has arrived with its head comes as one thing.
        """
        state = self._state
        if state is _HEAD:
            return self._poll_head()
        return self._poll_part() if state is _BODY else None

    def _poll_head(self) -> ResponseHead | Response | Refusal | None:
        read = self._known_head
        if read is not None and self._data.startswith(self._known_raw, self._at):
            self._go_on_at(self._at + len(self._known_raw))
        else:
            raw = self._next_raw() if self._data else None
            if raw is None:
                return self._incomplete()
            answer = self._read(raw)
            if isinstance(answer, Refusal):
                self._shut()
                return answer
            read = answer
        self._answered = True
        if read.status >= STATUS_FINAL_MIN:
            begin, end = self._at, self._at + read.body_bytes
            if begin < end <= len(self._data):
                body = self._data[begin:end]
                self._go_on_at(end)
                self._state = _OVER
                return Response(read, body)
            self._begin(read.framing, read.body_bytes)
        elif read.status == SWITCHING_PROTOCOLS:
            self._state = _TUNNEL
        return read

    def _read(self, raw: bytes) -> ResponseHead | Refusal:
        """Read a head that differs from the last one."""
        head = lane.response(raw, self._method, self._limits)
        if head is None:
            return slow.response(raw, self._method, self._limits)
        if len(raw) <= MEMO_BYTES_MAX and head.status >= STATUS_FINAL_MIN:
            self._known_raw = raw
            self._known_head = head
        return head

    def _begin(self, framing: Framing, body_bytes: int) -> None:
        """The body of a final response begins."""
        if framing is NONE:
            self._state = _OVER
            return
        self._state = _BODY
        self._missing = body_bytes
        if framing is CHUNKED:
            self._body = ChunkedBody(
                self._limits, malformed=faults.UPSTREAM_CUT, too_large=faults.UPSTREAM_CUT
            )
        elif framing is CLOSE:
            self._body = CloseBody(self._limits.body_bytes_max, faults.UPSTREAM_CUT)

    def _incomplete(self) -> Refusal | None:
        if self.buffered:
            self._answered = True
            why = slow.no_answer(self._data, self._at) or self._why_hopeless()[0]
            if why:
                return self._refuse(faults.UPSTREAM_MALFORMED, why)
        if not self._ended:
            return None
        if self._answered:
            # Some of the answer came, so the upstream has worked on the request: no other attempt
            # is safe.
            return self._refuse(
                faults.UPSTREAM_MALFORMED,
                "the upstream closed before its response head was complete",
            )
        return self._refuse(faults.UPSTREAM_CLOSED, "the upstream closed before it answered")

    def _poll_part(self) -> ResponsePart | Refusal | None:
        body = self._body
        if body is None:
            found = self._take_missing()
            if found is not None:
                return ResponsePart(*found)
        else:
            taken = self._take()
            if type(taken) is Taken:
                return ResponsePart(taken.data, taken.ended, taken.trailers)
            if type(taken) is Refusal:
                return taken
        if not self._ended:
            return None
        if self._broken or body is None or not body.take_eof():
            return self._refuse(faults.UPSTREAM_CUT, "the upstream closed within its response body")
        self._body = None
        self._state = _OVER
        return ResponsePart(b"", ended=True)

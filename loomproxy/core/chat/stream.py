"""A stream on its way from a provider to a client: what goes on of it, and how it ended.

An event goes on as soon as it is whole. A stream is complete when it has said `[DONE]`; one that
ends before is truncated, one whose event is no JSON object is malformed, and one with an event
`{"error": …}` has failed: none of these is ever taken for complete. What comes after the end, of
whichever kind, is not looked at.
"""

from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat import completion
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.completion import Usage
from loomproxy.core.chat.dialect import Dialect
from loomproxy.core.chat.events import Event, Events

DONE: Final = b"[DONE]"
"""The data of the event that ends a stream."""


class Stream:
    """One stream; with `strips_usage` a chunk of usage alone, as only we asked for, stays here."""

    __slots__ = (
        "_began",
        "_dialect",
        "_events",
        "_strips_usage",
        "chunks",
        "complaint",
        "done",
        "usage",
    )

    def __init__(self, dialect: Dialect, *, strips_usage: bool) -> None:
        self._dialect = dialect
        self._strips_usage = strips_usage
        self._events = Events()
        self._began = False
        self.done = False  # it is complete
        self.complaint: Complaint | None = None  # why it never will be
        self.usage: Usage | None = None
        self.chunks = 0  # that said something of an answer: about one token each

    def is_over(self) -> bool:
        """Whether it has come to its end, of whichever kind."""
        return self.done or self.complaint is not None

    def take(self, data: bytes, *, ended: bool) -> bytes:
        """What goes on to the client; `ended` with the last that the provider says.

        After this call look at `done` and `complaint`.
        """
        if self.is_over():
            return b""
        out: list[bytes] = []
        for event in self._events.feed(data, ended=ended):
            said = self._pass(event)
            if said:
                out.append(said)
            if self.is_over():
                break
        else:
            if self._events.over:
                self.complaint = complaints.of_fault(faults.UPSTREAM_MALFORMED)
            elif ended:
                self.complaint = complaints.of_fault(faults.STREAM_TRUNCATED)
        if out and not self._began:
            self._began = True
            out.insert(0, self._dialect.opening())
        return b"".join(out)

    def _pass(self, event: Event) -> bytes:
        data = event.data
        if data is None:
            return event.raw
        if data == DONE:
            self.done = True
            return self._dialect.ending(event.raw)
        chunk = completion.read_chunk(data)
        if chunk is None:
            self.complaint = complaints.of_fault(faults.UPSTREAM_MALFORMED)
            return b""
        if chunk.has_error:
            self.complaint = complaints.read_event(bytes(chunk.error))
            return b""
        self.usage = completion.usage_of(chunk.usage) or self.usage
        if chunk.has_choices:
            self.chunks += 1
        elif self._strips_usage and chunk.usage:
            return b""
        return self._dialect.event(event.raw, data)

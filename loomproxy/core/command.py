"""What an exchange can ask for, and who does it.

An exchange decides, its *hands* do. Whatever is asked is done in the order in which it was asked,
and before the next event is told. Hands never tell the exchange anything while it is asking: what
happens meanwhile (a write that fills a buffer, a waiter that is woken) is told after the event that
is being handled. What is there at once is answered at once, by `open` and `all_taken`.

The one deadline of an exchange is not asked for: it is a number, `Exchange.deadline_at`, which
whoever tells events looks at after them.
"""

import enum
from typing import Protocol

from loomproxy.core.endpoint import Endpoint
from loomproxy.core.outcome import Outcome
from loomproxy.core.pool import Ticket


class Fate(enum.Enum):
    """What becomes of the client's connection."""

    KEEP = "keep"  # wait for its next request
    CLOSE = "close"  # close in order: all that was sent arrives
    ABORT = "abort"  # reset: the response must not be taken for a complete one


class Hands(Protocol):
    """Who does what one exchange asks for."""

    def open(self, ask: int, endpoint: Endpoint, *, fresh: bool) -> bool:
        """Hold a connection to `endpoint`: an idle one, then true is returned; else a new one.

        A new one is answered by `Opened` or `OpenFailed` later. `fresh`: no idle connection will
        do, for the last one lost the race with its peer's close.
        """

    def serve(self, ask: int, path: bytes) -> None:
        """Have the house answer `path` itself; `Answered` follows."""

    def send_up(self, data: bytes) -> None:
        """Send `data`, which is not empty, on the held upstream connection."""

    def head_down(self, status: int, data: bytes) -> None:
        """Send the client a response head, interim or final, or a whole answer of our own."""

    def send_down(self, data: bytes) -> None:
        """Send the client `data`, which is not empty: after the final head, or in a tunnel."""

    def all_taken(self) -> bool:
        """Send what was to be sent; whether the client has taken all of it, to the kernel at least.

        Else `DownstreamTaken` follows when it has.
        """

    def shut_up(self) -> None:
        """Tell the upstream of a tunnel that no more will come (FIN)."""

    def shut_down(self) -> None:
        """Tell the client of a tunnel that no more will come (FIN)."""

    def pause_down(self) -> None:
        """Stop reading from the client."""

    def resume_down(self) -> None:
        """Read from the client again."""

    def pause_up(self) -> None:
        """Stop reading from the upstream."""

    def resume_up(self) -> None:
        """Read from the upstream again."""

    def begin_tunnel(self) -> None:
        """From here on both connections carry bytes that are not HTTP.

        Bytes behind the heads are told as `TunnelData`, and then a FIN of the client that was told
        before is told again: the tunnel must hear of it.
        """

    def release(self, *, reusable: bool) -> None:
        """Give the upstream connection back, or abandon its opening: it is heard no more."""

    def wake(self, ticket: Ticket) -> None:
        """Tell the exchange that waits with `ticket` that a slot is free (`SlotFreed`)."""

    def finish(self, outcome: Outcome, fate: Fate) -> None:
        """The exchange is over: the last that is asked, exactly once."""

"""Everything an exchange can ask of the shell, to be done in order, before the next event."""

import enum

import msgspec

from loomproxy.core.endpoint import Endpoint
from loomproxy.core.outcome import Outcome
from loomproxy.core.pool import Ticket
from loomproxy.core.units import Instant


class Open(msgspec.Struct, frozen=True, gc=False):
    """Open a connection to `endpoint`, or take an idle one; answer `Opened` or `OpenFailed`."""

    ask: int
    endpoint: Endpoint
    fresh: bool  # no idle connection will do: the last one lost the race with its peer's close


class Serve(msgspec.Struct, frozen=True, gc=False):
    """Have the house answer `path` itself; answer `Answered`."""

    ask: int
    path: bytes


class SendUp(msgspec.Struct, frozen=True, gc=False):
    """Bytes for the held upstream connection."""

    data: bytes


class HeadDown(msgspec.Struct, frozen=True, gc=False):
    """A response head for the client, interim or final."""

    status: int
    data: bytes


class SendDown(msgspec.Struct, frozen=True, gc=False):
    """Bytes for the client, after the final head or in a tunnel."""

    data: bytes


class ShutUp(msgspec.Struct, frozen=True, gc=False):
    """Tell the upstream of a tunnel that no more will come (FIN)."""


class ShutDown(msgspec.Struct, frozen=True, gc=False):
    """Tell the client of a tunnel that no more will come (FIN)."""


class PauseDown(msgspec.Struct, frozen=True, gc=False):
    """Stop reading from the client."""


class ResumeDown(msgspec.Struct, frozen=True, gc=False):
    """Read from the client again."""


class PauseUp(msgspec.Struct, frozen=True, gc=False):
    """Stop reading from the upstream."""


class ResumeUp(msgspec.Struct, frozen=True, gc=False):
    """Read from the upstream again."""


class BeginTunnel(msgspec.Struct, frozen=True, gc=False):
    """From here on both connections carry bytes that are not HTTP.

    Bytes behind the heads are told as `TunnelData`, and then a FIN of the client that was told
    before is told again: the tunnel must hear of it.
    """


class SetDeadline(msgspec.Struct, frozen=True, gc=False):
    """Say `DeadlineExpired` at `at`, not before; replaces the earlier deadline. NEVER clears it."""

    at: Instant


class Release(msgspec.Struct, frozen=True, gc=False):
    """Give the upstream connection back, or abandon its opening: it is heard no more."""

    reusable: bool


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Tell the exchange that holds `ticket` that a slot is free (`SlotFreed`)."""

    ticket: Ticket


class Fate(enum.Enum):
    """What becomes of the client's connection."""

    KEEP = "keep"  # wait for its next request
    CLOSE = "close"  # close in order: all that was sent arrives
    ABORT = "abort"  # reset: the response must not be taken for a complete one


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The last command of every exchange, exactly once."""

    outcome: Outcome
    fate: Fate


Command = (
    Open
    | Serve
    | SendUp
    | HeadDown
    | SendDown
    | ShutUp
    | ShutDown
    | PauseDown
    | ResumeDown
    | PauseUp
    | ResumeUp
    | BeginTunnel
    | SetDeadline
    | Release
    | Wake
    | Finish
)

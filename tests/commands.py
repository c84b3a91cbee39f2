"""What an exchange asks its hands for, written down: one value for each thing asked.

A `Scribe` is hands that only write, and a `Staged` exchange writes its deadline down as well, so
that a play can expect all of it in order.
"""

from typing import Any

import msgspec

from loomproxy.core.command import Fate
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.exchange import Exchange
from loomproxy.core.exchange.state import State
from loomproxy.core.outcome import Outcome
from loomproxy.core.pool import Ticket
from loomproxy.core.units import Instant


class Open(msgspec.Struct, frozen=True, gc=False):
    """A connection to `endpoint`."""

    ask: int
    endpoint: Endpoint
    fresh: bool
    idle: bool = False  # one was there at once


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


class Scribe:
    """Hands that write down what they are asked for. `said` is all since it was taken last.

    `idle` says whether an idle connection is there when one is asked for; `taken` whether the
    client has taken everything at once.
    """

    def __init__(self) -> None:
        self.said: list[Command] = []
        self.idle = False
        self.taken = False

    def take(self) -> list[Command]:
        said, self.said = self.said, []
        return said

    def open(self, ask: int, endpoint: Endpoint, *, fresh: bool) -> bool:
        idle = self.idle and not fresh
        self.said.append(Open(ask, endpoint, fresh, idle))
        return idle

    def all_taken(self) -> bool:
        return self.taken

    def serve(self, ask: int, path: bytes) -> None:
        self.said.append(Serve(ask, path))

    def send_up(self, data: bytes) -> None:
        self.said.append(SendUp(data))

    def head_down(self, status: int, data: bytes) -> None:
        self.said.append(HeadDown(status, data))

    def send_down(self, data: bytes) -> None:
        self.said.append(SendDown(data))

    def shut_up(self) -> None:
        self.said.append(ShutUp())

    def shut_down(self) -> None:
        self.said.append(ShutDown())

    def pause_down(self) -> None:
        self.said.append(PauseDown())

    def resume_down(self) -> None:
        self.said.append(ResumeDown())

    def pause_up(self) -> None:
        self.said.append(PauseUp())

    def resume_up(self) -> None:
        self.said.append(ResumeUp())

    def begin_tunnel(self) -> None:
        self.said.append(BeginTunnel())

    def release(self, *, reusable: bool) -> None:
        self.said.append(Release(reusable))

    def wake(self, ticket: Ticket) -> None:
        self.said.append(Wake(ticket))

    def finish(self, outcome: Outcome, fate: Fate) -> None:
        self.said.append(Finish(outcome, fate))


class Staged(Exchange):
    """An exchange that has its deadline written down whenever it is set."""

    __slots__ = ()

    @property
    def deadline_at(self) -> Instant:
        return _DEADLINE.__get__(self)

    @deadline_at.setter
    def deadline_at(self, at: Instant) -> None:
        _DEADLINE.__set__(self, at)
        if hasattr(self, "request"):  # It is being made until then.
            self.hands.said.append(SetDeadline(at))


_DEADLINE: Any = State.__dict__["deadline_at"]

"""What the parts of a worker know of one another, no more than they need.

A connection tells whoever holds it, a driver speaks to whichever client it has: seen from below
each is only one of these. So every module of the worker imports those beneath it, and none imports
back.
"""

import asyncio
from typing import Protocol

from loomproxy.config.model import Listener
from loomproxy.core.command import Fate
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.event import Event, RequestBroken
from loomproxy.core.exchange import Exchange
from loomproxy.core.http1.limits import Refusal
from loomproxy.core.hygiene import Peer
from loomproxy.core.message import RequestPart
from loomproxy.core.units import Instant


class Waiting(Protocol):
    """What the wheel of deadlines holds: a connection, with its one deadline."""

    deadline_at: Instant
    scheduled_at: Instant

    def expire(self) -> None:
        """The deadline has passed."""

    def __hash__(self) -> int:
        """By identity."""


class Unread(Protocol):
    """A connection from downstream that is held back."""

    def fileno(self) -> int:
        """Its descriptor; -1 when there is none."""

    def noticed(self, events: int) -> None:
        """What poll(2) says of it."""

    def __hash__(self) -> int:
        """By identity."""


class Idle(Waiting, Protocol):
    """A connection to an endpoint that nobody holds."""

    endpoint: Endpoint
    exchanges: int  # how many it has carried

    def close(self) -> None:
        """End it."""


class Holder(Protocol):
    """Who holds a connection to an endpoint, and is told what it does."""

    def read_upstream(self) -> None:
        """The wire has something to read."""

    def upstream_lost(self, *, broken: bool) -> None:
        """The connection is gone; `broken`: it was not closed in order."""

    def upstream_full(self) -> None:
        """The connection does not take more."""

    def upstream_taken(self) -> None:
        """The connection has taken everything."""

    def tunnel_data(self, data: bytes, *, from_downstream: bool) -> None:
        """Bytes of a tunnel."""

    def fin(self, *, from_downstream: bool) -> None:
        """One side says no more."""


class Teller(Protocol):
    """Who tells exchanges what happens."""

    exchange: Exchange | None  # the one that is going on

    def tell(self, event: Event) -> None:
        """Let the exchange know."""


class Client(Protocol):
    """The connection from downstream, as its driver sees it."""

    peer: Peer
    full: bool  # it has not taken all that was sent

    @property
    def ended(self) -> bool:
        """Whether it has said that it sends no more, and listens on."""

    def read_part(self) -> RequestPart | RequestBroken | None:
        """What the wire has next of the request that is being carried out."""

    def write(self, data: bytes) -> None:
        """Send `data`."""

    def write_eof(self) -> None:
        """Send FIN after what was written."""

    def take_rest(self) -> bytes:
        """What came and was not read, for a tunnel."""

    def read(self, *, paused: bool) -> None:
        """Stop or go on reading."""

    def set_deadline(self, at: Instant) -> None:
        """Have `DeadlineExpired` told at `at`."""

    def settle(self, fate: Fate, now: Instant) -> None:
        """The exchange is over."""


class Door(Protocol):
    """The listener through which a connection came."""

    listener: Listener
    nobody: Peer  # before the client is known

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        """Who is at the other end."""

    def opened(self, client: object, teller: Teller) -> None:
        """A connection began."""

    def closed(self, client: object, teller: Teller) -> None:
        """A connection is over."""

    def refused(self, peer: Peer, refusal: Refusal) -> None:
        """A client sent what cannot be read."""

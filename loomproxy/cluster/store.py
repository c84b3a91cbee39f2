"""What a store keeps for instances, as every store promises it; and what can go wrong with one.

There are two: a server that many instances share, and a file for one alone. Both take the same
decisions (`core.lease`) and pass the same tests. All moments are the store's own, in seconds since
1970 UTC, and are only ever compared with one another, never with a clock of ours.

Every call either answers or raises one of the errors below within a bounded time: a store that is
away costs its caller a timeout, and nobody else anything.
"""

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

LEADER: Final = "leader"
"""The lease of the one who tidies up for all."""

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""Of a published configuration, as UTF-8."""

EVENTS_MAX: Final = 10_000
"""Kept at most; the leader strikes off the oldest."""

REVISIONS_MAX: Final = 1_000
"""Kept at most; the leader strikes off the oldest, never the newest."""

LISTED_MAX: Final = 1_000
"""Of any list: rows of one answer."""


class StoreAwayError(Exception):
    """The store cannot be reached, or did not answer in time; what was asked may have happened."""


class SchemaError(Exception):
    """The store answers, but is not as it must be (not migrated, not ours): a person must look."""


class FencedError(Exception):
    """A guarded write found that its lease is not held any more; nothing was written."""


class ConflictError(Exception):
    """Somebody published in between: what was expected to be the newest revision is not."""

    def __init__(self, expected: int, newest: int) -> None:
        super().__init__(f"revision {expected} was expected to be the newest, but it is {newest}")
        self.newest = newest


class Held(msgspec.Struct, frozen=True):
    """What a holder shows with each guarded write."""

    name: str
    owner: str  # incarnation
    token: int


class Busy(msgspec.Struct, frozen=True):
    """Somebody else holds the lease, for this much longer unless it is renewed."""

    owner: str
    remaining_s: float


class Renewal(msgspec.Struct, frozen=True):
    """The lease goes on; `leaving`: an operator asks its holder to step down."""

    leaving: bool


class Lease(msgspec.Struct, frozen=True):
    """One lease as it is listed."""

    name: str
    owner: str  # incarnation; empty: nobody's
    instance_id: str  # whose incarnation that is, where it is registered
    token: int
    acquired_at: float
    renewed_at: float
    expires_at: float
    remaining_s: float  # 0 when it is not held
    leaving: bool


class Report(msgspec.Struct, frozen=True):
    """What an instance says of itself with each beat."""

    status: str  # active, or draining
    revision: int  # the published revision that it runs; 0: its own file
    problems: tuple[str, ...] = ()  # why it cannot apply a newer one; bounded by the sender
    refused: int = 0  # the revision that it cannot apply; 0: none


class Member(msgspec.Struct, frozen=True):
    """What an instance registers."""

    instance_id: str
    incarnation: str
    hostname: str
    version: str
    zone: str
    addresses: tuple[str, ...]
    metadata: dict[str, str]
    pid: int


class Beat(msgspec.Struct, frozen=True):
    """The answer to a heartbeat."""

    known: bool  # False: no row of this incarnation; register again, unless replaced
    replaced: bool  # another incarnation of the same instance has registered since
    evicted: bool  # an operator wants this incarnation to leave
    newest: int  # revision; 0: nothing was ever published


class MemberView(msgspec.Struct, frozen=True):
    """One instance as it is listed."""

    member: Member
    report: Report
    started_at: float
    seen_at: float
    silent_s: float  # since its last beat
    active: bool  # its beat is within the window, and it is not evicted
    evicted: bool


class RevisionHead(msgspec.Struct, frozen=True):
    """A revision without its document."""

    number: int  # from 1, without gaps in what is listed but for what was struck off
    published_at: float
    author: str
    note: str
    digest: str  # SHA-256 of the document, in hex; empty: no document
    rolled_back_to: int | None  # of a rollback: the revision whose document this one repeats


class Revision(msgspec.Struct, frozen=True):
    """A revision with its document; None: every instance runs its own file."""

    head: RevisionHead
    document: str | None


class EventRow(msgspec.Struct, frozen=True):
    """Something that happened to the cluster, for people."""

    number: int
    at: float
    kind: str  # joined, left, forgotten, evicted, elected, stepped-down, published …
    instance_id: str
    detail: str


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    version: int  # from 1
    name: str
    sql: str


class Store(Protocol):
    """What a store does. Every method may raise StoreAwayError and SchemaError."""

    async def open(self) -> None:
        """Make ready; raises where the store is away, and may be called again."""
        ...

    async def close(self) -> None:
        """Let go of every connection, file and thread; does not raise, takes a bounded time."""
        ...

    async def pending(self) -> tuple[Migration, ...]:
        """The migrations that `migrate` would run; the store need not hold our tables yet."""
        ...

    async def migrate(self) -> tuple[Migration, ...]:
        """Run what is pending, one instance at a time, each step whole or not at all."""
        ...

    async def acquire(self, name: str, owner: str, ttl_s: float) -> Held | Busy:
        """Try once to take the lease `name`."""
        ...

    async def renew(self, held: Held, ttl_s: float) -> Renewal | None:
        """Prolong it; None: it is not `held`'s any more, and never will be with this token."""
        ...

    async def release(self, held: Held) -> bool:
        """Give it back; False: it was not `held`'s any more. The token stays, for the next."""
        ...

    async def step_down(self, name: str) -> str | None:
        """Ask the holder of `name` to let it go; its owner, or None where nobody holds it."""
        ...

    async def leases(self) -> tuple[Lease, ...]:
        """All that were ever held, by name."""
        ...

    async def register(self, member: Member, report: Report) -> Beat:
        """Put this incarnation on the list, in the place of an earlier one of its instance."""
        ...

    async def beat(self, instance_id: str, incarnation: str, report: Report) -> Beat:
        """Say that it lives, and learn what is newest."""
        ...

    async def unregister(self, incarnation: str) -> bool:
        """Take it off the list, and free what it holds."""
        ...

    async def members(self, active_within_s: float) -> tuple[MemberView, ...]:
        """All on the list, by instance."""
        ...

    async def evict(self, instance_id: str) -> bool:
        """Ask an instance to leave and take its leases away at once; False: it is not listed."""
        ...

    async def forget(self, held: Held, silent_s: float) -> tuple[str, ...]:
        """Strike off who was silent for longer, with their leases; guarded. Their instances."""
        ...

    async def prune(self, held: Held, *, revisions_max: int, events_max: int) -> int:
        """Strike off the oldest revisions and events beyond so many; guarded. How many rows."""
        ...

    async def publish(
        self, document: str | None, *, author: str, note: str, expected: int | None
    ) -> RevisionHead:
        """Make a document the newest revision; ConflictError where `expected` is not the newest."""
        ...

    async def rollback(
        self, number: int, *, author: str, note: str, expected: int | None
    ) -> RevisionHead | None:
        """Publish the document of revision `number` again (0: none). None: there is no such."""
        ...

    async def revisions(self, limit: int = LISTED_MAX) -> tuple[RevisionHead, ...]:
        """The newest first."""
        ...

    async def revision(self, number: int) -> Revision | None:
        """One with its document."""
        ...

    async def read(self, key: str) -> str | None:
        """The value of a key."""
        ...

    async def write(self, held: Held, key: str, value: str) -> None:
        """Set the value of a key; guarded: FencedError where the lease is not held any more."""
        ...

    async def note(self, kind: str, instance_id: str, detail: str) -> None:
        """Write down that something happened."""
        ...

    async def events(self, limit: int = LISTED_MAX) -> tuple[EventRow, ...]:
        """The newest first."""
        ...

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever something may be new, until cancelled or the connection ends.

        Returns when the connection is lost; who wants to go on listening calls again. Hints may be
        lost: who must know, asks. A store that one instance has to itself waits to be cancelled.
        """
        ...


def fenced(held: Held) -> FencedError:
    """What to raise where a guarded write changed nothing."""
    return FencedError(f"lease {held.name} is not held with token {held.token} any more")


def digest_of(document: str | None) -> str:
    """What tells two documents apart: SHA-256 in hex; empty for none."""
    return "" if document is None else hashlib.sha256(document.encode()).hexdigest()

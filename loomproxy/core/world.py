"""The world of one worker: the snapshot of new exchanges, and the pools that outlive it.

An exchange keeps the snapshot and the pools it was born with. Publishing swaps references; the
endpoints that the new pools keep carry their health and what they have in flight over.
"""

from collections.abc import Iterable
from typing import Final

from loomproxy.core.endpoint import Endpoint
from loomproxy.core.pool import Pool
from loomproxy.core.snapshot import Snapshot

CHAT_BYTES_MAX: Final = 256 << 20
"""Bodies of chats that one worker keeps: a chat's request until its model is known and in case of
another attempt, and an answer that is no stream until it is whole. Beyond it chats are refused with
503, while everything that is streamed goes on.
"""


class World:
    """What all exchanges of a worker share; `draining` and `date` they look up late."""

    __slots__ = ("chat_bytes", "date", "draining", "pools", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.pools: dict[str, Pool] = {
            name: Pool(spec, None) for name, spec in snapshot.pools.items()
        }
        self.draining = False
        self.chat_bytes = 0  # of bodies that chats keep, requests and answers
        self.date = b""  # as in the Date field (RFC 9110 §5.6.7); b"": nobody has said yet

    def publish(self, snapshot: Snapshot) -> list[Endpoint]:
        """Make `snapshot` current; return the endpoints that no pool keeps."""
        before = self.pools
        self.pools = {name: Pool(spec, before.get(name)) for name, spec in snapshot.pools.items()}
        self.snapshot = snapshot
        kept = {id(endpoint) for endpoint in _endpoints(self.pools.values())}
        left = [endpoint for endpoint in _endpoints(before.values()) if id(endpoint) not in kept]
        for endpoint in left:
            endpoint.keepalive = None
        return left


def _endpoints(pools: Iterable[Pool]) -> list[Endpoint]:
    return [endpoint for pool in pools for endpoint in pool.endpoints]

"""How many connections there may be: of one client at one listener, and of a worker in all.

The first bound keeps one client from taking all the room, the second keeps the room within what the
process may have of descriptors: beyond that limit nothing works any more, not even the answer to
who is already here.
"""

import ipaddress
from typing import Final

DESCRIPTORS_BESIDES: Final = 64
"""What a worker opens besides connections: sockets to listen on, logs, the channel, libraries."""

DESCRIPTORS_EACH: Final = 2
"""What a connection from downstream may need: its own, and one to an endpoint."""

CONNECTIONS_MOST: Final = 1_000_000_000
"""Where a process may have any number of descriptors (setrlimit(2): RLIM_INFINITY, -1 here)."""

NETWORK_BYTES: Final = 8
"""Of an IPv6 address, those that name its network: a host chooses all others as it likes
(RFC 4291 §2.5.1, RFC 8981)."""


def connections_affordable(descriptors_max: int) -> int:
    """How many connections from downstream a worker can serve with so many descriptors; 1 at least.

    `descriptors_max` is -1 where there is no limit.
    """
    if descriptors_max < 0:
        return CONNECTIONS_MOST
    return max(1, (descriptors_max - DESCRIPTORS_BESIDES) // DESCRIPTORS_EACH)


def client_of(ip: bytes) -> bytes:
    """Who counts as one client: an IPv4 address, or the /64 of an IPv6 address (both as text)."""
    if b":" not in ip:
        return ip
    address = ipaddress.IPv6Address(ip.partition(b"%")[0].decode())
    mapped = address.ipv4_mapped
    return address.packed[:NETWORK_BYTES] if mapped is None else str(mapped).encode()


class Gate:
    """The connections of each client; a client without any is not remembered."""

    __slots__ = ("_connections", "_each_max")

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._connections: dict[bytes, int] = {}

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def enter(self, ip: bytes) -> bool:
        """One more connection of the client at `ip`; False, and not counted, when it has enough."""
        client = client_of(ip)
        connections = self._connections.get(client, 0)
        if connections >= self._each_max:
            return False
        self._connections[client] = connections + 1
        return True

    def leave(self, ip: bytes) -> None:
        """A connection that entered is over."""
        client = client_of(ip)
        connections = self._connections[client]
        if connections > 1:
            self._connections[client] = connections - 1
        else:
            del self._connections[client]

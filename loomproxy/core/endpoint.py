"""One endpoint: what the operator wants of it, what we measured of it, and what it is doing now.

*Enabled* is the operator's wish; *healthy* is what probes found; *ejected* is what real traffic taught us (for a
while, doubling with each repetition). The three are kept apart, so that a status page can say why an endpoint
gets no traffic.
"""

import msgspec

from loomproxy.core.units import Instant


class Address(msgspec.Struct, frozen=True):
    """Where an endpoint listens: TCP `host` and `port`, or a Unix socket `path`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As in the configuration: `http://host:port` or `unix:/path`."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class EndpointSpec(msgspec.Struct, frozen=True):
    """What the configuration says of an endpoint."""

    address: Address
    weight: int = 1  # 1..1000, relative to the other endpoints of the pool
    enabled: bool = True  # False: no new exchanges; those begun go on


class EjectionPolicy(msgspec.Struct, frozen=True):
    """When real traffic takes an endpoint out, and for how long."""

    failures: int = 3  # consecutive; 0: never
    time_s: float = 5.0  # the first time; doubles with each repetition
    time_max_s: float = 60.0

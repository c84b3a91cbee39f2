"""One endpoint: what the operator wants of it, what we measured of it, and what it is doing now.

*Enabled* is the operator's wish; *healthy* is what probes found; *ejected* is what real traffic
taught us (for a while, doubling with each repetition). The three are kept apart, so that a status
page can say why an endpoint gets no traffic.

Ejection in one paragraph: so many failures in a row take an endpoint out. While it is out, nothing
that is still observed counts: those exchanges began before, and one bad moment with a hundred
exchanges in flight is one ejection, not thirty. When it comes back it is on probation: its first
failure takes it out again, for twice as long; its first success ends the probation. An endpoint
that stayed in for `time_max_s` starts over with the shortest time.
"""

from typing import Final

import msgspec

from loomproxy.core.fault import PROVIDER_ERROR, Fault, Side
from loomproxy.core.units import Instant

HTTP_PORT: Final = 80
HTTPS_PORT: Final = 443
"""The ports that an authority leaves out (RFC 9110 §4.2.1 and §4.2.2)."""

DOUBLINGS_MAX: Final = 32
"""Ejections in a row that still double the time: far beyond any `time_max_s`, and no overflow."""


class Address(msgspec.Struct, frozen=True):
    """Where an endpoint listens: TCP `host` and `port`, or a Unix socket `path`.

    `tls`: what is said over TCP is said in TLS.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @property
    def authority(self) -> bytes:
        """What a Host field says of it; a Unix socket has no name of its own, so `localhost`."""
        if self.path:
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        left_out = HTTPS_PORT if self.tls else HTTP_PORT
        return (host if self.port == left_out else f"{host}:{self.port}").encode("ascii")

    def __str__(self) -> str:
        """As in the configuration: `http://host:port`, `https://host:port` or `unix:/path`."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class EndpointSpec(msgspec.Struct, frozen=True):
    """What the configuration says of an endpoint; or the node, of one replica of a plugin."""

    address: Address
    weight: int = 1  # 1..1000, relative to the other endpoints of the pool
    enabled: bool = True  # False: no new exchanges; those begun go on
    secrets: tuple[tuple[bytes, bytes], ...] = ()  # fields that each request to it carries


class TlsSpec(msgspec.Struct, frozen=True):
    """How endpoints whose address says `tls` prove who they are, and we to them.

    Files are PEM, by their paths; what they hold is the shell's to read.
    """

    verify: bool = True  # False: whoever answers is believed
    ca_file: str = ""  # whom to trust; "": whom the system trusts
    server_name: str = ""  # who it has to be; "": the host of its address
    client_certificate: str = ""  # "": we are nobody
    client_key: str = ""  # "": it stands in the file of the certificate


TLS_OF_SYSTEM: Final = TlsSpec()
"""Whom the system trusts is trusted, under the name in its address."""


class EjectionPolicy(msgspec.Struct, frozen=True):
    """When real traffic takes an endpoint out, and for how long."""

    failures: int = 3  # consecutive; 0: never
    time_s: float = 5.0  # the first time; doubles with each repetition
    time_max_s: float = 60.0


class KeepaliveSpec(msgspec.Struct, frozen=True):
    """Idle upstream connections held for reuse, per endpoint and worker."""

    idle_max: int = 64  # 0: none are held
    idle_timeout_s: float = 4.0  # below node.js's 5 s, the shortest common one, or we race it
    requests_max: int = 10_000  # on one connection


class Endpoint:
    """The state of one endpoint in one worker; it outlives the configuration that named it.

    Within a pool an endpoint is its address, and for TLS how it proves itself: a reload that keeps
    these keeps this object, with its health and what it has in flight. `in_flight` and `credit` are
    the pool's to change.
    """

    __slots__ = (
        "attempts",
        "authority",
        "credit",
        "ejected_until",
        "ejections",
        "failed",
        "failures",
        "healthy",
        "in_flight",
        "keepalive",
        "name",
        "policy",
        "probes_alike",
        "spec",
        "tls",
    )

    def __init__(
        self, spec: EndpointSpec, policy: EjectionPolicy, tls: TlsSpec = TLS_OF_SYSTEM
    ) -> None:
        self.spec = spec
        self.tls = tls if spec.address.tls else None
        self.policy = policy
        self.keepalive: KeepaliveSpec | None = None  # the pool's; None: no pool has it any more
        self.name = str(spec.address)  # as in the configuration, logs and metrics
        self.authority = spec.address.authority  # for the Host field
        self.in_flight = 0  # slots taken: attempts begun and not finished
        self.healthy = True  # what probes found; true until they say otherwise
        self.probes_alike = 0  # probes in a row that contradict `healthy`
        self.ejected_until = Instant(0.0)
        self.failures = 0  # in a row, from real traffic
        self.ejections = 0  # in a row, without `time_max_s` of good behaviour between them
        self.credit = 0  # what balancing owes it (smooth weighted round robin)
        self.attempts = 0  # ever begun
        self.failed = 0  # of those, ended by a fault of this endpoint

    def available(self, now: Instant) -> bool:
        """Whether it should get traffic; says nothing of free slots."""
        return self.spec.enabled and self.healthy and self.ejected_until <= now

    def observe(self, fault: Fault | None, now: Instant) -> None:
        """Learn from one finished attempt; None is a success. Others' faults teach nothing."""
        if fault is None:
            if self.failures and self.ejected_until <= now:
                self.failures = 0
            return
        if fault.side is not Side.UPSTREAM or fault is PROVIDER_ERROR:
            return  # Who says in order that it cannot answer is well.
        self.failed += 1
        if self.ejected_until > now:
            return
        self.failures += 1
        if 0 < self.policy.failures <= self.failures:
            self._eject(now)

    def _eject(self, now: Instant) -> None:
        policy = self.policy
        if now - self.ejected_until > policy.time_max_s:
            self.ejections = 0
        time_s = policy.time_s * 2.0 ** min(self.ejections, DOUBLINGS_MAX)
        self.ejected_until = now + min(time_s, policy.time_max_s)
        self.ejections += 1
        self.failures = policy.failures - 1  # On probation: the next failure is enough.

    def probed(self, ok: bool, *, rise: int, fall: int) -> bool:  # noqa: FBT001 - a result, not a switch
        """Learn from one probe; return whether that changed `healthy`.

        `rise` good probes in a row make an unhealthy endpoint healthy, `fall` bad ones the reverse.
        """
        if ok is self.healthy:
            self.probes_alike = 0
            return False
        self.probes_alike += 1
        if self.probes_alike < (rise if ok else fall):
            return False
        self.healthy = ok
        self.probes_alike = 0
        return True

    def unprobed(self) -> None:
        """Forget what probes found: the configuration has none any more."""
        self.healthy = True
        self.probes_alike = 0

    def __repr__(self) -> str:
        """For assertions and debuggers."""
        return f"<Endpoint {self.name} in_flight={self.in_flight}>"

"""After 101: bytes that are not HTTP any more, until both sides said FIN or nothing moves."""

from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core import hygiene
from loomproxy.core.command import (
    BeginTunnel,
    Fate,
    HeadDown,
    SendDown,
    SendUp,
    SetDeadline,
    ShutDown,
    ShutUp,
)
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamTaking,
    HalfClosed,
    TunnelData,
    UpstreamGone,
)
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.message import Framing, ResponseHead
from loomproxy.core.units import Instant

FIN_OF_CLIENT: Final = 1
FIN_OF_UPSTREAM: Final = 2
BEGIN_TUNNEL: Final = BeginTunnel()
SHUT_UP: Final = ShutUp()
SHUT_DOWN: Final = ShutDown()


def switch(x: State, head: ResponseHead, now: Instant) -> None:
    """The upstream switches protocols, if that is what was asked of it (RFC 9110 §7.8)."""
    route = x.route
    if not x.upgrading or head.upgrade != x.request.upgrade or route is None:
        x.refuse(faults.UPSTREAM_MALFORMED, now)
        return
    assert x.endpoint is not None, "an answer from nobody"
    x.endpoint.observe(None, now)
    x.outcome.answered_at = now
    x.outcome.status = head.status
    x.keep = False
    data = hygiene.response_down(
        head,
        x.request,
        policy=x.snapshot.policy,
        ops=route.response_ops,
        keep_alive=True,
        framing=Framing.TUNNEL,
        values=x.values,
    )
    x.out += (HeadDown(head.status, data), BEGIN_TUNNEL)
    x.enter(Phase.TUNNEL, Instant(now + x.timeouts.tunnel_idle_s))


def on_data(x: State, event: TunnelData, now: Instant) -> None:
    """Bytes from either side go to the other."""
    size = len(event.data)
    if event.from_downstream:
        x.outcome.request_bytes += size
        x.out.append(SendUp(event.data))
    else:
        x.outcome.response_bytes += size
        x.out.append(SendDown(event.data))
    x.out.append(SetDeadline(Instant(now + x.timeouts.tunnel_idle_s)))


def on_fin(x: State, event: HalfClosed, now: Instant) -> None:
    """One side has said all; the other may go on until it has, too."""
    x.shut |= FIN_OF_CLIENT if event.from_downstream else FIN_OF_UPSTREAM
    x.out.append(SHUT_UP if event.from_downstream else SHUT_DOWN)
    if x.shut == FIN_OF_CLIENT | FIN_OF_UPSTREAM:
        x.let_go()
        x.finish(Fate.CLOSE, now)


def on_gone(x: State, event: UpstreamGone, now: Instant) -> None:
    """The upstream's connection ended: a fault, unless it had said all it had to say before.

    Then it only closed its other half too, and what the client still sends has nobody to hear it;
    the client gets all that was said to it, and an orderly end.
    """
    if not x.shut & FIN_OF_UPSTREAM:
        x.cut(event.fault, now)
        return
    x.let_go()
    x.finish(Fate.CLOSE, now)


def on_taking(x: State, _event: DownstreamTaking, now: Instant) -> None:
    """The client takes what it was sent, slowly: as slowly as it may be silent."""
    x.out.append(SetDeadline(Instant(now + x.timeouts.tunnel_idle_s)))


def on_idle(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing moved for too long."""
    x.blame(faults.TUNNEL_IDLE, now)
    x.let_go()
    x.finish(Fate.CLOSE, now)

"""After 101: bytes that are not HTTP any more, until both sides said FIN or nothing moves."""

from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core.command import Fate
from loomproxy.core.event import DeadlineExpired, HalfClosed, TunnelData, UpstreamGone
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.message import TUNNEL as UPGRADED
from loomproxy.core.message import ResponseHead
from loomproxy.core.units import Instant

FIN_OF_CLIENT: Final = 1
FIN_OF_UPSTREAM: Final = 2


def switch(x: State, head: ResponseHead, now: Instant) -> None:
    """The upstream switches protocols, if that is what was asked of it (RFC 9110 §7.8)."""
    if not x.upgrading or head.upgrade != x.request.upgrade:
        x.refuse(faults.UPSTREAM_MALFORMED, now)
        return
    assert x.endpoint is not None, "an answer from nobody"
    x.endpoint.observe(None, now)
    x.outcome.answered_at = now
    x.outcome.status = head.status
    x.keep = False
    x.hands.head_down(head.status, x.head_for_client(head, UPGRADED, keep=True))
    x.hands.begin_tunnel()
    x.enter(Phase.TUNNEL, now + x.timeouts.tunnel_idle_s)


def on_data(x: State, event: TunnelData, now: Instant) -> None:
    """Bytes from either side go to the other."""
    size = len(event.data)
    if event.from_downstream:
        x.outcome.request_bytes += size
        x.hands.send_up(event.data)
    else:
        x.outcome.response_bytes += size
        x.hands.send_down(event.data)
    x.deadline_at = now + x.timeouts.tunnel_idle_s


def on_fin(x: State, event: HalfClosed, now: Instant) -> None:
    """One side has said all; the other may go on until it has, too."""
    x.shut |= FIN_OF_CLIENT if event.from_downstream else FIN_OF_UPSTREAM
    if event.from_downstream:
        x.hands.shut_up()
    else:
        x.hands.shut_down()
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


def on_idle(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing moved for too long."""
    x.blame(faults.TUNNEL_IDLE, now)
    x.let_go()
    x.finish(Fate.CLOSE, now)

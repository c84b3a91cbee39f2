"""What ends an exchange from outside, in any phase: the client leaves, or the proxy has to."""

from loomproxy.core import fault as faults
from loomproxy.core.event import DownstreamGone, DrainExpired, HalfClosed
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.units import Instant


def on_client_gone(x: State, _event: DownstreamGone, now: Instant) -> None:
    """Nobody listens any more."""
    x.cut(faults.CLIENT_LEFT, now)


def on_client_fin(x: State, _event: HalfClosed, now: Instant) -> None:
    """The client sends no more, yet listens.

    It gets its answer if its request is whole, or if the answer is complete without that.
    """
    x.keep = False
    if not x.client_body_ended and x.phase is not Phase.LAST:
        x.cut(faults.CLIENT_LEFT, now)


def on_drain_expired(x: State, _event: DrainExpired, now: Instant) -> None:
    """The drain deadline has passed."""
    x.keep = False
    x.fail(faults.DRAIN_DEADLINE, now)

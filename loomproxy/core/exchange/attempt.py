"""One attempt: a slot in the pool, a connection, the request on its way, whether to go again."""

from loomproxy.core import fault as faults
from loomproxy.core import hygiene
from loomproxy.core.command import Open, SendUp
from loomproxy.core.event import DeadlineExpired, Opened, OpenFailed, SlotFreed, UpstreamGone
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.fault import Fault
from loomproxy.core.pool import Pool
from loomproxy.core.retry import may_repeat
from loomproxy.core.units import Instant


def attempt(x: State, now: Instant) -> None:
    """Begin the next attempt, or wait for a slot."""
    pool = x.pool
    assert pool is not None, "an attempt without a pool"
    assert x.endpoint is None, "an attempt while another holds a slot"
    assert not x.holding, "an attempt while another holds an upstream"
    endpoint = pool.choose(now, x.tried)
    if endpoint is None:
        _wait(x, pool, now)
        return
    outcome = x.outcome
    x.ticket = None
    x.endpoint = endpoint
    x.holding = True
    outcome.attempts += 1
    outcome.connecting_at = now
    outcome.opened_at = Instant(0.0)
    outcome.reused = False
    outcome.endpoint = endpoint.name
    x.enter(Phase.CONNECT, Instant(now + x.timeouts.connect_s))
    x.out.append(Open(x.ask, endpoint, x.fresh))


def _wait(x: State, pool: Pool, now: Instant) -> None:
    if x.ticket is not None:  # Woken, but somebody was faster: place and deadline stay.
        pool.wait_again(x.ticket)
        return
    x.enter(Phase.QUEUE, Instant(now + x.timeouts.queue_s))
    if not pool.usable():
        x.refuse(faults.POOL_UNAVAILABLE, now)
        return
    x.ticket = pool.wait(x, x.ask)
    if x.ticket is None:
        x.refuse(faults.QUEUE_FULL, now)


def on_slot_freed(x: State, _event: SlotFreed, now: Instant) -> None:
    """Our turn in the queue."""
    attempt(x, now)


def on_queue_timeout(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing became free in time."""
    x.refuse(faults.QUEUE_TIMEOUT, now)


def on_opened(x: State, event: Opened, now: Instant) -> None:
    """The connection is there: the head and what came of the body go up together."""
    outcome, replay = x.outcome, x.replay
    assert replay is not None, "a request without its replay"
    x.reused = outcome.reused = event.reused
    outcome.opened_at = now
    x.enter(Phase.HEAD, Instant(now + x.patience_s(Phase.HEAD)))
    x.out.append(SendUp(_head_up(x) + replay.take()))
    x.balance_client()


def _head_up(x: State) -> bytes:
    route, endpoint, request = x.route, x.endpoint, x.request
    assert route is not None
    assert endpoint is not None
    rewrite = route.rewrite
    return hygiene.request_up(
        request,
        peer=x.peer,
        policy=x.snapshot.policy,
        target=request.target if rewrite is None else rewrite.target(request),
        host=endpoint.authority if route.host == b"" else route.host,
        ops=route.request_ops,
        upgrade=x.upgrading,
        values=x.values,
    )


def on_open_failed(x: State, event: OpenFailed, now: Instant) -> None:
    """No connection, so nothing was sent."""
    _failed(x, event.fault, now)


def on_connect_timeout(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """No connection in time, so nothing was sent."""
    _failed(x, faults.CONNECT_TIMEOUT, now)


def on_upstream_gone(x: State, event: UpstreamGone, now: Instant) -> None:
    """The upstream left before any byte of its final head."""
    _failed(x, event.fault, now)


def _failed(x: State, fault: Fault, now: Instant) -> None:
    """The attempt is over: go again where that is safe and affordable, else say what happened."""
    endpoint, pool, route, replay = x.endpoint, x.pool, x.route, x.replay
    assert endpoint is not None
    assert pool is not None
    assert route is not None
    assert replay is not None
    again = may_repeat(
        fault,
        method=x.request.method,
        reused=x.reused,
        replayable=replay.whole and not x.interims,
        attempts=x.outcome.attempts,
        policy=route.retry,
    ) and pool.may_retry(now)
    if not again:
        x.fail(fault, now)
        return
    if x.reused:
        x.fresh = True  # The peer closed an idle connection: nobody's failure, only a race lost.
    else:
        endpoint.observe(fault, now)
        x.tried.append(endpoint)
    x.let_go()
    x.reused = False
    x.pace = None
    replay.rewind()
    attempt(x, now)

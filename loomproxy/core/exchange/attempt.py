"""One attempt: a slot in the pool, a connection, the request on its way, whether to go again."""

from loomproxy.core import fault as faults
from loomproxy.core import hygiene
from loomproxy.core.event import DeadlineExpired, Opened, OpenFailed, SlotFreed, UpstreamGone
from loomproxy.core.exchange import chat_head
from loomproxy.core.exchange.state import HEAD, Phase, State
from loomproxy.core.fault import Fault
from loomproxy.core.pool import Pool
from loomproxy.core.retry import may_repeat
from loomproxy.core.route import HOST_OF_ENDPOINT
from loomproxy.core.units import NO_MOMENT, Instant


def attempt(x: State, now: Instant) -> None:
    """Begin the next attempt, or wait for a slot."""
    pool = x.pool if x.chat is None else chat_head.newest_pool(x)
    if pool is None:
        x.refuse(faults.POOL_UNAVAILABLE, now)
        return
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
    outcome.opened_at = NO_MOMENT
    outcome.reused = False
    outcome.endpoint = endpoint.name
    x.ask += 1
    if x.hands.open(x.ask, endpoint, fresh=x.fresh):
        _connected(x, now, reused=True)
    else:
        x.enter(Phase.CONNECT, now + x.timeouts.connect_s)


def _wait(x: State, pool: Pool, now: Instant) -> None:
    if x.ticket is not None:  # Woken, but somebody was faster: place and deadline stay.
        pool.wait_again(x.ticket)
        return
    x.ask += 1
    x.enter(Phase.QUEUE, now + x.timeouts.queue_s)
    if not pool.usable():
        x.refuse(faults.POOL_UNAVAILABLE, now)
        return
    x.ticket = pool.wait(x, x.ask)
    if x.ticket is None:
        x.refuse(faults.QUEUE_FULL, now)


def on_slot_freed(x: State, event: SlotFreed, now: Instant) -> None:
    """Our turn in the queue."""
    if event.ask == x.ask:
        attempt(x, now)


def on_queue_timeout(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing became free in time."""
    x.refuse(faults.QUEUE_TIMEOUT, now)


def on_opened(x: State, event: Opened, now: Instant) -> None:
    """The connection that was asked for is there."""
    if event.ask == x.ask:
        _connected(x, now, reused=False)


def _connected(x: State, now: Instant, *, reused: bool) -> None:
    """A connection is held: the head and what came of the body go up together."""
    outcome, replay = x.outcome, x.replay
    x.reused = outcome.reused = reused
    outcome.opened_at = now
    x.enter(HEAD, now + x.patience_s(HEAD))
    if replay is None:
        x.hands.send_up(_head_up(x))
    else:
        x.hands.send_up(_head_up(x) + replay.take())
        x.balance_client()


def _head_up(x: State) -> bytes:
    route, endpoint, request = x.route, x.endpoint, x.request
    assert route is not None
    assert endpoint is not None
    rewrite, host = route.rewrite, route.host
    if x.chat is not None:
        return chat_head.head_up(x, x.chat)
    if host == HOST_OF_ENDPOINT or (host is None and not request.authority):
        host = endpoint.authority  # HTTP/1.0 knows requests without a host.
    return hygiene.request_up(
        request,
        peer=x.peer,
        policy=x.snapshot.policy,
        target=request.target if rewrite is None else rewrite.target(request),
        host=host,
        ops=route.request_ops,
        upgrade=x.upgrading,
        request_id=x.outcome.request_id,
        values=x.values,
    )


def on_open_failed(x: State, event: OpenFailed, now: Instant) -> None:
    """No connection, so nothing was sent."""
    if event.ask == x.ask:
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
    again = may_repeat(
        fault,
        method=x.request.method,
        reused=x.reused,
        replayable=(replay is None or replay.whole) and not x.interims,
        attempts=x.outcome.attempts,
        policy=route.retry,
    ) and pool.budget.may_retry(now)
    if not again:
        x.fail(fault, now)
        return
    if x.reused:
        x.fresh = True  # The peer closed an idle connection: nobody's failure, only a race lost.
    else:
        endpoint.observe(fault, now)
        x.tried = (*x.tried, endpoint)
    x.let_go()
    x.reused = False
    x.pace = None
    if replay is not None:
        replay.rewind()
    attempt(x, now)

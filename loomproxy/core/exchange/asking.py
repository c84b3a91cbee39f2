"""What is asked, and who shall answer: the request head, the decision, the request body."""

from loomproxy.core import answer, hygiene
from loomproxy.core import fault as faults
from loomproxy.core.event import Answered, DeadlineExpired, RequestBroken
from loomproxy.core.exchange import chat_asking
from loomproxy.core.exchange.attempt import attempt
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.fault import Fault
from loomproxy.core.http1.framing import chunk, last_chunk
from loomproxy.core.message import CHUNKED, NONE, RequestHead, RequestPart
from loomproxy.core.pace import Pace
from loomproxy.core.replay import Replay
from loomproxy.core.route import Action, Chat, Models, Redirect, Respond, Route, Serve, ToPool
from loomproxy.core.units import NEVER, Instant


def on_request(x: State, head: RequestHead, now: Instant) -> None:
    """The request is there: who asks, which route, and then the route's action."""
    outcome, snapshot, peer = x.outcome, x.snapshot, x.peer
    x.request = outcome.head = head
    outcome.begun_at = now
    if peer.trusted:
        outcome.client_ip = hygiene.client_ip(head.block, peer, snapshot.policy)
    outcome.request_id = hygiene.request_id(head, snapshot.policy, outcome.request_id)
    x.client_body_ended = head.framing is NONE
    x.keep = x.keep and head.keep_alive
    if head.for_us:
        x.enter(Phase.POLICY, NEVER)
        x.reply(answer.LAST_RECIPIENT, now)
        return
    route = snapshot.table.find(head, peer.listener)
    if route is None:
        x.enter(Phase.POLICY, NEVER)
        x.refuse(faults.NO_ROUTE, now)
        return
    x.route = route
    x.timeouts = route.timeouts
    outcome.route = route.name
    _act(x, route, head, now)


def _act(x: State, route: Route, head: RequestHead, now: Instant) -> None:
    action = route.action
    if head.body_bytes > route.body_bytes_max and not isinstance(action, Chat):
        x.enter(Phase.POLICY, NEVER)
        x.refuse(faults.BODY_TOO_LARGE, now)
    elif type(action) is ToPool:
        x.pool = pool = x.world.pools[action.pool]
        x.outcome.pool = action.pool
        x.upgrading = x.client_body_ended and head.upgrade in route.upgrades
        if not x.client_body_ended:
            x.replay = Replay(route.replay_bytes_max)
        pool.budget.note_request(now)
        attempt(x, now)
    elif type(action) is Chat:
        chat_asking.begin(x, action, head, now)
    else:
        _answer(x, action, head, now)


def _answer(x: State, action: Action, head: RequestHead, now: Instant) -> None:
    """The answer is a matter of the house."""
    if type(action) is Serve and head.method in answer.READING:
        x.ask += 1
        x.enter(Phase.POLICY, now + x.timeouts.service_s)
        x.hands.serve(x.ask, head.path)
        return
    x.enter(Phase.POLICY, NEVER)
    if isinstance(action, Redirect) and action.lacks(head):
        x.refuse(faults.REQUEST_MALFORMED, now)
    elif isinstance(action, Respond | Redirect):
        x.reply(answer.configured(action, head, x.peer.scheme), now)
    elif isinstance(action, Models):
        if head.method not in answer.READING:
            x.blame(faults.METHOD_NOT_ALLOWED, now)
        models, request_id = x.snapshot.catalogue, x.outcome.request_id
        x.reply(answer.models(action, head, models, request_id), now)
    else:
        x.refuse(faults.METHOD_NOT_ALLOWED, now)


def on_refused_head(x: State, event: RequestBroken, now: Instant) -> None:
    """The head itself could not be read: there is no request, only an answer."""
    x.outcome.begun_at = now
    x.keep = x.client_body_ended = False
    x.fail(event.fault, now)


def on_answered(x: State, event: Answered, now: Instant) -> None:
    """The house answered."""
    if event.ask == x.ask:
        x.reply(answer.Answer(event.status, event.content_type, event.body), now)


def on_service_timeout(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """The house did not answer: its node is busy or gone."""
    x.refuse(faults.SERVICE_TIMEOUT, now)


def on_request_part(x: State, part: RequestPart, now: Instant) -> None:
    """Some of the request body: up it goes, or it is kept until somebody takes it."""
    outcome, route, replay = x.outcome, x.route, x.replay
    assert route is not None
    assert replay is not None
    outcome.request_bytes += len(part.data)
    if outcome.request_bytes > route.body_bytes_max:
        _unusable(x, faults.BODY_TOO_LARGE, now)
        return
    x.client_body_ended = part.ended
    replay.add(_framed(x, part))
    if x.phase is Phase.HEAD or x.phase is Phase.DATA:
        data = replay.take()
        if data:
            x.hands.send_up(data)
        _pace(x, part, now)
        if not x.up_paused:  # Else the client owes the taking of its answer, and owed it before.
            x.deadline_at = x.owed_at(now)
    x.balance_client()


def _pace(x: State, part: RequestPart, now: Instant) -> None:
    """Measure how fast the body comes; not one that came whole, nor one that waited for a slot."""
    timeouts, pace = x.timeouts, x.pace
    if part.ended:
        x.pace = None
    elif pace is not None:
        pace.moved(len(part.data), now)
    elif timeouts.body_bytes_min_per_s:
        x.pace = pace = Pace(timeouts.idle_s, timeouts.body_bytes_min_per_s, now)
        if x.up_full:
            pace.hold(now)


def _framed(x: State, part: RequestPart) -> bytes:
    if x.request.framing is not CHUNKED:
        return part.data
    data = chunk(part.data) if part.data else b""
    if not part.ended:
        return data
    assert x.route is not None
    return data + last_chunk(hygiene.trailers(part.trailers, hygiene.touched(x.route.request_ops)))


def ignore_part(x: State, part: RequestPart, _now: Instant) -> None:
    """The answer does not depend on the body: what comes of it is counted and dropped."""
    x.outcome.request_bytes += len(part.data)
    x.client_body_ended = part.ended


def on_request_broken(x: State, event: RequestBroken, now: Instant) -> None:
    """The request body cannot be read any further."""
    _unusable(x, event.fault, now)


def ignore_broken(x: State, _event: RequestBroken, _now: Instant) -> None:
    """The answer is on its way already; after it the connection closes."""
    x.keep = x.client_body_ended = False


def _unusable(x: State, fault: Fault, now: Instant) -> None:
    x.keep = x.client_body_ended = False
    x.fail(fault, now)

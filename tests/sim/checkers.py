"""The rules of an exchange, each as a check that the simulator makes after what could break it.

`Commands` looks at each command when it is performed, `settled` at the state between two events,
`over` at what remains when an exchange has finished, `slots` and `queue` at the whole world.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import h11

from loomproxy.core import hygiene
from loomproxy.core.event import (
    DownstreamFull,
    DownstreamTaken,
    DownstreamTaking,
    RequestPart,
    ResponsePart,
    TunnelData,
    UpstreamTaken,
)
from loomproxy.core.fault import FAULTS
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.message import IDEMPOTENT, Framing, Response, ResponseHead
from loomproxy.core.pool import Pool
from loomproxy.core.units import NEVER, Instant
from tests import commands as c
from tests.sim.client import READ_PARTS_MAX
from tests.sim.settings import LIMITS, PHASE_MAX_S, ROUTE_BY_NAME

if TYPE_CHECKING:
    from tests.sim.actor import Actor

PART_BYTES_MAX: Final = 300 + 16
"""The largest part that a client of the simulator sends, in its framing."""

PROGRESS: Final = (
    RequestPart,
    ResponseHead,  # An interim one, which tells the client to go on: any other enters a phase.
    ResponsePart,
    TunnelData,
    DownstreamFull,
    DownstreamTaken,
    DownstreamTaking,
    UpstreamTaken,
)
"""What may move the deadline of HEAD, DATA and TUNNEL. In LAST only a client that is slow may, in
other phases nothing."""


# --- one command ----------------------------------------------------------------------------------


def open_is_fair(actor: "Actor", command: c.Open) -> None:
    """At most one upstream is held, the question is the open one, and attempts are bounded."""
    exchange = actor.exchange
    assert actor.up is None, "two upstreams are held"
    assert command.ask == exchange.ask, "a question under a number that is not open"
    assert command.endpoint.in_flight > 0, "an attempt without a slot"
    assert not actor.final, "an attempt after the final head"
    route = ROUTE_BY_NAME[exchange.outcome.route]
    assert len(actor.ups) < route.retry.attempts_max, "more attempts than the route allows"
    for earlier in actor.ups:
        assert not earlier.sent or earlier.lost_race, "sent again what may have been acted on"
        assert not earlier.sent or actor.method in IDEMPOTENT, "an unsafe request was sent twice"
        assert not earlier.answered, "sent again after some of an answer came"
        if earlier.lost_race:
            assert command.fresh, "a reused connection again after one lost the race"


def send_up_is_fair(actor: "Actor", command: c.SendUp) -> None:
    """Bytes go to an open connection only, and not after FIN."""
    up = actor.up
    assert up is not None, "bytes for an upstream that is not held"
    assert up.opened, "bytes for an upstream that is not there yet"
    assert not up.shut, "bytes after FIN"
    assert command.data, "an empty write"


def head_down_is_fair(actor: "Actor", command: c.HeadDown) -> None:
    """At most one final head; interim ones before it, and only for who knows them."""
    assert not actor.final, "a head after the final one"
    if 100 <= command.status < 200 and command.status != 101:
        assert actor.request.head is not None
        assert actor.request.head.minor_version == 1, "an interim answer for an old client"
        return
    actor.final = command.status
    actor.said_close = b"\r\nConnection: close\r\n" in command.data.partition(b"\r\n\r\n")[0] + (
        b"\r\n"
    )
    actor.draining_at_head = actor.sim.world.draining


def release_is_fair(actor: "Actor", command: c.Release) -> None:
    """Released once, and for reuse only when both messages are over and neither side says close."""
    up = actor.up
    assert up is not None, "released what is not held"
    if command.reusable:
        assert up.request_ended, "given back with half a request sent"
        assert up.answer_ended, "given back with half an answer read"
        assert up.keeps, "given back although its peer closes"
        assert not up.full, "given back although it has not taken its request"
        assert not actor.tunnel, "given back after a tunnel"


def wake_is_fair(actor: "Actor", command: c.Wake) -> None:
    """Who is woken waits."""
    waiter = command.ticket.owner.hands.actor
    assert not waiter.fate, "woken after it finished"
    assert waiter.exchange.ticket is command.ticket, "woken by a ticket it does not hold"
    assert waiter is not actor, "woke itself"


# --- one event ------------------------------------------------------------------------------------


def who_stalls(actor: "Actor") -> str:
    """The fault that an expired deadline must be written down as, where that is not plain."""
    up, phase = actor.up, actor.exchange.phase.value
    if phase not in "HD":
        return ""
    assert up is not None
    if actor.down_full:
        return "client_take_timeout"
    if not (actor.told_ended or up.full or waits_for_continue(actor)):
        return "client_body_timeout"
    return "upstream_timeout" if phase == "H" else "upstream_stalled"


def waits_for_continue(actor: "Actor") -> bool:
    """Whether the client was never told to send the body that it announced, and has not."""
    head, up = actor.request.head, actor.up
    assert head is not None
    assert up is not None
    told = up.script[: up.told] if up.script else []
    interim = any(isinstance(thing, ResponseHead) and thing.is_interim for thing in told)
    return head.expect_continue and not (actor.told_bytes or interim)


# --- between two events ---------------------------------------------------------------------------


def deadline_is_right(actor: "Actor", before: str, event: Any, commands: list[Any]) -> None:
    """Exactly one deadline in each phase, set on entry, moved by progress alone; none in DONE."""
    phase, now = actor.exchange.phase.value, actor.sim.now
    sets = sum(type(command) is c.SetDeadline for command in commands)
    if phase == "-":
        assert actor.deadline_at == NEVER, "a deadline outlived its exchange"
        return
    # Unless it was just set it may have passed already: we look at the clock now and then only.
    assert actor.deadline_at >= now or not sets, "a deadline in the past"
    assert actor.deadline_at <= now + PHASE_MAX_S[phase], f"the deadline of {phase} is too late"
    if phase != before:
        assert sets, f"{phase} was entered without a deadline"
    elif sets and not any(type(command) is c.Open for command in commands):
        slow = phase == "L" and type(event) is DownstreamTaking
        assert phase in "HDT" or slow, f"the deadline of {phase} moved"
        assert isinstance(event, PROGRESS), f"the deadline moved at {type(event).__name__}"


def settled(actor: "Actor") -> None:
    """What must hold whenever an exchange has done what it was asked for."""
    exchange, up, phase = actor.exchange, actor.up, actor.exchange.phase.value
    held = up is not None
    assert held == (phase in "CHDT"), f"an upstream is {'' if held else 'not '}held in {phase}"
    assert (exchange.ticket is not None) == (phase == "Q") or actor.called, "a wait without ticket"
    replay = exchange.replay
    over = replay is not None and replay.over
    full = up is not None and up.full
    assert actor.paused == (full or over), f"the client is {'' if actor.paused else 'not '}paused"
    if up is not None and up.opened:
        assert up.paused == actor.down_full, "the upstream is read at another pace than the client"
    if replay is not None:
        held_bytes = sum(map(len, replay._held))
        room = ROUTE_BY_NAME[exchange.outcome.route].replay_bytes_max
        assert held_bytes <= room + READ_PARTS_MAX * PART_BYTES_MAX, "more is held than a read"
        assert phase not in "HDT" or held_bytes <= room, "more is held than for another attempt"


# --- one exchange, at its end ---------------------------------------------------------------------


def over(actor: "Actor") -> None:
    """All that the client, the upstreams and the log were told agrees."""
    assert actor.up is None, "an upstream outlived its exchange"
    in_order = actor.fate is not c.Fate.ABORT and not actor.tunnel
    assert not (in_order and actor.down_full), "over before the client has taken it all"
    assert not actor.paused, "the client was left paused"
    _outcome(actor)
    for up in actor.ups:
        _went_up(actor, up)
    if not actor.tunnel:
        _came_down(actor)


def _outcome(actor: "Actor") -> None:
    outcome, fate = actor.exchange.outcome, actor.fate
    assert outcome.status == actor.final, "the log has another status than the client"
    assert outcome.attempts == len(actor.ups)
    assert outcome.request_bytes == actor.told_bytes, "the log counts other request bytes"
    assert (outcome.fault == "") == (outcome.termination == "--")
    if outcome.fault:
        fault = FAULTS[outcome.fault]
        assert outcome.termination[0] == fault.letter
        assert outcome.termination[1] == actor.phase_of_fault, "a fault in another phase"
        assert fate is c.Fate.ABORT or fault.status == actor.final or fault.name == "tunnel_idle"
    else:
        assert fate is not c.Fate.ABORT, "aborted for no reason"
    if actor.ups:
        last = actor.ups[-1]
        assert outcome.endpoint == last.endpoint.name
        assert outcome.reused == last.reused
        assert (outcome.opened_at > 0.0) == last.opened
    moments = (
        outcome.begun_at,
        outcome.connecting_at,
        outcome.opened_at,
        outcome.answered_at,
        outcome.ended_at,
    )
    reached = [moment for moment in moments if moment]
    assert reached == sorted(reached), f"moments in another order: {moments}"
    assert outcome.ended_at == actor.sim.now
    if fate is c.Fate.KEEP:
        assert actor.may_keep, "kept a connection that has carried enough"
        assert actor.told_ended, "kept a connection whose request is not over"
        assert not actor.draining_at_head, "kept a connection while draining"
        assert not actor.said_close, "kept a connection after saying close"
        assert actor.request.head is not None
        assert actor.request.head.keep_alive, "kept a connection that its client wants closed"


def _went_up(actor: "Actor", up: Any) -> None:
    """Every attempt was sent the client's request from its beginning, and nothing else."""
    if not up.sent:
        return
    head = actor.request.head
    assert up.head.method == head.method
    assert up.head.framing is head.framing
    assert up.head.body_bytes == head.body_bytes
    assert up.head.minor_version == 1
    assert up.head.keep_alive, "a hop-by-hop field went up"
    received = b"".join(up.received)
    assert received == actor.request.payload(len(received)), "another body went up"
    assert len(received) <= actor.told_bytes
    if up.request_ended:
        assert len(received) == actor.request.size, "half a body went up as a whole one"
        assert up.request_trailers == actor.request.trailers
    if actor.sim.with_h11:
        _h11_reads_request(b"".join(up.sent), received, tunnel=actor.tunnel)


def _came_down(actor: "Actor") -> None:
    """The client reads what was said, and never takes half of it for the whole."""
    wire = ResponseWire(LIMITS)
    wire.expect(actor.method if actor.request.head is not None else b"GET")
    data = b"".join(actor.down)
    if data:
        wire.receive(data)
    head, body, complete, trailers = None, [], False, b""
    for thing in _things(wire):
        if isinstance(thing, ResponseHead):
            assert head is None, "two final heads"
            if not thing.is_interim:
                head = thing
                complete = not thing.has_body
        else:
            assert not hasattr(thing, "fault"), f"what went down is refused: {thing}"
            body.append(thing.data)
            complete, trailers = thing.ended, thing.trailers
    assert (head.status if head else 0) == actor.final
    old = actor.request.head is not None and not actor.request.head.minor_version
    assert not (old and head and head.framing is Framing.CHUNKED), "chunks for an old client"
    payload = b"".join(body)
    assert len(payload) == actor.exchange.outcome.response_bytes, "the log counts other bytes"
    assert not wire.buffered, "bytes came down that belong to no message"
    up = actor.ups[-1] if actor.ups else None
    from_upstream = up is not None and up.final is not None
    if from_upstream:
        assert head is not None
        assert head.status == up.final.status
        assert payload == b"".join(up.answer), "another body came down"
        if complete and head.framing is Framing.CHUNKED:
            assert trailers == hygiene.trailers(up.trailers)
    _ending(actor, head, complete=complete, whole=not from_upstream or up.answer_ended)
    if actor.sim.with_h11 and actor.request.head is not None:
        _h11_reads_response(actor.method, data, payload, closed=actor.fate is c.Fate.CLOSE)


def _things(wire: ResponseWire) -> Iterator[Any]:
    """What the wire has, a response that came whole as its head and its one part."""
    while (thing := wire.poll()) is not None:
        if isinstance(thing, Response):
            yield thing.head
            yield ResponsePart(thing.data, ended=True)
        else:
            yield thing


def _ending(actor: "Actor", head: Any, *, complete: bool, whole: bool) -> None:
    """A response is complete for its reader exactly if it is whole; where only the close tells
    that, an incomplete one is reset.
    """
    if head is None:
        assert actor.fate is c.Fate.ABORT, "finished in order without an answer"
        return
    if head.framing is Framing.CLOSE:
        assert actor.fate is not c.Fate.KEEP, "kept a connection whose close ends the body"
        complete = actor.fate is c.Fate.CLOSE
        assert whole or not complete, "half an answer can be taken for the whole"
        return
    left = actor.exchange.outcome.fault != "client_left" or actor.left
    assert left or not whole, "an answer was cut that its client waits for"
    assert complete == whole, "half an answer can be taken for the whole, or the reverse"
    assert whole or actor.fate is c.Fate.ABORT, "an incomplete answer was not aborted"


# --- the whole world ------------------------------------------------------------------------------


def slots(actors: list["Actor"], endpoints: list[Any], in_flight_max: int) -> None:
    """Every slot taken is held by exactly one attempt."""
    held: dict[Any, int] = {}
    for actor in actors:
        endpoint = actor.exchange.endpoint
        if endpoint is not None:
            held[endpoint] = held.get(endpoint, 0) + 1
            assert actor.up is not None, "a slot without an upstream"
            assert actor.up.endpoint is endpoint, "a slot of another endpoint"
    for endpoint in endpoints:
        assert endpoint.in_flight == held.get(endpoint, 0), f"{endpoint} leaks slots: {held}"
        assert endpoint.in_flight <= in_flight_max, f"{endpoint} has more in flight than it may"


def queue(pool: Pool, actors: list["Actor"]) -> None:
    """Who waits in the queue is an exchange that knows it."""
    for ticket in pool.queue:
        waiter = ticket.owner
        assert waiter.ticket is ticket, "a place in the queue that nobody holds"
        assert waiter.phase.value == "Q"
        assert waiter.hands.actor in actors


def nobody_sleeps(pool: Pool, now: Instant) -> None:
    """No waiter sleeps while there is a slot that it could use."""
    for ticket in pool.queue:
        if ticket.pool is not pool:
            continue  # of an earlier revision: its endpoints may not be here any more
        available = [each for each in pool.endpoints if each.available(now)]
        enabled = [each for each in pool.endpoints if each.spec.enabled]
        free = [each for each in available or enabled if each.in_flight < pool.spec.in_flight_max]
        assert not free, f"somebody waits while {free} are free"


# --- what another reader makes of it --------------------------------------------------------------


def _h11_reads_request(data: bytes, body: bytes, *, tunnel: bool) -> None:
    wire = h11.Connection(h11.SERVER)
    wire.receive_data(data)
    read = b""
    while (event := wire.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(event, h11.Data):
            read += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and not tunnel:
            assert not wire.trailing_data[0], "h11 finds bytes behind the request"
    assert read == body, "h11 reads another body"


def _h11_reads_response(method: bytes, data: bytes, body: bytes, *, closed: bool) -> None:
    wire = h11.Connection(h11.CLIENT)
    wire.send(h11.Request(method=method, target="/", headers=[("Host", "a.example")]))
    wire.send(h11.EndOfMessage())
    if data:
        wire.receive_data(data)
    if closed:
        wire.receive_data(b"")
    read = b""
    while True:
        event = wire.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            break
        if isinstance(event, h11.Data):
            read += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
    assert read == body, "h11 reads another body"


__all__ = ["RequestWire"]

"""The answer on its way down: interim heads, the final head, its body, its last bytes."""

from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core import hygiene
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamTaken,
    DownstreamTaking,
    UpstreamFull,
    UpstreamGone,
    UpstreamTaken,
)
from loomproxy.core.exchange import tunnel
from loomproxy.core.exchange.state import DATA, HEAD, LAST, TUNNEL, State
from loomproxy.core.http1.framing import chunk, last_chunk
from loomproxy.core.message import (
    CHUNKED,
    CLOSE,
    NONE,
    OK,
    SWITCHING_PROTOCOLS,
    Response,
    ResponseHead,
    ResponsePart,
)
from loomproxy.core.pace import is_too_slow
from loomproxy.core.units import Instant

INTERIM_RESPONSES_MAX: Final = 16
"""How many 1xx responses an upstream may send before its final one. Real ones send one or two."""


def on_response_head(x: State, head: ResponseHead, now: Instant) -> None:
    """The upstream speaks."""
    if head.status >= OK:
        _begin(x, head, now)
    elif head.status == SWITCHING_PROTOCOLS:
        tunnel.switch(x, head, now)
    else:
        _interim(x, head, now)


def _interim(x: State, head: ResponseHead, now: Instant) -> None:
    told_to_go_on = x.awaits_continue
    x.interims += 1
    if x.interims > INTERIM_RESPONSES_MAX:
        x.refuse(faults.UPSTREAM_MALFORMED, now)
    elif x.request.minor_version >= 1:  # RFC 9110 §15.2: a 1xx must not go to a 1.0 client.
        x.hands.head_down(head.status, x.head_for_client(head, NONE, keep=True))
        if told_to_go_on:
            x.deadline_at = x.owed_at(now)


def on_response(x: State, response: Response, now: Instant) -> None:
    """The upstream's whole answer."""
    data = response.data
    _final_head(x, response.head, now)
    x.outcome.response_bytes = len(data)
    x.hands.send_down(data)
    over(x, now)


def _begin(x: State, head: ResponseHead, now: Instant) -> None:
    """A final response begins."""
    _final_head(x, head, now)
    if head.framing is NONE:
        over(x, now)
    else:
        x.pace = None
        x.enter(DATA, now + x.patience_s(DATA))


def _final_head(x: State, head: ResponseHead, now: Instant) -> None:
    outcome, framing = x.outcome, head.framing
    outcome.answered_at = now
    outcome.status = head.status
    if framing is CLOSE or framing is CHUNKED:
        framing = CHUNKED if x.request.minor_version >= 1 else CLOSE
    x.down_framing = framing
    if framing is CLOSE or not x.client_body_ended or x.world.draining:
        x.keep = False
    x.upstream_keeps = head.keep_alive
    x.hands.head_down(head.status, x.head_for_client(head, framing, keep=x.keep))


def on_stalled(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing moves: the client's fault if it does not read, or still owes its request."""
    if x.up_paused:
        fault = faults.CLIENT_TAKE_TIMEOUT
    elif not (x.client_body_ended or x.up_full or x.awaits_continue):
        slow = x.pace is not None and x.pace.is_behind
        fault = faults.CLIENT_BODY_SLOW if slow else faults.CLIENT_BODY_TIMEOUT
    elif x.phase is HEAD:
        fault = faults.UPSTREAM_TIMEOUT
    else:
        fault = faults.UPSTREAM_STALLED
    x.fail(fault, now)


def on_response_part(x: State, part: ResponsePart, now: Instant) -> None:
    """Some of the answer's body: down it goes, in the framing that the client was told."""
    data = part.data
    x.outcome.response_bytes += len(data)
    if x.down_framing is CHUNKED:
        data = chunk(data) if data else b""
        if part.ended:
            data += _last_chunk(x, part)
    if data:
        x.hands.send_down(data)
    if part.ended:
        over(x, now)
    else:
        x.pace = None  # Both ways at once, one may be slow while the other moves.
        x.deadline_at = now + x.patience_s(DATA)


def _last_chunk(x: State, part: ResponsePart) -> bytes:
    assert x.route is not None
    return last_chunk(hygiene.trailers(part.trailers, hygiene.touched(x.route.response_ops)))


def over(x: State, now: Instant) -> None:
    """The upstream has said all; what is left is for the client to take it."""
    assert x.endpoint is not None, "an answer from nobody"
    x.endpoint.observe(None, now)
    # A connection that is still full of this request could not tell the next exchange so.
    x.let_go(reusable=x.upstream_keeps and x.client_body_ended and not x.up_full)
    x.forget_request()
    if x.hands.all_taken():
        x.leave(now)
    else:
        x.enter(LAST, now + x.timeouts.send_s)


def on_cut(x: State, event: UpstreamGone, now: Instant) -> None:
    """The upstream left in the middle of its answer."""
    x.cut(event.fault, now)


def on_downstream_full(x: State, _event: DownstreamFull, now: Instant) -> None:
    """The client reads too slowly: stop reading from the upstream."""
    if not x.up_paused:
        x.up_paused = True
        x.hands.pause_up()
        if x.phase is not TUNNEL:
            x.deadline_at = now + x.patience_s(x.phase)


def on_downstream_taken(x: State, _event: DownstreamTaken, now: Instant) -> None:
    """The client has taken everything so far: read on."""
    if x.up_paused:
        x.up_paused = False
        x.hands.resume_up()
        if x.phase is not TUNNEL:
            x.deadline_at = x.owed_at(now)


def on_upstream_full(x: State, _event: UpstreamFull, now: Instant) -> None:
    """The upstream reads too slowly: stop reading from the client, whose time stands still."""
    pace = x.pace
    if pace is not None:
        pace.hold(now)
        if pace.is_behind and not x.up_paused:  # It would have come too soon.
            x.deadline_at = x.owed_at(now)
    x.up_full = True
    x.balance_client()


def on_upstream_taken(x: State, _event: UpstreamTaken, now: Instant) -> None:
    """The upstream has taken everything so far: whoever must move next has its time from now."""
    x.up_full = False
    x.balance_client()
    if x.pace is not None:
        x.pace.go(now)
    if (x.pace is not None or x.phase is HEAD) and not x.up_paused:
        x.deadline_at = x.owed_at(now)


def on_taken(x: State, _event: DownstreamTaken, now: Instant) -> None:
    """The client has it all."""
    x.leave(now)


def on_taking(x: State, event: DownstreamTaking, now: Instant) -> None:
    """The client takes what it was sent, slowly: it has as long again for the rest.

    What is buffered between us can be megabytes, so the time for all of it would be a demand for
    speed, and cut every large answer of a client on a slow line.
    """
    timeouts = x.timeouts
    if is_too_slow(event.taken_bytes, timeouts.send_s, timeouts.send_bytes_min_per_s):
        x.cut(faults.CLIENT_TAKE_SLOW, now)
    else:
        x.deadline_at = now + timeouts.send_s


def on_take_timeout(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """The client does not take the end of its answer."""
    x.cut(faults.CLIENT_TAKE_TIMEOUT, now)

"""A chat's way to its provider: who may ask, the body as a whole, and who shall answer it.

    head ─► admitted? ─► 100 (Continue) ─► the body, part by part ─► whose model is it? ─► attempt
              │                              │ too large, too slow      │ nobody's
              └──────────────────────────────┴──────────────────────────┴─► an error in its dialect

Other requests go up as they come. The model of this one is somewhere in its body, so the body is
kept first, within bounds, in phase POLICY; the client owes it as any other, at no less than the
lowest speed. Who answers is decided by the snapshot of the moment in which the body is whole.
"""

from msgspec import structs

from loomproxy.core import answer
from loomproxy.core import fault as faults
from loomproxy.core.chat import catalogue, request
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.catalogue import Target
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.dialect import DIALECTS
from loomproxy.core.chat.head import lines_for_provider
from loomproxy.core.chat.provider import Provider
from loomproxy.core.chat.talk import Talk
from loomproxy.core.event import DeadlineExpired
from loomproxy.core.exchange.attempt import attempt
from loomproxy.core.exchange.state import Phase, State
from loomproxy.core.fault import Fault
from loomproxy.core.message import RequestHead, RequestPart, field
from loomproxy.core.pace import Pace
from loomproxy.core.replay import Replay
from loomproxy.core.route import Chat, Timeouts
from loomproxy.core.units import Instant
from loomproxy.core.world import CHAT_BYTES_MAX

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""For a client that waits to be told: nobody but us will read its body (RFC 9110 §10.1.1)."""


def begin(x: State, action: Chat, head: RequestHead, now: Instant) -> None:
    """The head of a chat is there."""
    dialect = DIALECTS[action.dialect]
    said = dialect.names_provider and b"stream=true" in head.query.split(b"&")  # Loom's way.
    chat = Talk(dialect, streams=action.streams or said)
    x.chat = chat
    x.table = x.CHAT_TABLE
    x.enter(Phase.POLICY, now + x.timeouts.idle_s)
    fault = _admit(x, head)
    if fault is not None:
        _complain(x, _in_words(fault), now)
    elif x.client_body_ended:
        _decide(x, chat, now)
    elif head.expect_continue:
        x.hands.head_down(100, CONTINUE)


def _admit(x: State, head: RequestHead) -> Fault | None:
    """Whether the client may ask at all, before a byte of its body is kept; None: it may.

    This is the place for keys and for limits of who holds them.
    """
    assert x.route is not None
    if head.method != b"POST":
        return faults.METHOD_NOT_ALLOWED
    if head.body_bytes > x.route.body_bytes_max:
        return faults.BODY_TOO_LARGE
    if (field(head.block, b"content-encoding") or b"identity").lower() != b"identity":
        return faults.CODING_OF_CHAT
    return None


def _in_words(fault: Fault) -> Complaint:
    said = "The method is not allowed here; use POST." if fault is faults.METHOD_NOT_ALLOWED else ""
    return complaints.of_fault(fault, said)


def on_part(x: State, part: RequestPart, now: Instant) -> None:
    """Some of the body: it is kept."""
    chat, outcome, route = x.chat, x.outcome, x.route
    assert chat is not None
    assert route is not None
    size = len(part.data)
    outcome.request_bytes += size
    x.client_body_ended = part.ended
    if outcome.request_bytes > route.body_bytes_max:
        _fail(x, faults.BODY_TOO_LARGE, now)
    elif not holds(x, chat, size):
        _fail(x, faults.BODY_UNAFFORDABLE, now)
    else:
        chat.body += part.data
        if part.ended:
            x.pace = None
            _decide(x, chat, now)
        else:
            _pace(x, size, now)
            x.deadline_at = x.owed_at(now)


def _pace(x: State, size: int, now: Instant) -> None:
    """Measure how fast the body comes."""
    timeouts = x.timeouts
    if x.pace is not None:
        x.pace.moved(size, now)
    elif timeouts.body_bytes_min_per_s:
        x.pace = Pace(timeouts.idle_s, timeouts.body_bytes_min_per_s, now)


def holds(x: State, chat: Talk, size: int) -> bool:
    """Count `size` more bytes that are kept for this chat; false: the worker has no room for them.

    They are counted until the exchange is over.
    """
    chat.held_bytes += size
    x.world.chat_bytes += size
    return x.world.chat_bytes <= CHAT_BYTES_MAX


def on_slow(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """The body stopped coming, or comes too slowly."""
    slow = x.pace is not None and x.pace.is_behind
    _fail(x, faults.CLIENT_BODY_SLOW if slow else faults.CLIENT_BODY_TIMEOUT, now)


def _fail(x: State, fault: Fault, now: Instant) -> None:
    assert x.chat is not None
    x.chat.body = bytearray()
    x.refuse(fault, now)


def _decide(x: State, chat: Talk, now: Instant) -> None:
    """The body is whole: find who answers it, and ask."""
    body = bytes(chat.body)
    chat.body = bytearray()
    asked = request.read(body, chat.dialect, streams=chat.streams)
    found = asked if isinstance(asked, Complaint) else _target(x, asked)
    if isinstance(found, Complaint) or isinstance(asked, Complaint):
        assert isinstance(found, Complaint)
        _complain(x, found, now)
        return
    provider = found.provider
    body = chat.decide(asked, found)
    chat.lines = lines_for_provider(x.request, x.outcome.request_id, b"%f" % now)
    x.outcome.pool = provider.pool
    x.timeouts = _timeouts(x.timeouts, provider)
    x.replay = Replay(len(body))
    x.replay.add(body)
    x.world.pools[provider.pool].budget.note_request(now)
    attempt(x, now)


def _target(x: State, asked: request.Asked) -> Target | Complaint:
    models: catalogue.Catalogue = x.world.snapshot.catalogue
    return (
        models.find_in(asked.provider, asked.model) if asked.provider else models.find(asked.model)
    )


def _timeouts(timeouts: Timeouts, provider: Provider) -> Timeouts:
    """Those of the provider, as far as it has a say."""
    return structs.replace(
        timeouts,
        connect_s=provider.connect_timeout_s,
        response_s=provider.request_timeout_s,
        idle_s=provider.idle_timeout_s,
    )


def _complain(x: State, said: Complaint, now: Instant) -> None:
    """Say no, in the dialect of the client."""
    assert x.chat is not None
    assert said.fault is not None, "a complaint of our own has a fault"
    x.blame(said.fault, now)
    x.reply(answer.complaint(said, x.chat.dialect, x.outcome.request_id), now)

"""One request and its response: the heart of the proxy, as phases in a table.

An exchange is told what happened (`handle(event, now)`) and asks its hands (`core.command`), in
order, for what is to be done about it. It opens no socket and reads no clock. The theory:

    REQUEST ──► POLICY ──► QUEUE ──► CONNECT ──► HEAD ──► DATA ──► LAST ──► DONE
                   │          ▲         │         │ │ │             ▲ ▲
                   │          └─────────┴── again ┘ │ └─► TUNNEL ───┼─┼──► DONE
                   │                                └── no body ────┘ │
                   └── answered by ourselves ─────────────────────────┘

* Each phase has exactly one deadline, set on entry, and moved only by progress in that phase.
* Every question (a connection, the house's answer, a place in the queue) has a number of its own;
  the answer names it, so an answer to an abandoned question is dropped.
* A connection that is idle is there at once: then nothing is waited for, and CONNECT is passed by.
* At most one upstream is held, from `open` to `release`, and it is released exactly once.
* At most one final head goes down. After it there is no other attempt and no other answer: what
  goes wrong then can only cut the connection, so that nobody takes the response for a complete one.
* What is held is bounded: request parts are kept for another attempt up to `replay_bytes_max`;
  beyond that the client is paused until an upstream takes them.
* The finish happens exactly once, last, and carries the outcome.

A chat passes the same phases, and is told differently in three of them: in POLICY it keeps its body
until that tells who shall answer, in HEAD and DATA it looks into the answer.

`TABLE` says which event is heard in which phase, `CHAT_TABLE` which of a chat. What is in `IGNORED`
may come late in any phase and means nothing there; anything else that is not in the table is a bug
of ours, and an assertion.
"""

from typing import ClassVar, Final

from loomproxy.core.event import (
    Answered,
    DeadlineExpired,
    DownstreamFull,
    DownstreamGone,
    DownstreamTaken,
    DownstreamTaking,
    DrainExpired,
    Event,
    HalfClosed,
    Opened,
    OpenFailed,
    RequestBroken,
    SlotFreed,
    TunnelData,
    UpstreamFull,
    UpstreamGone,
    UpstreamTaken,
)
from loomproxy.core.exchange import (
    answering,
    asking,
    attempt,
    chat_answering,
    chat_asking,
    leaving,
    tunnel,
)
from loomproxy.core.exchange.state import Phase, State, Step, Table
from loomproxy.core.message import (
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)
from loomproxy.core.units import Instant

IGNORED: Final = frozenset(
    (
        *(Opened, OpenFailed, SlotFreed, Answered),
        *(DeadlineExpired, DownstreamFull, DownstreamTaken, UpstreamFull, UpstreamTaken),
        HalfClosed,
    )
)
"""What may come late in any phase and means nothing there."""

_ANYWHERE: Final[dict[type, Step]] = {
    DownstreamGone: leaving.on_client_gone,
    DrainExpired: leaving.on_drain_expired,
    HalfClosed: leaving.on_client_fin,
}
_ASKING: Final[dict[type, Step]] = {
    **_ANYWHERE,
    RequestPart: asking.on_request_part,
    RequestBroken: asking.on_request_broken,
}
_HOLDING: Final[dict[type, Step]] = {
    UpstreamFull: answering.on_upstream_full,
    UpstreamTaken: answering.on_upstream_taken,
    DownstreamFull: answering.on_downstream_full,
    DownstreamTaken: answering.on_downstream_taken,
    DownstreamTaking: answering.on_taking,
}

TABLE: Final[Table] = {
    Phase.REQUEST: {
        RequestHead: asking.on_request,
        RequestBroken: asking.on_refused_head,
    },
    Phase.POLICY: {
        **_ASKING,
        RequestPart: asking.ignore_part,
        Answered: asking.on_answered,
        DeadlineExpired: asking.on_service_timeout,
    },
    Phase.QUEUE: {
        **_ASKING,
        SlotFreed: attempt.on_slot_freed,
        DeadlineExpired: attempt.on_queue_timeout,
    },
    Phase.CONNECT: {
        **_ASKING,
        Opened: attempt.on_opened,
        OpenFailed: attempt.on_open_failed,
        DeadlineExpired: attempt.on_connect_timeout,
    },
    Phase.HEAD: {
        **_ASKING,
        **_HOLDING,
        Response: answering.on_response,
        ResponseHead: answering.on_response_head,
        UpstreamGone: attempt.on_upstream_gone,
        DeadlineExpired: answering.on_stalled,
    },
    Phase.DATA: {
        **_ASKING,
        **_HOLDING,
        ResponsePart: answering.on_response_part,
        UpstreamGone: answering.on_cut,
        DeadlineExpired: answering.on_stalled,
    },
    Phase.LAST: {
        **_ANYWHERE,
        RequestPart: asking.ignore_part,
        RequestBroken: asking.ignore_broken,
        DownstreamTaken: answering.on_taken,
        DownstreamTaking: answering.on_taking,
        DeadlineExpired: answering.on_take_timeout,
    },
    Phase.TUNNEL: {
        **_ANYWHERE,
        **_HOLDING,
        DownstreamTaking: tunnel.on_taking,
        TunnelData: tunnel.on_data,
        HalfClosed: tunnel.on_fin,
        UpstreamGone: tunnel.on_gone,
        DeadlineExpired: tunnel.on_idle,
    },
    Phase.DONE: {},
}
"""Which event is heard in which phase."""

CHAT_TABLE: Final[Table] = {
    Phase.POLICY: {
        **_ASKING,
        RequestPart: chat_asking.on_part,
        DownstreamTaking: chat_asking.on_slow,
        DeadlineExpired: chat_asking.on_slow,
    },
    Phase.QUEUE: {
        **_ANYWHERE,
        SlotFreed: attempt.on_slot_freed,
        DownstreamTaking: attempt.on_queue_timeout,
        DeadlineExpired: attempt.on_queue_timeout,
    },
    Phase.CONNECT: {
        **_ANYWHERE,
        Opened: attempt.on_opened,
        OpenFailed: attempt.on_open_failed,
        DownstreamTaking: attempt.on_connect_timeout,
        DeadlineExpired: attempt.on_connect_timeout,
    },
    Phase.HEAD: {
        **_ANYWHERE,
        UpstreamFull: answering.on_upstream_full,
        UpstreamTaken: answering.on_upstream_taken,
        Response: chat_answering.on_response,
        ResponseHead: chat_answering.on_response_head,
        UpstreamGone: attempt.on_upstream_gone,
        DownstreamTaking: chat_answering.on_stalled,
        DeadlineExpired: chat_answering.on_stalled,
    },
    Phase.DATA: {
        **_ANYWHERE,
        **_HOLDING,
        DownstreamTaken: chat_answering.on_downstream_taken,
        ResponsePart: chat_answering.on_response_part,
        UpstreamGone: chat_answering.on_gone,
        DeadlineExpired: chat_answering.on_stalled,
    },
    Phase.LAST: TABLE[Phase.LAST],
    Phase.DONE: {},
}
"""Which event a chat hears, once its head was read.

Its body is whole before it leaves POLICY. And it was told to go on, perhaps: a client that does not
take even that has its time as if it took nothing.
"""


class Exchange(State):
    """One request and its response.

    Nothing is told from within `handle`, nor after `finish`.
    After each event `deadline_at` says when to tell `DeadlineExpired`.
    """

    __slots__ = ()

    TABLE: ClassVar[Table] = TABLE
    CHAT_TABLE: ClassVar[Table] = CHAT_TABLE

    def handle(self, event: Event, now: Instant) -> None:
        """Take one event, and ask the hands for what is to be done about it."""
        step = self.table[self.phase].get(type(event))
        if step is not None:
            step(self, event, now)
        else:
            kind = type(event)
            assert kind in IGNORED, f"{kind.__name__} in phase {self.phase.name}"


__all__ = ["CHAT_TABLE", "IGNORED", "TABLE", "Exchange", "Phase"]

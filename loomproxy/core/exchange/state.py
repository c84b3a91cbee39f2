"""The state of one exchange, and the moves that every phase shares.

The other modules of this package hold the handlers of the phases, as functions of a `State`; the
table that says which event is heard where is in `loomproxy.core.exchange` itself, with the theory.
"""

import enum
from collections.abc import Callable
from typing import Any, ClassVar, Final

from loomproxy.core import answer, hygiene
from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.talk import Talk
from loomproxy.core.command import Fate, Hands
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.fault import Fault
from loomproxy.core.hygiene import Peer
from loomproxy.core.message import NONE, Framing, RequestHead, ResponseHead
from loomproxy.core.outcome import Outcome
from loomproxy.core.pace import Pace
from loomproxy.core.pool import Pool, Ticket
from loomproxy.core.replay import Replay
from loomproxy.core.route import Route
from loomproxy.core.units import NEVER, Instant
from loomproxy.core.world import World


class Phase(enum.Enum):
    """Where an exchange is; the value is the second termination letter."""

    REQUEST = "R"
    POLICY = "P"
    QUEUE = "Q"
    CONNECT = "C"
    HEAD = "H"
    DATA = "D"
    LAST = "L"
    TUNNEL = "T"
    DONE = "-"

    __hash__ = object.__hash__  # Members are singletons; enum's own is a Python function.


# Bound once: reading a member through its class costs as much as a call.
REQUEST: Final = Phase.REQUEST
HEAD: Final = Phase.HEAD
DATA: Final = Phase.DATA
LAST: Final = Phase.LAST
TUNNEL: Final = Phase.TUNNEL
DONE: Final = Phase.DONE
KEEP: Final = Fate.KEEP
CLOSE: Final = Fate.CLOSE

Step = Callable[[Any, Any, Instant], None]  # type: ignore[explicit-any] # each event its handler
"""What is done about one kind of event in one phase: change the state, ask the hands."""

Table = dict[Phase, dict[type, Step]]
"""Which event is heard in which phase."""


NO_REQUEST: Final = RequestHead(
    method=b"-",
    target=b"-",
    path=b"-",
    query=b"",
    minor_version=1,
    authority=b"",
    host=b"",
    framing=NONE,
    body_bytes=0,
    keep_alive=False,
    expect_continue=False,
    upgrade=b"",
    nominated=(),
    block=b"",
)
"""Stands for a request that could not be read."""


class State:
    """What one exchange knows, and the moves that every phase shares.

    Made with the worker's `world`, the `peer` who asks, the `hands` that do what is asked for,
    `fresh_id` for a request that brings no id of its own, and `may_keep`: whether the client's
    connection may carry another exchange.
    """

    TABLE: ClassVar[Table] = {}
    CHAT_TABLE: ClassVar[Table] = {}
    """Given by the exchange itself: what it hears, and what it hears once it is a chat."""

    __slots__ = (
        *("table", "chat"),
        *("world", "snapshot", "peer", "hands", "outcome", "phase", "deadline_at", "ask"),
        *("request", "route", "timeouts", "replay", "client_body_ended", "client_paused", "keep"),
        *("pool", "endpoint", "ticket", "tried", "fresh", "reused", "holding", "up_full"),
        *("interims", "down_framing", "upstream_keeps", "up_paused", "upgrading", "shut", "pace"),
    )

    def __init__(
        self, world: World, peer: Peer, hands: Hands, *, fresh_id: bytes, may_keep: bool
    ) -> None:
        self.table = self.TABLE
        self.chat: Talk | None = None  # what there is to know of it, if it is one
        self.world = world
        self.snapshot = world.snapshot  # kept to the end, whatever is published meanwhile
        self.peer = peer
        self.hands = hands
        self.outcome = Outcome(fresh_id, peer.ip, None)
        self.phase = REQUEST
        self.deadline_at = NEVER  # of the phase; its owner looks at it after each event
        self.ask = 0  # the number of the question that was asked last
        # The request.
        self.request = NO_REQUEST
        self.route: Route | None = None
        self.timeouts = world.snapshot.timeouts  # until there is a route
        self.replay: Replay | None = None  # of its body, if it has one
        self.client_body_ended = True
        self.client_paused = False
        self.pace: Pace | None = None  # while some of the body came, and more is owed
        self.keep = may_keep  # the client's connection may carry another exchange
        # The attempt.
        self.pool: Pool | None = None
        self.endpoint: Endpoint | None = None  # whose slot we have
        self.ticket: Ticket | None = None  # our place in the queue
        self.tried: tuple[Endpoint, ...] = ()
        self.fresh = False  # no reused connection any more
        self.reused = False
        self.holding = False  # an upstream, between `open` and `release`
        self.up_full = False
        # The answer.
        self.interims = 0
        self.down_framing = NONE
        self.upstream_keeps = False
        self.up_paused = False
        self.upgrading = False
        self.shut = 0  # which sides of a tunnel said FIN

    def enter(self, phase: Phase, deadline_at: Instant) -> None:
        """Go to `phase`: whatever was asked before is abandoned, and its one deadline is set."""
        self.phase = phase
        self.deadline_at = deadline_at

    def values(self) -> hygiene.Values:
        """What the placeholders of header operations stand for."""
        outcome, head, route = self.outcome, self.request, self.route
        assert route is not None, "operations without a route"
        return hygiene.Values(
            client_ip=outcome.client_ip,
            request_id=outcome.request_id,
            host=head.authority,
            scheme=self.peer.scheme,
            path=head.path,
            route=route.name.encode(),
        )

    def head_for_client(self, head: ResponseHead, framing: Framing, *, keep: bool) -> bytes:
        """A head of the upstream's, as the client shall see it."""
        route = self.route
        assert route is not None, "an upstream answered a request without a route"
        return hygiene.response_down(
            head,
            self.request,
            policy=self.snapshot.policy,
            ops=route.response_ops,
            keep_alive=keep,
            framing=framing,
            request_id=self.outcome.request_id,
            values=self.values,
            date=self.world.date,
        )

    def blame(self, fault: Fault, now: Instant) -> None:
        """Write down what went wrong, and where; the first fault is the one that counts."""
        outcome = self.outcome
        if not outcome.fault:
            outcome.fault = fault.name
            outcome.termination = fault.letter + self.phase.value
            outcome.listener = self.peer.listener
        lost_race = self.reused and fault.again is faults.Again.IF_REUSED  # nobody's failure
        if fault.side is faults.Side.UPSTREAM and self.endpoint is not None and not lost_race:
            self.endpoint.observe(fault, now)

    def fail(self, fault: Fault, now: Instant) -> None:
        """Say what went wrong where that can still be said and heard, else end it."""
        if self.outcome.status or not fault.status:
            self.cut(fault, now)
        else:
            self.refuse(fault, now)

    def refuse(self, fault: Fault, now: Instant) -> None:
        """Answer for whoever failed; only while no final head went down."""
        self.blame(fault, now)
        self.let_go()
        request_id = self.outcome.request_id
        if self.chat is None:
            self.reply(answer.refusal(fault, self.request, request_id), now)
        else:
            said = complaints.of_fault(fault)
            self.reply(answer.complaint(said, self.chat.dialect, request_id), now)

    def reply(self, reply: answer.Answer, now: Instant) -> None:
        """Give an answer of our own; the last thing to do but for the client to take it."""
        outcome = self.outcome
        assert not outcome.status, "a second final answer"
        outcome.status = reply.status
        outcome.answered_at = outcome.answered_at or now  # A chat's provider may have done before.
        self.keep = self.keep and self.client_body_ended and not self.world.draining
        data = answer.render(
            reply,
            self.request,
            policy=self.snapshot.policy,
            keep_alive=self.keep,
            request_id=outcome.request_id,
            date=self.world.date,
        )
        outcome.response_bytes = len(data.partition(b"\r\n\r\n")[2])
        self.hands.head_down(reply.status, data)
        self.forget_request()
        if self.hands.all_taken():
            self.leave(now)
        else:
            self.enter(LAST, now + self.timeouts.send_s)

    def cut(self, fault: Fault, now: Instant) -> None:
        """Nothing can be said any more: end it, so that nobody takes it for complete."""
        self.blame(fault, now)
        self.let_go()
        self.finish(Fate.ABORT, now)

    def let_go(self, *, reusable: bool = False) -> None:
        """Leave the pool: give back the connection and the slot, or the place in the queue."""
        if self.holding:
            self.holding = False
            self.up_paused = self.up_full = False
            self.hands.release(reusable=reusable)
            if self.client_paused:
                self.balance_client()
        pool = self.pool
        if pool is None:
            return
        woken: Ticket | None = None
        if self.endpoint is not None:
            woken = pool.give_back(self.endpoint)
            self.endpoint = None
        elif self.ticket is not None:
            woken = pool.cancel(self.ticket)
            self.ticket = None
        if woken is not None:
            self.hands.wake(woken)

    def balance_client(self) -> None:
        """Read from the client as fast as the upstream takes it, no faster."""
        replay = self.replay
        pause = self.up_full or (replay is not None and replay.over)
        if pause is not self.client_paused:
            self.client_paused = pause
            if pause:
                self.hands.pause_down()
            else:
                self.hands.resume_down()

    def forget_request(self) -> None:
        """No upstream will want the request any more: hold nothing, and read the client on.

        Many a client reads its answer only when it has sent everything, so what still comes of the
        request is read and dropped.
        """
        self.replay = None
        if self.client_paused:
            self.balance_client()

    def forget_chat(self) -> None:
        """What was kept of a chat is kept no more: there is room for others."""
        chat = self.chat
        if chat is not None:
            self.world.chat_bytes -= chat.held_bytes
            chat.held_bytes = 0

    @property
    def awaits_continue(self) -> bool:
        """Whether the client may wait for a word of the upstream before it sends its body.

        RFC 9110 §10.1.1: a server that was sent the expectation owes a 100 or a final answer. After
        a final one without it the client owes no body, either.
        """
        return self.request.expect_continue and not (self.interims or self.outcome.request_bytes)

    def patience_s(self, phase: Phase) -> float:
        """How long nothing may move in HEAD or DATA: who must move next decides."""
        if self.up_paused:
            return self.timeouts.send_s
        if phase is HEAD and (self.client_body_ended or self.awaits_continue):
            return self.timeouts.response_s
        return self.timeouts.idle_s

    def owed_at(self, now: Instant) -> Instant:
        """Until when nothing may move in HEAD or DATA; a slow client's body must come sooner."""
        wait_at = now + self.patience_s(self.phase)
        return wait_at if self.pace is None else min(wait_at, self.pace.deadline_at)

    def leave(self, now: Instant) -> None:
        """All is said and taken."""
        self.finish(KEEP if self.keep and self.client_body_ended else CLOSE, now)

    def finish(self, fate: Fate, now: Instant) -> None:
        """Say the last word; the client is read again, for its next request or its close."""
        self.forget_request()
        if self.chat is not None:
            self.forget_chat()
            self.outcome.chat = self.chat.spent()
        self.outcome.ended_at = now
        self.enter(DONE, NEVER)
        self.hands.finish(self.outcome, fate)

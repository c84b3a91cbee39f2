"""Seeded bugs: each a small change of the exchange, of what it keeps or of the pool.

A simulator that catches none of them would prove nothing by being green. A bug is put in by giving
a function the code of its changed source, so that everybody who holds the function has the bug.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final

from loomproxy.core.exchange import answering, asking, attempt, leaving, tunnel
from loomproxy.core.exchange.state import State
from loomproxy.core.pool import Pool
from loomproxy.core.replay import Replay
from loomproxy.core.retry import may_repeat
from tests.sim.world import Broken, Sim

WORLDS_MAX: Final = 3000
"""So many worlds must be enough to catch any of them."""


class Mutant:
    """One seeded bug."""

    def __init__(self, name: str, function: Callable[..., Any], old: str, new: str) -> None:
        self.name = name
        self.function = function
        self.old = old
        self.new = new

    def __repr__(self) -> str:
        return self.name

    @contextlib.contextmanager
    def at_large(self) -> Iterator[None]:
        """The bug is in, and out again."""
        function = self.function
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.name}: its place in the source is gone"
        space: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), self.name, "exec", dont_inherit=True)
        exec(code, function.__globals__, space)  # the sources are ours
        sound = function.__code__
        function.__code__ = space[function.__name__].__code__
        try:
            yield
        finally:
            function.__code__ = sound

    def caught_by(self) -> Broken | None:
        """What the first world says that notices; None when none does."""
        with self.at_large():
            for seed in range(WORLDS_MAX):
                try:
                    Sim(seed).run()
                except Broken as broken:
                    return broken
        return None


MUTANTS: Final = (
    # One upstream at most, released exactly once.
    Mutant("a client that leaves keeps its upstream", State.cut, "self.let_go()", "pass"),
    Mutant("a refusal keeps its upstream", State.refuse, "self.let_go()", "pass"),
    Mutant(
        "another attempt without releasing the last",
        State.let_go,
        "self.hands.release(reusable=reusable)",
        "self.phase is Phase.CONNECT or self.hands.release(reusable=reusable)",
    ),
    Mutant(
        "a slot is given back twice",
        tunnel.on_fin,
        "x.let_go()",
        "e = x.endpoint; x.let_go(); x.pool.give_back(e)",
    ),
    Mutant(
        "a slot is never given back", State.let_go, "woken = pool.give_back(self.endpoint)", "pass"
    ),
    Mutant(
        "a connection with half a request is used again",
        answering.over,
        "reusable=x.upstream_keeps and x.client_body_ended and not x.up_full",
        "reusable=x.upstream_keeps",
    ),
    Mutant(
        "a connection that its peer closes is used again",
        answering.over,
        "reusable=x.upstream_keeps and ",
        "reusable=",
    ),
    # Questions and answers.
    Mutant(
        "a connection of an abandoned question is believed",
        attempt.on_opened,
        "event.ask == x.ask",
        "True",
    ),
    Mutant(
        "a failure of an abandoned question is believed",
        attempt.on_open_failed,
        "event.ask == x.ask",
        "True",
    ),
    Mutant(
        "an attempt keeps the number of the last question",
        attempt.attempt,
        "x.ask += 1",
        "x.ask = 1",
    ),
    # Attempts.
    Mutant("an unsafe request goes again", may_repeat, "reused and method in IDEMPOTENT", "reused"),
    Mutant(
        "a request goes again on a new connection", may_repeat, "reused and method in", "method in"
    ),
    Mutant("no end of attempts", may_repeat, "attempts >= policy.attempts_max or ", ""),
    Mutant(
        "a request goes again after an interim answer",
        attempt._failed,
        " and not x.interims",
        "",
    ),
    Mutant(
        "a request goes again whose beginning is gone",
        attempt._failed,
        "(replay is None or replay.whole) and ",
        "",
    ),
    Mutant("another attempt without its beginning", Replay.rewind, "self._sent = 0", "pass"),
    Mutant(
        "what was too large to keep is kept",
        Replay.take,
        "if self.over or not self.whole:",
        "if False:",
    ),
    Mutant(
        "a lost race runs again on a reused connection", attempt._failed, "x.fresh = True", "pass"
    ),
    # Waiting.
    Mutant("who frees a slot wakes nobody", State.let_go, "self.hands.wake(woken)", "pass"),
    Mutant(
        "who leaves the queue keeps its place",
        State.let_go,
        "woken = pool.cancel(self.ticket)",
        "pass",
    ),
    Mutant(
        "who was called and leaves lets the call die",
        Pool.cancel,
        "return self._first_waiter(freed)",
        "return None",
    ),
    Mutant(
        "the waiting time begins again with each call",
        attempt._wait,
        "pool.wait_again(x.ticket)",
        "pool.wait_again(x.ticket); x.enter(Phase.QUEUE, Instant(now + x.timeouts.queue_s))",
    ),
    Mutant(
        "more in flight than allowed", Pool.choose, "endpoint.in_flight < in_flight_max", "True"
    ),
    # Answers.
    Mutant(
        "an answer that is not taken yet is over",
        answering.over,
        "x.hands.all_taken()",
        "True",
    ),
    Mutant(
        "the final head goes down twice",
        answering._final_head,
        "x.upstream_keeps = head.keep_alive",
        "x.upstream_keeps = head.keep_alive; x.hands.head_down(200, b'HTTP/1.1 200 OK')",
    ),
    Mutant("a cut answer ends in order", State.cut, "Fate.ABORT", "Fate.CLOSE"),
    Mutant(
        "the last chunk is forgotten",
        answering.on_response_part,
        "data += _last_chunk(x, part)",
        "pass",
    ),
    Mutant(
        "an old client gets chunks", answering._final_head, "x.request.minor_version >= 1", "True"
    ),
    Mutant(
        "an old client hears interim answers",
        answering._interim,
        "x.request.minor_version >= 1",
        "True",
    ),
    Mutant(
        "kept after a body that ends by close",
        answering._final_head,
        "framing is CLOSE or not",
        "not",
    ),
    Mutant(
        "kept with half a request unread",
        State.leave,
        "self.keep and self.client_body_ended",
        "True",
    ),
    Mutant("a fault without a status is answered", State.fail, " or not fault.status", ""),
    Mutant(
        "a stop of the upload cuts the answer to it",
        leaving.on_client_fin,
        " and x.phase is not Phase.LAST",
        "",
    ),
    # Deadlines.
    Mutant(
        "an upstream is blamed for what its client owes",
        answering.on_stalled,
        "not (x.client_body_ended or",
        "not (True or",
    ),
    Mutant(
        "an upstream is blamed for a client that does not read",
        answering.on_stalled,
        "if x.up_paused:",
        "if False:",
    ),
    Mutant(
        "a client is blamed for an upstream that does not read",
        answering.on_stalled,
        " or x.up_full",
        "",
    ),
    Mutant(
        "a client that waits for 100 is blamed for the upstream's silence",
        answering.on_stalled,
        " or x.awaits_continue",
        "",
    ),
    Mutant(
        "no deadline for the next phase",
        State.enter,
        "self.deadline_at = deadline_at",
        "self.deadline_at = deadline_at if phase is not Phase.LAST else self.deadline_at",
    ),
    Mutant(
        "the deadline outlives its exchange",
        State.finish,
        "self.enter(DONE, NEVER)",
        "self.enter(DONE, now)",
    ),
    Mutant(
        "a deadline that nothing moves",
        answering.on_response_part,
        "now + x.patience_s(DATA)",
        "now + 1e9",
    ),
    Mutant(
        "a body that trickles holds its exchange for ever",
        asking._pace,
        "pace.moved(len(part.data), now)",
        "x.pace = None",
    ),
    Mutant(
        "a client pays for an upstream that does not read",
        answering.on_upstream_full,
        "pace.hold(now)",
        "pass",
    ),
    Mutant(
        "a client that was held back has for ever",
        answering.on_upstream_taken,
        "x.pace.go(now)",
        "pass",
    ),
    Mutant(
        "a client that is slow is said to have stopped",
        answering.on_stalled,
        "x.pace.is_behind",
        "False",
    ),
    Mutant(
        "a client that takes a byte now and then is waited for",
        answering.on_taking,
        "x.cut(faults.CLIENT_TAKE_SLOW, now)",
        "x.deadline_at = now + timeouts.send_s",
    ),
    # Backpressure.
    Mutant(
        "the client is never read again",
        State.balance_client,
        "if pause is not self.client_paused:",
        "if pause and not self.client_paused:",
    ),
    Mutant(
        "the client stays paused under its answer",
        State.forget_request,
        "self.balance_client()",
        "pass",
    ),
    Mutant(
        "the client stays paused for the next attempt",
        State.let_go,
        "self.balance_client()",
        "pass",
    ),
    Mutant(
        "the upstream is never read again",
        answering.on_downstream_taken,
        "x.hands.resume_up()",
        "pass",
    ),
    Mutant(
        "a slow client does not slow the upstream",
        answering.on_downstream_full,
        "x.hands.pause_up()",
        "pass",
    ),
    Mutant("what is held has no bound", State.balance_client, "replay.over", "False"),
    # The log.
    Mutant(
        "the log has the moments of an earlier attempt",
        attempt.attempt,
        "outcome.opened_at = NO_MOMENT",
        "pass",
    ),
    Mutant("the last fault hides the first", State.blame, "if not outcome.fault:", "if True:"),
    Mutant(
        "bytes of the body are counted late",
        asking.on_request_part,
        "outcome.request_bytes += len(part.data)",
        "outcome.request_bytes += 0",
    ),
    Mutant(
        "it finishes twice",
        State.finish,
        "self.hands.finish(self.outcome, fate)",
        "self.hands.finish(self.outcome, fate); self.hands.finish(self.outcome, fate)",
    ),
)

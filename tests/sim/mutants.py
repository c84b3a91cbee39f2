"""Seeded bugs: each a small change of the exchange, of what it keeps or of the pool.

A simulator that catches none of them would prove nothing by being green. A bug is put in by giving
a function the code of its changed source, so that everybody who holds the function has the bug.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final

from loomproxy.core.exchange import Exchange, answering, asking, attempt, leaving, tunnel
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
        "self.out.append(RELEASE_REUSABLE if reusable else RELEASE)",
        "self.out += [RELEASE] if self.phase is not Phase.CONNECT else []",
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
        answering._over,
        "reusable=x.upstream_keeps and x.client_body_ended and not x.up_full",
        "reusable=x.upstream_keeps",
    ),
    Mutant(
        "a connection that its peer closes is used again",
        answering._over,
        "reusable=x.upstream_keeps and ",
        "reusable=",
    ),
    # Questions and answers.
    Mutant("late answers are believed", Exchange.handle, "event.ask != self.ask", "False"),
    Mutant(
        "a phase keeps the number of the last question",
        State.enter,
        "self.ask += 1",
        "self.ask = 1",
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
        "replay.whole and not x.interims",
        "replay.whole",
    ),
    Mutant(
        "a request goes again whose beginning is gone",
        attempt._failed,
        "replay.whole and not x.interims",
        "not x.interims",
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
    Mutant("who frees a slot wakes nobody", State.let_go, "self.out.append(Wake(woken))", "pass"),
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
        "the final head goes down twice",
        answering._begin,
        "x.upstream_keeps = head.keep_alive",
        "x.upstream_keeps = head.keep_alive; x.out.append(HeadDown(200, b'HTTP/1.1 200 OK'))",
    ),
    Mutant("a cut answer ends in order", State.cut, "Fate.ABORT", "Fate.CLOSE"),
    Mutant(
        "the last chunk is forgotten",
        answering.on_response_part,
        "data += last_chunk(hygiene.trailers(part.trailers))",
        "pass",
    ),
    Mutant("an old client gets chunks", answering._begin, "x.request.minor_version >= 1", "True"),
    Mutant(
        "an old client hears interim answers",
        answering._interim,
        "x.request.minor_version >= 1",
        "True",
    ),
    Mutant(
        "kept after a body that ends by close",
        answering._begin,
        "framing is Framing.CLOSE or not",
        "not",
    ),
    Mutant(
        "kept with half a request unread",
        answering.on_taken,
        "x.keep and x.client_body_ended",
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
        "self.out.append(SetDeadline(deadline_at))",
        "self.out += [SetDeadline(deadline_at)] if phase is not Phase.LAST else []",
    ),
    Mutant(
        "the deadline outlives its exchange",
        State.finish,
        "self.enter(Phase.DONE, NEVER)",
        "self.enter(Phase.DONE, now)",
    ),
    Mutant(
        "a deadline that nothing moves",
        answering.on_response_part,
        "now + x.patience_s(Phase.DATA)",
        "now + 1e9",
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
        "x.out.append(RESUME_UP)",
        "pass",
    ),
    Mutant(
        "a slow client does not slow the upstream",
        answering.on_downstream_full,
        "x.out.append(PAUSE_UP)",
        "pass",
    ),
    Mutant("what is held has no bound", State.balance_client, "replay.over", "False"),
    # The log.
    Mutant(
        "the log has the moments of an earlier attempt",
        attempt.attempt,
        "outcome.opened_at = Instant(0.0)",
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
        "self.out.append(Finish(self.outcome, fate))",
        "self.out += [Finish(self.outcome, fate)] * 2",
    ),
)

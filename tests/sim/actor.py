"""One exchange on the stage of the simulator: its client, its shell, and whom it talks to.

The shell of the model performs what was asked for in order, puts what happens meanwhile into an
inbox, and hears nothing of an upstream after its release. Answers may come late on purpose.
"""

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any, Final

from loomproxy.core import event as e
from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.units import NEVER, Instant
from tests import commands as c
from tests.sim import checkers
from tests.sim.client import Request
from tests.sim.settings import PEER
from tests.sim.upstream import Upstream

if TYPE_CHECKING:
    from tests.sim.world import Sim

DOWNSTREAM_FULL: Final = e.DownstreamFull()
DOWNSTREAM_TAKEN: Final = e.DownstreamTaken()
UPSTREAM_FULL: Final = e.UpstreamFull()
UPSTREAM_TAKEN: Final = e.UpstreamTaken()
FIN_OF_CLIENT: Final = e.HalfClosed(from_downstream=True)
FIN_OF_UPSTREAM: Final = e.HalfClosed(from_downstream=False)


class Hands(c.Scribe):
    """What is asked of them is written down and performed afterwards; what is there at once is not
    a matter of the exchange's.
    """

    def __init__(self, actor: "Actor") -> None:
        super().__init__()
        self.actor = actor

    def open(self, ask: int, endpoint: Endpoint, *, fresh: bool) -> bool:
        self.idle = self.actor.dice.random() < self.actor.sim.troubles.reused
        return super().open(ask, endpoint, fresh=fresh)

    def head_down(self, status: int, data: bytes) -> None:
        self.actor.may_fill()
        super().head_down(status, data)

    def send_down(self, data: bytes) -> None:
        self.actor.may_fill()
        super().send_down(data)

    def all_taken(self) -> bool:
        return not self.actor.down_full


class Actor:
    """One exchange, and everybody around it."""

    def __init__(self, sim: "Sim", number: int) -> None:
        dice = sim.dice
        self.sim = sim
        self.dice: Random = dice
        self.number = number
        self.request = Request(dice, quiet=sim.quiet, favourite=sim.favourite)
        self.method = self.request.method
        self.may_keep = dice.random() < 0.9
        self.hands = Hands(self)
        self.exchange = c.Staged(
            sim.world, PEER, self.hands, fresh_id=b"id-%d" % number, may_keep=self.may_keep
        )
        # The shell.
        self.inbox: deque[Any] = deque()
        self.deadline_at: Instant = NEVER
        self.up: Upstream | None = None
        self.ups: list[Upstream] = []
        self.asked: int | None = None  # the house
        self.called = False  # by a wake that is still on its way
        self.late: list[Any] = []
        self.fate: c.Fate | None = None
        # The client.
        self.paused = False
        self.down: list[bytes] = []
        self.down_full = False
        self.final = 0
        self.said_close = False
        self.draining_at_head = False
        self.told_bytes = 0
        self.told_ended = self.request.head is not None and not self.request.reads
        self.broken = False
        self.fin = False
        self.left = False
        self.tunnel = False
        self.tunnel_fins = 0
        self.phase_of_fault = ""

    def begin(self) -> None:
        """The request comes."""
        if self.request.refused is not None:
            self.broken = True
            self.tell(e.RequestBroken(self.request.refused))
        else:
            self.tell(self.request.head)

    # --- the shell --------------------------------------------------------------------------------

    def tell(self, event: Any) -> None:
        """Let the exchange know, and perform what it asks for."""
        self.inbox.append(event)
        inbox = self.inbox
        while inbox:
            event = inbox.popleft()
            if self.fate is not None:
                continue
            self._handle(event)
        if self.fate is None:
            checkers.settled(self)

    def _handle(self, event: Any) -> None:
        exchange, sim = self.exchange, self.sim
        before = exchange.phase.value
        failed = exchange.outcome.fault
        stalls = checkers.who_stalls(self) if type(event) is e.DeadlineExpired else ""
        sim.rows.add((before, type(event)))
        exchange.handle(event, sim.now)
        commands = self.hands.take()
        sim.trace.append((sim.now, self.number, event, commands))
        sim.events += 1
        if exchange.outcome.fault != failed:
            assert not failed, "a later fault hides the first"
            self.phase_of_fault = self._phase_of_fault(before)
            assert not stalls or exchange.outcome.fault == stalls, f"{stalls} is the truth"
        for command in commands:
            assert self.fate is None, "a command after Finish"
            PERFORM[type(command)](self, command)
        checkers.deadline_is_right(self, before, event, commands)
        if self.fate is not None:
            checkers.over(self)

    def _phase_of_fault(self, before: str) -> str:
        """Where a fault may be said to have happened: in a phase that was only passed, or here."""
        said = self.exchange.outcome.termination[1]
        passed = {"R": "PQCR", "Q": "Q", "C": "CQ", "H": "HQ"}.get(before, before)
        assert said in passed, f"a fault of {before} was written down as of {said}"
        return said

    def _open(self, command: c.Open) -> None:
        checkers.open_is_fair(self, command)
        self.up = Upstream(command.ask, command.endpoint)
        self.ups.append(self.up)
        self.up.opened = self.up.reused = command.idle

    def _serve(self, command: c.Serve) -> None:
        assert command.ask == self.exchange.ask
        self.asked = command.ask

    def _send_up(self, command: c.SendUp) -> None:
        checkers.send_up_is_fair(self, command)
        up = self.up
        assert up is not None
        if not self.tunnel:
            up.receive(command.data)
        if not up.full and self.dice.random() < self.sim.troubles.upstream_full:
            up.full = True
            self.inbox.append(UPSTREAM_FULL)

    def _head_down(self, command: c.HeadDown) -> None:
        checkers.head_down_is_fair(self, command)
        self._send_down(command)

    def _send_down(self, command: "c.HeadDown | c.SendDown") -> None:
        assert command.data, "an empty write"
        assert self.final or type(command) is c.HeadDown, "a body before its head"
        assert self.tunnel_fins & 2 == 0, "bytes after FIN"
        self.down.append(command.data)

    def may_fill(self) -> None:
        """Something is sent down: it may be more than the client takes now."""
        if not self.down_full and self.dice.random() < self.sim.troubles.client_full:
            self.down_full = True
            self.inbox.append(DOWNSTREAM_FULL)

    def _shut_up(self, _command: c.ShutUp) -> None:
        assert self.tunnel
        assert self.up is not None
        assert not self.up.shut, "two FINs"
        self.up.shut = True

    def _shut_down(self, _command: c.ShutDown) -> None:
        assert self.tunnel
        assert self.tunnel_fins & 2 == 0, "two FINs"
        self.tunnel_fins |= 2

    def _pause_down(self, _command: c.PauseDown) -> None:
        assert not self.paused, "paused twice"
        self.paused = True

    def _resume_down(self, _command: c.ResumeDown) -> None:
        assert self.paused, "resumed without a pause"
        self.paused = False

    def _pause_up(self, _command: c.PauseUp) -> None:
        assert self.up is not None, "paused what is not held"
        assert not self.up.paused, "paused twice"
        self.up.paused = True

    def _resume_up(self, _command: c.ResumeUp) -> None:
        assert self.up is not None, "resumed what is not held"
        assert self.up.paused, "resumed without a pause"
        self.up.paused = False

    def _begin_tunnel(self, _command: c.BeginTunnel) -> None:
        assert self.final == 101
        self.tunnel = True
        if self.fin:  # What was said before is said again, to the tunnel.
            self.inbox.append(FIN_OF_CLIENT)

    def _set_deadline(self, command: c.SetDeadline) -> None:
        self.deadline_at = command.at

    def _release(self, command: c.Release) -> None:
        checkers.release_is_fair(self, command)
        up = self.up
        assert up is not None
        if not up.opened:
            self.late += [e.Opened(up.ask), e.OpenFailed(up.ask, faults.CONNECT_FAILED)]
        self.up = None

    def _wake(self, command: c.Wake) -> None:
        checkers.wake_is_fair(self, command)
        self.sim.call(command.ticket)

    def _finish(self, command: c.Finish) -> None:
        assert command.outcome is self.exchange.outcome
        self.fate = command.fate

    # --- what may happen next ---------------------------------------------------------------------

    def options(self) -> list[Any]:
        """What this actor's surroundings can do now; more likely things stand there more often."""
        out: list[Any] = []
        if self.request.reads and not self.paused and not self.broken:
            out += (self.send, self.send)
        if self.down_full:
            out += (self.take, self.take)
        if self.asked is not None and self.dice.random() >= self.sim.troubles.service_slow:
            out.append(self.answer)
        if self.up is not None:
            self._upstreams(self.up, out)
        self._troubles(out)
        return out

    def _upstreams(self, up: Upstream, out: list[Any]) -> None:
        """Add what the upstream can do."""
        if not up.opened:
            out += (self.connect, self.connect)
        elif self.tunnel:
            out += (self.talk, self.talk, self.hang_up)
        elif not up.paused and up.head is not None and self._may_speak(up):
            out += (self.speak, self.speak)
        if up.full:
            out += (self.upstream_takes, self.upstream_takes)

    def _may_speak(self, up: Upstream) -> bool:
        return up.script is not None or up.request_ended or self.sim.troubles.early > 0.0

    def _troubles(self, out: list[Any]) -> None:
        """Add what goes wrong, as likely as it is in this world."""
        troubles, dice = self.sim.troubles, self.dice
        if dice.random() < troubles.client_leaves:
            out.append(self.leave)
        if dice.random() < troubles.client_fin and not self.fin:
            out.append(self.half_close)
        if dice.random() < troubles.client_breaks:
            out.append(self.break_off)
        if self.exchange.phase.value == "L" and self.request.reads and dice.random() < 0.3:
            out.append(self.half_close)  # Who sees its answer coming needs not send the rest.
        if self.late and dice.random() < 0.2:
            out.append(self.answer_late)
        up = self.up
        if up is not None and up.opened:
            racing = up.reused and not up.answered
            if dice.random() < (troubles.race if racing else troubles.upstream_dies):
                out.append(self.upstream_dies)

    def send(self) -> None:
        """The client's next read of the body comes; a pause is heeded between two reads."""
        for part in self.request.reads.pop(0):
            if self.fate is None:
                self.told_bytes += len(part.data)
                self.told_ended = part.ended
                self.tell(part)

    def take(self) -> None:
        """The client takes all that was sent."""
        self.down_full = False
        self.tell(DOWNSTREAM_TAKEN)

    def leave(self) -> None:
        """The client is gone."""
        self.left = True
        self.tell(e.DownstreamGone())

    def break_off(self) -> None:
        """The client's body cannot be read."""
        if self.request.reads and not self.broken:
            self.broken = True
            self.told_ended = False
            self.tell(e.RequestBroken(faults.REQUEST_MALFORMED))

    def half_close(self) -> None:
        """The client says FIN. The wire refuses what is left of its request."""
        if self.fin:
            return
        self.fin = True
        if self.request.reads and not self.broken:
            self.broken = True
            self.told_ended = False
            self.tell(e.RequestBroken(faults.CLIENT_LEFT))
        if self.fate is None:
            self.tell(FIN_OF_CLIENT)

    def answer(self) -> None:
        """The house answers."""
        ask, self.asked = self.asked, None
        assert ask is not None
        self.tell(e.Answered(ask, self.dice.choice((200, 503)), b"text/plain", b"fine\n"))

    def answer_late(self) -> None:
        """An answer comes to a question that is not open any more: it must mean nothing."""
        event = self.late.pop(self.dice.randrange(len(self.late)))
        self.exchange.handle(event, self.sim.now)
        commands = self.hands.take()
        self.sim.trace.append((self.sim.now, self.number, event, commands))
        assert not commands, "a late answer was believed"

    def connect(self) -> None:
        """The connection that is being opened is there, or cannot be had."""
        up = self.up
        assert up is not None
        if self.dice.random() < self.sim.troubles.open_fails:
            self.tell(e.OpenFailed(up.ask, faults.CONNECT_FAILED))
            return
        up.opened = True
        self.tell(e.Opened(up.ask))

    def upstream_takes(self) -> None:
        """The upstream takes all that was sent."""
        assert self.up is not None
        self.up.full = False
        self.tell(UPSTREAM_TAKEN)

    def speak(self) -> None:
        """The upstream's next read comes; a pause is heeded between two reads."""
        up, dice, troubles = self.up, self.dice, self.sim.troubles
        assert up is not None
        if up.script is None:
            if not up.request_ended and dice.random() >= troubles.early:
                return
            up.write_script(dice, quiet=self.sim.quiet)
        assert up.script is not None
        if dice.random() < troubles.upstream_malformed:
            self.upstream_errs()
            return
        for _ in range(1 if self.sim.quiet else dice.randint(1, 3)):
            if self.up is not up or self.tunnel or up.told == len(up.script):
                return
            thing = up.script[up.told]
            up.note(thing)
            self.tell(thing)

    def upstream_errs(self) -> None:
        """What the upstream says cannot be read."""
        up = self.up
        if up is not None and up.opened and not self.tunnel:
            malformed = faults.UPSTREAM_CUT if up.final else faults.UPSTREAM_MALFORMED
            self.tell(e.UpstreamGone(malformed))

    def upstream_dies(self) -> None:
        """The upstream connection breaks, or is closed before its message is over."""
        up = self.up
        if up is None or not up.opened:
            return
        if self.tunnel or up.final is not None:
            fault = faults.UPSTREAM_CUT
        elif up.answered and self.dice.random() < 0.5:
            fault = faults.UPSTREAM_MALFORMED
        else:
            fault = faults.UPSTREAM_CLOSED
            up.lost_race = up.reused and not up.answered
        self.tell(e.UpstreamGone(fault))

    def talk(self) -> None:
        """Bytes of the tunnel, from one side; a pause is heeded."""
        up, from_downstream = self.up, self.dice.random() < 0.5
        assert up is not None
        if from_downstream:
            if not self.paused and not self.fin:
                self.told_bytes += 4
                self.tell(e.TunnelData(b"ping", True))
        elif not up.paused and self.tunnel_fins & 2 == 0:
            self.tell(e.TunnelData(b"pong", False))

    def hang_up(self) -> None:
        """One side of the tunnel says FIN."""
        if self.dice.random() < 0.5:
            self.half_close()
        elif self.tunnel_fins & 2 == 0 and self.up is not None and not self.up.paused:
            self.tell(FIN_OF_UPSTREAM)


PERFORM: Final[dict[type, Any]] = {
    c.Open: Actor._open,
    c.Serve: Actor._serve,
    c.SendUp: Actor._send_up,
    c.HeadDown: Actor._head_down,
    c.SendDown: Actor._send_down,
    c.ShutUp: Actor._shut_up,
    c.ShutDown: Actor._shut_down,
    c.PauseDown: Actor._pause_down,
    c.ResumeDown: Actor._resume_down,
    c.PauseUp: Actor._pause_up,
    c.ResumeUp: Actor._resume_up,
    c.BeginTunnel: Actor._begin_tunnel,
    c.SetDeadline: Actor._set_deadline,
    c.Release: Actor._release,
    c.Wake: Actor._wake,
    c.Finish: Actor._finish,
}
"""How the shell of the model performs each command."""

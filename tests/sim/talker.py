"""One chat on the stage: its client, its providers, and what they may do next."""

import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from loomproxy.core import event as e
from loomproxy.core import fault as faults
from loomproxy.core.http1.wire import RequestWire
from loomproxy.core.message import RequestHead, RequestPart, ResponsePart
from loomproxy.core.units import NEVER
from tests import commands as c
from tests.playbook import shown
from tests.sim.settings import LIMITS, PEER, request_head, response_head

if TYPE_CHECKING:
    from tests.sim.chats import ChatSim

DONE: Final = b"data: [DONE]\n\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNK: Final = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
USAGE: Final = b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}\n\n'
BROKEN: Final = b"data: {\n\n"
ERROR: Final = b'data: {"error":{"code":"timeout","message":"Slow."}}\n\n'
WHOLE: Final = json.dumps(
    {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}
).encode()
TRANSIENT: Final = b'{"code":"provider_unavailable","message":"Soon.","transient":true}'
REFUSAL: Final = b'{"code":"invalid_request","message":"No."}'
MODELS: Final = (*("a/m",) * 8, *("b/m",) * 3, "m", "away/m", "none/m")


class Talker:
    """One chat and everybody around it."""

    def __init__(self, sim: "ChatSim", number: int) -> None:
        dice = sim.dice
        self.sim, self.dice = sim, dice
        self.hands = Hands(self)
        self.exchange = c.Staged(
            sim.world, PEER, self.hands, fresh_id=b"id-%d" % number, may_keep=True
        )
        self.loom, self.streams = dice.random() < 0.3, dice.random() < 0.6
        self.model = dice.choice(MODELS)
        self.body = self._body()
        self.parts = deque(self._parts())
        self.old = dice.random() < 0.1
        self.up: Any = None  # the endpoint that is held
        self.opened = False
        self.script: deque[Any] = deque()
        self.sent_up = b""
        self.kinds: list[str] = []  # of answer, by attempt
        self.head_down = 0
        self.down = b""
        self.told_to_go_on = False  # and may not have heard of it yet
        self.full = self.paused = self.up_full = False
        self.fate: c.Fate | None = None
        self.inbox: deque[Any] = deque()  # what happens while it is asking

    def _body(self) -> bytes:
        if self.dice.random() < 0.05:
            return b"{"
        messages = [{"role": "user", "content": "x" * self.dice.choice((1, 50, 500))}]
        said: dict[str, Any] = {"model": self.model, "stream": self.streams, "messages": messages}
        if self.loom:
            said["provider_id"], _, said["model"] = self.model.rpartition("/")
        return json.dumps(said).encode()

    def _parts(self) -> list[RequestPart]:
        size = self.dice.choice((7, 60, 1000))
        pieces = [self.body[at : at + size] for at in range(0, len(self.body), size)]
        return [RequestPart(piece, at == len(pieces) - 1) for at, piece in enumerate(pieces)]

    def begin(self) -> None:
        path = "/loom" if self.loom else "/chat"
        lines = [f"POST {path} HTTP/1.{0 if self.old else 1}", "Host: a", "Authorization: mine"]
        lines.append(f"Content-Length: {len(self.body)}")
        if not self.old and self.dice.random() < 0.4:
            lines.append("Expect: 100-continue")
        self.tell(request_head("\r\n".join((*lines, "", "")).encode()))

    def tell(self, event: Any) -> None:
        self.inbox.append(event)
        while self.inbox and self.fate is None:
            event = self.inbox.popleft()
            self.sim.rows.add((self.exchange.phase.value, type(event)))
            self.exchange.handle(event, self.sim.now)
            commands = self.hands.take()
            self.sim.trace.append(f">> {self.exchange.outcome.request_id!r} {shown(event)[:150]}")
            for command in commands:
                self.sim.trace.append(f"    << {shown(command)[:150]}")
                assert self.fate is None, "a command after Finish"
                self._perform(command)
        if self.fate is not None:
            self._over()

    def _perform(self, command: Any) -> None:
        kind = type(command)
        if kind is c.Open:
            self._open(command)
        elif kind is c.SendUp:
            self._send_up(command)
        elif kind in (c.HeadDown, c.SendDown):
            self._down(command)
        elif kind is c.Release:
            self._release(command)
        elif kind in (c.PauseUp, c.ResumeUp):
            self.paused = kind is c.PauseUp
        elif kind is c.Wake:
            self.sim.calls.append(command.ticket)
        elif kind is c.Finish:
            self.fate = command.fate

    def _open(self, command: c.Open) -> None:
        assert self.up is None, "two upstreams are held"
        assert command.endpoint.spec.enabled, "it goes to a generation that stops"
        assert command.endpoint in self.sim.world.pools[self.exchange.outcome.pool].members
        assert not self.head_down, "another attempt under an answer"
        assert self.kinds.count("transient") <= 1, "asked again and again"
        assert set(self.kinds) <= {"transient"}, "sent again what was answered"
        self.up, self.opened, self.up_full = command.endpoint, command.idle, False
        self.sent_up = b""
        self.script = deque()

    def _send_up(self, command: c.SendUp) -> None:
        self.sent_up += command.data
        if not self.up_full and self.dice.random() < self.sim.trouble:
            self.up_full = True
            self.inbox.append(e.UpstreamFull())

    def _release(self, command: c.Release) -> None:
        assert self.up is not None, "released what is not held"
        ended = not self.script and self.opened and not self.up_full
        assert ended or not command.reusable, "given back before it has ended"
        self.up, self.paused, self.up_full = None, False, False

    def _down(self, command: Any) -> None:
        if type(command) is c.SendDown:
            assert self.head_down, "a body before its head"
        elif command.status >= 200:
            assert not self.head_down, "two final heads"
            self.head_down = command.status
        else:
            assert not self.old, "an interim answer for an old client"
            self.told_to_go_on = True
            return
        self.down += command.data

    # --- what may happen --------------------------------------------------------------------------

    def options(self) -> list[Any]:
        out: list[Any] = []
        if self.parts:
            out += (self._send, self._send)
        if self.full:
            out += (self._take, self._take)
        if self.up is not None and not self.opened:
            out += (self._connect, self._connect)
        elif self.up is not None and not self.paused:
            out += (self._speak, self._speak)
        if self.up_full:
            out.append(self._up_takes)
        if self.dice.random() < self.sim.trouble:
            out.append(self.dice.choice((self._leave, self._break_off, self._fin, self._drain)))
        if self.up is not None and self.opened and self.dice.random() < self.sim.trouble:
            out += (self._up_dies, self._up_fills)
        return out

    def _send(self) -> None:
        self.tell(self.parts.popleft())

    def _take(self) -> None:
        self.full = False
        self.tell(e.DownstreamTaken())

    def _leave(self) -> None:
        self.tell(e.DownstreamGone())

    def _drain(self) -> None:
        self.tell(e.DrainExpired())

    def _fin(self) -> None:
        self.parts.clear()
        self.tell(e.HalfClosed(from_downstream=True))

    def _break_off(self) -> None:
        if self.parts:
            self.parts.clear()
            self.tell(e.RequestBroken(faults.REQUEST_MALFORMED))

    def _connect(self) -> None:
        if self.dice.random() < self.sim.trouble * 3:
            self.tell(e.OpenFailed(self.exchange.ask, faults.CONNECT_FAILED))
        else:
            self.opened = True
            self.tell(e.Opened(self.exchange.ask))

    def _up_takes(self) -> None:
        self.up_full = False
        if self.up is not None and self.opened:
            self.tell(e.UpstreamTaken())

    def _up_fills(self) -> None:
        if not self.up_full:
            self.up_full = True
            self.tell(e.UpstreamFull())

    def _up_dies(self) -> None:
        cut = self.exchange.phase.value == "D"
        self.tell(e.UpstreamGone(faults.UPSTREAM_CUT if cut else faults.UPSTREAM_CLOSED))

    def _speak(self) -> None:
        if not self.script:
            if self.exchange.phase.value != "H":
                return  # It has said all that it will: nobody is waited for longer than allowed.
            self._write()
        thing = self.script.popleft()
        if thing is not None:
            self.tell(thing)

    def _write(self) -> None:
        """Decide what the provider answers, in the reads in which it arrives."""
        dice = self.dice
        head, asked = _read_up(self.sent_up)
        self._fair(head, asked)
        kind = dice.choice(("stream", "stream", "whole", "transient", "refusal", "rubbish"))
        if kind in {"transient", "refusal"}:
            self._said(503, b"application/json", TRANSIENT if kind == "transient" else REFUSAL)
        elif kind == "rubbish":
            self._said(200, b"application/json", b"<html>")
        elif kind == "whole" or not json.loads(asked)["stream"]:
            kind = "whole"
            self._said(200, b"application/json", WHOLE)
        else:
            ends = (DONE, DONE, DONE, b"", BROKEN, ERROR)
            text = CHUNK * dice.randint(0, 3) + dice.choice((b"", USAGE)) + dice.choice(ends)
            self._said(200, b"text/event-stream", text)
        self.kinds.append(kind)

    def _said(self, status: int, kind: bytes, data: bytes) -> None:
        dice, script = self.dice, self.script
        if dice.random() < 0.1:
            script.append(response_head(b"HTTP/1.1 103 Soon\r\n\r\n", b"POST"))
        raw = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        head = response_head(raw % (status, kind), b"POST")
        if data and dice.random() < 0.2:
            length = raw.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d")
            head = response_head(length % (status, kind, len(data)), b"POST")
            script.append(e.Response(head, data))
            return
        script.append(head)
        at = 0
        while at < len(data):
            end = at + dice.choice((1, 20, 500))
            script.append(ResponsePart(data[at:end], ended=False))
            at = end
        if dice.random() >= self.sim.trouble * 2:
            script.append(ResponsePart(b"", ended=True))
        else:
            script.append(None)  # It says nothing more.

    def _fair(self, head: RequestHead, asked: bytes) -> None:
        """What went up is the client's chat, for this endpoint."""
        assert b"mine" not in head.block, "a guest was told the client's credentials"
        assert self.up.spec.secrets[0][1] in head.block, "a guest was told another's token"
        said, mine = json.loads(asked), json.loads(self.body)
        assert said["messages"] == mine["messages"]
        assert said["model"] == "m"
        assert "provider_id" not in said

    # --- at the end -------------------------------------------------------------------------------

    def _over(self) -> None:
        outcome = self.exchange.outcome
        assert self.up is None, "an upstream outlived its exchange"
        assert outcome.status == self.head_down
        assert (outcome.fault == "") == (outcome.termination == "--")
        assert self.exchange.deadline_at == NEVER
        if outcome.fault == "chat_invalid":
            assert self.body == b"{" or self.model == "m", "a good request is refused"
        head, _, body = self.down.partition(b"\r\n\r\n")
        if b"Transfer-Encoding: chunked" in head:
            payload, ended = _unchunked(body)
            done = payload.endswith(DONE)
            assert ended <= done, "a stream that is not whole has its last chunk"
            assert done or outcome.fault, "a stream that is not whole went well"
            if not done and self.fate is not c.Fate.ABORT:
                assert b'"code":' in payload.rpartition(b"data: ")[2], "it does not say why"
            assert ended or self.fate is not c.Fate.KEEP, "kept behind half an answer"
        if not outcome.fault and outcome.status == 200:
            assert self.kinds[-1] in {"stream", "whole"}
            assert outcome.chat is not None


class Hands(c.Scribe):
    """Hands of one chat."""

    def __init__(self, actor: Talker) -> None:
        super().__init__()
        self.actor = actor

    def open(self, ask: int, endpoint: Any, *, fresh: bool) -> bool:
        self.idle = self.actor.dice.random() < 0.5
        return super().open(ask, endpoint, fresh=fresh)

    def head_down(self, status: int, data: bytes) -> None:
        self._may_fill()
        super().head_down(status, data)

    def send_down(self, data: bytes) -> None:
        self._may_fill()
        super().send_down(data)

    def _may_fill(self) -> None:
        if not self.actor.full and self.actor.dice.random() < self.actor.sim.trouble * 3:
            self.actor.full = True
            self.actor.inbox.append(e.DownstreamFull())

    def all_taken(self) -> bool:
        return not self.actor.full


def _read_up(sent: bytes) -> tuple[RequestHead, bytes]:
    """The head and the body that went up, as any HTTP server reads them."""
    wire = RequestWire(LIMITS)
    wire.receive(sent)
    head = wire.poll()
    assert isinstance(head, RequestHead), head
    body = b""
    while (part := wire.poll()) is not None:
        assert isinstance(part, RequestPart), part
        body += part.data
    assert len(body) == head.body_bytes, "half a body went up"
    return head, body


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    """What the chunks hold, and whether the last one came."""
    payload = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            assert body == b"\r\n", "bytes behind the last chunk"
            return payload, True
        payload += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return payload, False

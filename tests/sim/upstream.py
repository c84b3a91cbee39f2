"""An upstream connection as an exchange holds it: what it was sent, and what it is going to say."""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from loomproxy.core.http1.wire import RequestWire
from loomproxy.core.message import RequestHead, RequestPart, Response, ResponsePart
from tests.sim.client import PAYLOAD
from tests.sim.settings import LIMITS, response_head

STATUSES: Final = (200, 200, 200, 200, 204, 304, 404, 413, 500)
TRAILERS: Final = b"X-Digest: 2\r\n"
FORBIDDEN_TRAILER: Final = b"Set-Cookie: a=b\r\n"
SWITCHED: Final = 101
SWITCHING: Final = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"


class Upstream:
    """One connection, from `Open` to `Release`."""

    __slots__ = (
        "answer",
        "answer_ended",
        "answered",
        "ask",
        "by_close",
        "endpoint",
        "final",
        "full",
        "head",
        "keeps",
        "lost_race",
        "opened",
        "paused",
        "received",
        "request_ended",
        "request_trailers",
        "reused",
        "script",
        "sent",
        "shut",
        "told",
        "trailers",
        "wire",
    )

    def __init__(self, ask: int, endpoint: Any) -> None:
        self.ask = ask
        self.endpoint = endpoint
        self.opened = False
        self.reused = False
        self.full = False
        self.paused = False
        self.shut = False  # it was told FIN
        self.lost_race = False  # it closed before it answered, on a reused connection
        # What it was sent.
        self.sent: list[bytes] = []
        self.wire = RequestWire(LIMITS)
        self.head: RequestHead | None = None
        self.received: list[bytes] = []  # body
        self.request_ended = False
        self.request_trailers = b""
        # What it says.
        self.script: list[Any] | None = None
        self.told = 0  # things of the script that were told
        self.answered = False  # any head was told
        self.final: Any = None  # the final head, once told; a switch is none
        self.answer: list[bytes] = []
        self.answer_ended = False
        self.trailers = b""
        self.by_close = False
        self.keeps = False

    def receive(self, data: bytes) -> None:
        """Read what was sent, as any HTTP server would."""
        self.sent.append(data)
        self.wire.receive(data)
        while (thing := self.wire.poll()) is not None:
            if isinstance(thing, RequestHead):
                assert self.head is None, "two requests on one attempt"
                self.head = thing
                self.request_ended = not thing.has_body
            else:
                assert isinstance(thing, RequestPart), f"what went up is refused: {thing}"
                self.received.append(thing.data)
                self.request_ended = thing.ended
                self.request_trailers = thing.trailers
        assert self.head is not None, "the first bytes of an attempt are not a whole head"
        assert not self.wire.buffered, "bytes went up that belong to no message"

    def write_script(self, dice: Random, *, quiet: bool) -> None:
        """Decide what it answers."""
        head = self.head
        assert head is not None
        script: list[Any] = []
        many = 20 if not quiet and dice.random() < 0.02 else dice.choice((0, 0, 0, 1, 2))
        status = 100 if head.expect_continue else 103
        script += [response_head(b"HTTP/1.1 %d Soon\r\n\r\n" % status, head.method)] * many
        rogue = not quiet and dice.random() < 0.02
        if rogue or (head.upgrade and dice.random() < 0.8):
            to = b"chat" if rogue else head.upgrade
            script.append(response_head(SWITCHING % to, head.method))
        else:
            self._final(dice, head, script)
        self.script = script

    def _final(self, dice: Random, head: RequestHead, script: list[Any]) -> None:
        status, framing = dice.choice(STATUSES), dice.random()
        size = dice.choice((0, 1, 10, 100, 700))
        lines = b""
        if framing < 0.4:
            lines = b"Content-Length: %d\r\n" % size
        elif framing < 0.8:
            lines = b"Transfer-Encoding: chunked\r\n"
        if dice.random() < 0.2:
            lines += b"Connection: close\r\n"
        if status == 204:
            lines = b""
        final = response_head(b"HTTP/1.1 %d Said\r\n%b\r\n" % (status, lines), head.method)
        script.append(final)
        if not final.has_body:
            return
        known = framing < 0.4
        script += _parts(dice, size, known=known)
        if not known:
            trailers = TRAILERS + FORBIDDEN_TRAILER if dice.random() < 0.3 else b""
            self.by_close = framing >= 0.8
            script.append(ResponsePart(b"", True, b"" if self.by_close else trailers))
        elif script[-2] is final:  # Both arrive together, as the wire says it then.
            script[-2:] = [Response(final, script[-1].data)]

    def note(self, thing: Any) -> None:
        """`thing` of the script is being told."""
        self.told += 1
        if isinstance(thing, Response):
            self._note(thing.head)
            self._note(ResponsePart(thing.data, ended=True))
        else:
            self._note(thing)

    def _note(self, thing: Any) -> None:
        if isinstance(thing, ResponsePart):
            self.answer.append(thing.data)
            self.answer_ended = thing.ended
            self.trailers = thing.trailers
            return
        self.answered = True
        if not thing.is_interim and thing.status != SWITCHED:
            self.final = thing
            self.keeps = thing.keep_alive
            self.answer_ended = not thing.has_body


def _parts(dice: Random, size: int, *, known: bool) -> Iterator[ResponsePart]:
    """A body in pieces as reads bring them; the last one ends it where its length is known."""
    at = 0
    while at < size:
        end = min(size, at + dice.choice((1, 10, 100, 700)))
        yield ResponsePart(PAYLOAD[at:end], known and end == size)
        at = end

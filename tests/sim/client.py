"""What a client asks and how: one random request, as the reads in which it arrives."""

from random import Random
from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core.fault import Fault
from loomproxy.core.message import RequestHead, RequestPart
from tests.sim.settings import request_head

PATHS: Final = ("/a",) * 5 + ("/b",) * 4 + ("/tight", "/once", "/ops") * 2
PATHS_OF_OURS: Final = ("/fixed", "/empty", "/moved", "/unknown") + ("/house",) * 5
METHODS: Final = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"POST", b"PUT", b"DELETE", b"OPTIONS")
SIZES: Final = (1, 5, 30, 101, 300)
READ_PARTS_MAX: Final = 3
TRAILERS: Final = b"X-Sum: 1\r\n"
REFUSALS: Final = (
    faults.REQUEST_MALFORMED,
    faults.HEAD_TOO_LARGE,
    faults.CLIENT_HEAD_TIMEOUT,
    faults.VERSION_UNSUPPORTED,
    faults.CLIENT_LEFT,
)
PAYLOAD: Final = bytes(range(256)) * 8


class Request:
    """One request: its head, or why it could not be read, and the reads in which its body comes."""

    __slots__ = ("head", "method", "reads", "refused", "size", "trailers")

    def __init__(self, dice: Random, *, quiet: bool, favourite: str) -> None:
        self.refused: Fault | None = None
        self.head: RequestHead | None = None
        self.reads: list[list[RequestPart]] = []
        self.size = 0
        self.trailers = b""
        self.method = b"-"
        if not quiet and dice.random() < 0.02:
            self.refused = dice.choice(REFUSALS)
            return
        self.head = _head(dice, favourite, quiet=quiet)
        self.method = self.head.method
        self._cut(dice, 1 if quiet else READ_PARTS_MAX)

    def _cut(self, dice: Random, parts_max: int) -> None:
        """Decide how the body is cut into parts, and the parts into reads."""
        head = self.head
        assert head is not None
        if not head.has_body:
            return
        chunked = not head.body_bytes
        self.size = dice.choice((0, *SIZES)) if chunked else head.body_bytes
        parts: list[RequestPart] = []
        at = 0
        while at < self.size:
            end = min(self.size, at + dice.choice((1, 7, 40, 300)))
            ended = end == self.size and not (chunked and dice.random() < 0.5)
            parts.append(RequestPart(PAYLOAD[at:end], ended))
            at = end
        if not parts or not parts[-1].ended:
            self.trailers = TRAILERS if dice.random() < 0.3 else b""
            parts.append(RequestPart(b"", True, self.trailers))
        while parts:
            count = dice.randint(1, parts_max)
            self.reads.append(parts[:count])
            del parts[:count]

    def payload(self, size: int) -> bytes:
        """The first `size` bytes of the body."""
        return PAYLOAD[:size]


def _head(dice: Random, path: str, *, quiet: bool) -> RequestHead:
    path = path or dice.choice(PATHS if dice.random() < 0.85 else PATHS_OF_OURS)
    method = dice.choice(METHODS)
    lines = ["Host: a.example"]
    old = not quiet and dice.random() < 0.15
    if method in (b"POST", b"PUT", b"DELETE"):
        framing = dice.random()
        if framing < 0.5:
            lines.append(f"Content-Length: {dice.choice(SIZES)}")
        elif framing < 0.85 and not old:
            lines.append("Transfer-Encoding: chunked")
        if framing < 0.5 and not old and dice.random() < 0.2:
            lines.append("Expect: 100-continue")
    elif method == b"GET" and dice.random() < (0.6 if path == "/house" else 0.1):
        lines.append(f"Content-Length: {dice.choice(SIZES)}")
    elif method == b"GET" and not old and dice.random() < 0.2:
        lines.append("Connection: upgrade\r\nUpgrade: websocket")
    elif dice.random() < 0.2:
        lines.append("Connection: keep-alive" if old else "Connection: close")
    version = 0 if old else 1
    raw = "\r\n".join((f"{method.decode()} {path} HTTP/1.{version}", *lines, "", ""))
    return request_head(raw.encode())

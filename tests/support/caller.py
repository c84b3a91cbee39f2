"""A client on a raw socket, which sends exactly what a test says and tells exactly what came back.

It is strict: a response that is cut short is `complete=False`, however it was framed, so that a
test can claim that a client can tell.
"""

import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.waiting import WITHIN_S

Address = tuple[str, int] | str


@dataclass
class Head:
    """A response head."""

    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]  # names in lower case
    raw: bytes

    def field(self, name: str) -> str | None:
        """The first value of a field, or None."""
        return next((value for have, value in self.fields if have == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for have, value in self.fields if have == name]


@dataclass
class Response:
    """A whole response, or what came of it."""

    head: Head
    body: bytes = b""
    complete: bool = True  # False: it ended before its framing says it may
    ending: str = ""  # "closed" or "reset" where the connection ended
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interims: list[Head] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The final status."""
        return self.head.status

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Ended(Exception):
    """The connection ended while more was expected; the argument says how: "closed" or "reset"."""


class Caller:
    """One client connection; a context manager."""

    def __init__(self, address: Address, *, receive_bytes: int = 0, source: str = "") -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(WITHIN_S)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        """Send these bytes."""
        self.socket.sendall(data)
        return self

    def ask(
        self, target: str = "/", method: str = "GET", fields: Any = (), body: bytes | None = None
    ) -> Self:
        """Send a request, with Content-Length where there is a body."""
        return self.send(request(target, method, fields, body))

    def get(
        self, target: str = "/", method: str = "GET", fields: Any = (), body: bytes | None = None
    ) -> Response:
        """Send a request and read its whole response."""
        return self.ask(target, method, fields, body).response(method)

    def finish(self) -> None:
        """Say FIN and go on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave in order."""
        self.socket.close()

    def reset(self) -> None:
        """Leave with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while (at := self.held.find(mark)) < 0:
            self._more()
        return self._take(at + len(mark))

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        parts = [self._take(min(count, len(self.held)))]
        left = count - len(parts[0])
        while left:
            data = self._receive(min(left, 1 << 20))
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def rest(self) -> tuple[bytes, str]:
        """Everything until the connection ends, and how it ended."""
        while True:
            try:
                self._more()
            except Ended as ended:
                return self._take(len(self.held)), str(ended)

    def head(self) -> Head:
        """The next response head, interim or final."""
        raw = self.until(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, status, reason = first.split(" ", 2)
        fields = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(":") for line in rest)
        ]
        return Head(int(status), reason, version, fields, raw)

    def response(self, method: str = "GET") -> Response:
        """The next response, whole or as far as it came."""
        interims = []
        while (head := self.head()).status < 200 and head.status != 101:
            interims.append(head)
        response = Response(head, interims=interims)
        if method != "HEAD" and head.status not in {101, 204, 304}:
            try:
                self._read_body(response)
            except Ended as ended:
                response.body += self._take(len(self.held))
                response.complete, response.ending = False, str(ended)
        return response

    def _read_body(self, response: Response) -> None:
        length = response.head.field("content-length")
        if response.head.field("transfer-encoding") == "chunked":
            assert length is None, "both framings at once"
            while data := self.chunk():
                response.body += data
            while (line := self.until(b"\r\n")) != b"\r\n":
                name, _, value = line.decode("latin-1").partition(":")
                response.trailers.append((name.lower(), value.strip()))
        elif length is not None:
            while len(self.held) < int(length):
                self._more()
            response.body = self._take(int(length))
        else:
            response.body, response.ending = self.rest()
            response.complete = response.ending == "closed"

    def chunk(self) -> bytes:
        """The next chunk's data; b"" for the last one, whose trailers come next."""
        size = int(self.until(b"\r\n"), 16)
        if not size:
            return b""
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n", "a chunk that does not end where it says"
        return data

    def _more(self) -> None:
        self.held += self._receive(1 << 18)

    def _receive(self, count: int) -> bytes:
        try:
            data = self.socket.recv(count)
        except ConnectionResetError:
            raise Ended("reset") from None
        if not data:
            raise Ended("closed")
        return data

    def _take(self, count: int) -> bytes:
        data, self.held = self.held[:count], self.held[count:]
        return data


def request(
    target: str = "/", method: str = "GET", fields: Any = (), body: bytes | None = None
) -> bytes:
    """The bytes of a request; Host is there unless `fields` has one."""
    pairs = list(fields.items() if isinstance(fields, dict) else fields)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("Host", "test.example"))
    if body is not None:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def ask(address: Address, target: str = "/", method: str = "GET", **more: Any) -> Response:
    """One request on a connection of its own."""
    with Caller(address) as caller:
        return caller.get(target, method, **more)

"""The clients of a soak: ordinary ones, hasty ones, wrong ones, and those of a troubled upstream.

Each client asks again and again, one thing after the other, as its dice say. What it gets is
compared to the byte. A failure is whatever an ordinary request did not get right, whatever a wrong
one was not refused for, and whatever a request to the troubled upstream got that is neither right
nor an honest error nor visibly cut.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from loadtest.processes import LOOPBACK
from loadtest.soak_upstream import payload

KIB_BYTES = 1024
MIB_BYTES = KIB_BYTES * KIB_BYTES
PATIENCE_S = 30.0  # For one thing that a client does; each takes a second at most.
WORDS = 10
WORD_BYTES_MAX = 2000
EXAMPLES_MAX = 5
NUMBERS = 1000  # Paths differ by so many numbers, and with them the bodies.
HEAD_BYTES_MAX = 1 << 17
REFUSED = range(400, 506)
LEAVING = "leaves"
ORDINARY = "ordinary"
TROUBLED = "troubled"
HONEST_ERRORS = (502, 503, 504)
SWITCHING = 101
OK = 200

HOST = b"Host: soak.example\r\n"
MALFORMED = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\nHost : soak.example\r\n\r\n",
    b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /size/6/0 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * (80 * KIB_BYTES) + b"\r\n\r\n",
)


@dataclass
class Account:
    """What became of everything that was asked, by kind."""

    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    troubled: Counter[str] = field(default_factory=Counter)  # what came of a troubled upstream

    @property
    def requests(self) -> int:
        """All that were asked so far."""
        return self.asked.total()

    def fail(self, kind: str, why: str) -> None:
        """Write a failure down; the first few with what was seen."""
        self.failed[kind] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {why}")


class Failure(Exception):
    """A client did not get what it should have; says what it got."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    keeps: bool


class Caller:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.answer_began = False  # some byte of the answer that was last waited for came

    @classmethod
    async def to(cls, port: int) -> "Caller":
        """Connect to `port`."""
        return cls(*await asyncio.open_connection(LOOPBACK, port, limit=HEAD_BYTES_MAX))

    async def send(self, data: bytes) -> None:
        """Send, at the pace of who reads."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read an answer's head: its status, and its fields by their names in lower case."""
        self.answer_began = False
        first = await self._reader.readexactly(1)
        self.answer_began = True
        text = (first + await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first_line, *lines = text.split("\r\n")
        version, _, rest = first_line.partition(" ")
        status = rest[:3]
        if version != "HTTP/1.1" or not status.isdecimal():
            raise Failure(f"{first_line[:80]!r} is no answer")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return int(status), fields

    async def answer(self) -> Answer:
        """Read a whole answer; IncompleteReadError or ConnectionError where it is cut."""
        status, fields = await self.head()
        if fields.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(fields.get("content-length", 0)))
        return Answer(status, body, fields.get("connection") != "close")

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(parts)

    async def some(self, size: int) -> bytes:
        """Read `size` bytes, whatever they are."""
        return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Read until the connection ends."""
        return await self._reader.read()

    def finish(self) -> None:
        """Say FIN and listen on."""
        self._writer.write_eof()

    def close(self) -> None:
        """Leave at once."""
        self._writer.transport.abort()


CUT = (asyncio.IncompleteReadError, ConnectionError)


class Client:
    """One client, with connections that it keeps for as long as they last."""

    def __init__(self, port: int, dice: Random, account: Account) -> None:
        self._port = port
        self._dice = dice
        self._account = account
        self._kept: dict[str, Caller] = {}

    async def live(self, enough: asyncio.Event) -> None:
        """Do one thing after the other until there was enough."""
        kinds, weights = list(DOING), [weight for weight, _ in DOING.values()]
        while not enough.is_set():
            (kind,) = self._dice.choices(kinds, weights)
            await self.do(kind)
        self.leave_all()

    async def do(self, kind: str) -> None:
        """Do one thing, and write down if it went wrong."""
        self._account.asked[kind] += 1
        try:
            async with asyncio.timeout(PATIENCE_S):
                await DOING[kind][1](self)
        except (Failure, ValueError, TimeoutError, OSError, *CUT) as error:
            self._account.fail(kind, f"{type(error).__name__}: {error}")
            self.leave_all()

    def leave_all(self) -> None:
        """Close every connection that was kept."""
        for name in list(self._kept):
            self._forget(name)

    # --- ordinary ---------------------------------------------------------------------------------

    async def small(self) -> None:
        """Ask for six bytes."""
        await self._expect("GET", self._path("size", 6))

    async def some(self) -> None:
        """Ask for 16 KiB."""
        await self._expect("GET", self._path("size", 16 * KIB_BYTES))

    async def large(self) -> None:
        """Ask for 1 MiB."""
        await self._expect("GET", self._path("size", MIB_BYTES))

    async def post(self) -> None:
        """Send 1 KiB."""
        await self._expect("POST", self._path("size", 6), KIB_BYTES)

    async def upload(self) -> None:
        """Send 1 MiB."""
        await self._expect("PUT", self._path("size", 6), MIB_BYTES)

    async def events(self) -> None:
        """Follow an event stream."""
        await self._expect("GET", self._path("events", KIB_BYTES))

    async def connect(self) -> None:
        """Ask on a connection of its own."""
        self._forget(ORDINARY)
        await self._expect("GET", self._path("size", 6))

    async def talk(self) -> None:
        """Upgrade, and hear every word come back."""
        caller = await Caller.to(self._port)
        try:
            upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
            await caller.send(request("GET", self._path("echo", 0), upgrade))
            status, _ = await caller.head()
            if status != SWITCHING:
                raise Failure(f"{status} instead of a switch")
            for _ in range(WORDS):
                word = self._dice.randbytes(self._dice.randint(1, WORD_BYTES_MAX))
                await caller.send(word)
                if await caller.some(len(word)) != word:
                    raise Failure("another word came back")
            caller.finish()
            if await caller.rest():
                raise Failure("more came back than was said")
        finally:
            caller.close()

    # --- hasty and wrong --------------------------------------------------------------------------

    async def leave(self) -> None:
        """Leave in the middle: of a head, an upload, a download, an event stream, or a wait."""
        path, big = self._path("size", 6), self._path("size", MIB_BYTES)
        begun, some = self._dice.choice(
            (
                (request("GET", path)[:-9], 0),
                (request("POST", path, b"Content-Length: 100000\r\n") + b"x" * 5000, 0),
                (request("GET", big), 10_000),
                (request("GET", self._path("events", KIB_BYTES)), 300),
                (request("GET", big), 0),
            )
        )
        caller = await Caller.to(self._port)
        try:
            await caller.send(begun)
            await caller.some(some)
        finally:
            caller.close()

    async def err(self) -> None:
        """Send what must be refused; the connection ends behind the answer."""
        caller = await Caller.to(self._port)
        sent = self._dice.choice(MALFORMED)
        try:
            await caller.send(sent)
            answer = await caller.answer()
            rest = await caller.rest()
        finally:
            caller.close()
        if answer.status not in REFUSED or rest:
            raise Failure(f"{answer.status} and {rest[:50]!r} for {sent[:80]!r}")

    # --- of a troubled upstream -------------------------------------------------------------------

    async def suffer(self) -> None:
        """Ask the troubled upstream: right, an honest error, or visibly cut, but nothing else."""
        size = self._dice.choice((6, 6, 16 * KIB_BYTES))
        up = self._dice.choice((0, 0, KIB_BYTES))
        path = f"/trouble{self._path('size', size)}"
        caller = await self._caller(TROUBLED)
        try:
            answer = await self._ask(caller, "POST" if up else "GET", path, up)
        except CUT:
            self._forget(TROUBLED)
            if not caller.answer_began:
                raise
            self._account.troubled["visibly cut"] += 1
            return
        if answer.status in HONEST_ERRORS:
            self._account.troubled[str(answer.status)] += 1
        else:
            _compare(answer, path.removeprefix("/trouble"))
            self._account.troubled["right"] += 1
        self._go_on(TROUBLED, answer)

    # --- how --------------------------------------------------------------------------------------

    def _path(self, what: str, size: int) -> str:
        return f"/{what}/{size}/{self._dice.randrange(NUMBERS)}"

    async def _expect(self, method: str, path: str, up: int = 0) -> None:
        """Ask, and insist on the right answer."""
        caller = await self._caller(ORDINARY)
        answer = await self._ask(caller, method, path, up)
        _compare(answer, path)
        self._go_on(ORDINARY, answer)

    async def _ask(self, caller: Caller, method: str, path: str, up: int) -> Answer:
        """Send a request, with a body of `up` bytes, and read the answer meanwhile."""
        if not up:
            await caller.send(request(method, path))
            return await caller.answer()
        body = payload(f"up {path.removeprefix('/trouble')}", up)
        sending = asyncio.create_task(
            caller.send(request(method, path, b"Content-Length: %d\r\n" % up) + body)
        )
        try:
            return await caller.answer()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _caller(self, name: str) -> Caller:
        if name not in self._kept:
            self._kept[name] = await Caller.to(self._port)
        return self._kept[name]

    def _go_on(self, name: str, answer: Answer) -> None:
        if not answer.keeps:
            self._forget(name)

    def _forget(self, name: str) -> None:
        caller = self._kept.pop(name, None)
        if caller is not None:
            caller.close()


def request(method: str, path: str, fields: bytes = b"") -> bytes:
    """Return a request head."""
    return f"{method} {path} HTTP/1.1\r\n".encode() + HOST + fields + b"\r\n"


def _compare(answer: Answer, path: str) -> None:
    expected = payload(path, int(path.split("/")[2]))
    if (answer.status, answer.body) != (OK, expected):
        raise Failure(f"{answer.status} {answer.body[:80]!r}, {len(answer.body)} bytes for {path}")


DOING: dict[str, tuple[int, Callable[[Client], Awaitable[None]]]] = {
    "small": (40, Client.small),
    "post": (12, Client.post),
    "16k": (12, Client.some),
    "1m": (2, Client.large),
    "1m up": (2, Client.upload),
    "events": (3, Client.events),
    "websocket": (3, Client.talk),
    "connect": (6, Client.connect),
    LEAVING: (6, Client.leave),
    "malformed": (4, Client.err),
    TROUBLED: (10, Client.suffer),
}
"""What clients do: how often, out of a hundred, and how. Those that are cut short keep nothing."""

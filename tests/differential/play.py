"""Plays one case of the corpus against a proxy, and tells what both sides saw.

A *lane* is a listener of the proxy with a recording upstream of its own: all that is recorded while
a case is played belongs to that case. Behind the case's bytes the client sends a *probe*, the
request of the next user of this connection; behind the case, on a connection of its own, comes the
*settling* request, that of somebody else. Both must get their own answers and nothing else.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.differential.recorder import Received, Recorder, mark
from tests.support.corpus import Piece, RequestCase, ResponseCase

Lanes = list[tuple[int, Recorder]]  # the port of a proxy's listener, and where it leads

WITHIN_S: Final = 20.0
"""How long a proxy may take for anything; well above the timeouts that it is given."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


@dataclass
class Answer:
    """An answer that the client got."""

    status: int
    head: bytes
    body: bytes
    whole: bool


@dataclass
class Observation:
    """What both sides saw of one case."""

    answers: list[Answer]  # without the probe's
    ending: str  # "kept": the probe got its answer; "closed"; "silent": neither; "garbled"
    requests: list[Received] = field(default_factory=list)  # without probe and settling request
    begun: list[Received] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    settled: bool = True  # the settling request got its own answer, and nothing is left half-sent
    raw: bytes = b""  # all that reached the upstream

    def statuses(self) -> list[int]:
        """The statuses of all answers."""
        return [answer.status for answer in self.answers]

    def finals(self) -> list[Answer]:
        """The answers that are not interim ones."""
        return [answer for answer in self.answers if answer.status >= 200]


@dataclass
class Lane:
    """A listener of a proxy, and the upstream it sends everything to."""

    port: int
    recorder: Recorder
    played: int = 0

    async def request(self, case: RequestCase) -> Observation:
        """Send what a client sends."""
        answer = None if case.answer is None else case.answer.encode("latin-1")
        self.recorder.begin(answer, at_head=case.answer_at == "head")
        return await self._play(case.sent(), leaves=case.leaves(), head=_asks_head(case.text()))

    async def response(self, case: ResponseCase) -> Observation:
        """Ask for what an upstream answers."""
        close = case.then == "close"
        self.recorder.begin(case.text().encode("latin-1"), close=close)
        ask = f"{case.method} /asked HTTP/1.1\r\nHost: a\r\n\r\n"
        head = case.method == "HEAD"
        # The probe follows the answer: it is that user's next request, not a pipelined one.
        return await self._play([Piece(bytes=ask, until="answer")], leaves=False, head=head)

    async def _play(self, pieces: list[Piece], *, leaves: bool, head: bool) -> Observation:
        self.played += 1
        probe = f"/probe-{self.played}"
        async with _client(self.port) as client:
            await self._send(client, pieces, "" if leaves else probe)
            if leaves:
                client.finish()
            ending = await client.read(mark("GET", probe), head=head)
        settled = await self._settle()
        seen = self.recorder
        ours = (probe, f"/settle-{self.played}")
        requests = [request for request in seen.requests if request.target not in ours]
        return Observation(
            client.answers, ending, requests, seen.begun, seen.unreadable, settled, seen.raw
        )

    async def _send(self, client: "_Client", pieces: list[Piece], probe: str) -> None:
        """All pieces; the probe follows the last one in the same write where nothing is awaited."""
        last = f"GET {probe} HTTP/1.1\r\nHost: probe\r\n\r\n" if probe else ""
        for piece in pieces[:-1]:
            client.send(piece.bytes)
            await self._wait(client, piece.until)
        tail = pieces[-1]
        if tail.until:
            client.send(tail.bytes)
            await self._wait(client, tail.until)
            client.send(last)
        else:
            client.send(tail.bytes + last)

    async def _wait(self, client: "_Client", until: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            if until == "upstream":
                await self.recorder.until(lambda: self.recorder.raw)
            elif until == "answer":
                await client.heard()

    async def _settle(self) -> bool:
        """Whether somebody else is served, and no upstream connection is left in a request."""
        target = f"/settle-{self.played}"
        try:
            async with asyncio.timeout(WITHIN_S), _client(self.port) as client:
                client.send(f"GET {target} HTTP/1.1\r\nHost: settle\r\n\r\n")
                ending = await client.read(mark("GET", target), head=False)
                await self.recorder.until(self.recorder.quiet)
        except TimeoutError:
            return False
        return ending == "kept" and not client.answers


def _asks_head(text: str) -> bool:
    return text.lstrip("\r\n").startswith("HEAD ")


class _Garbled(Exception):
    """What the client got is no answer, or ends inside of one's head."""


class _Client:
    """A client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._held = b""
        self._ended = False
        self.answers: list[Answer] = []

    def send(self, text: str) -> None:
        """Send these bytes."""
        self._writer.write(text.encode("latin-1"))

    def finish(self) -> None:
        """Say FIN and go on listening."""
        self._writer.write_eof()

    async def close(self) -> None:
        """Leave, at once where the other side is gone already, and let nothing behind."""
        if self._ended:
            self._writer.transport.abort()
        else:
            self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def heard(self) -> None:
        """Wait until something came: bytes, or the end."""
        if not self._held and not self._ended:
            await self._more()

    async def read(self, last: bytes, *, head: bool) -> str:
        """Read answers up to the one with the body `last`, or to the end; how it ended."""
        try:
            async with asyncio.timeout(WITHIN_S):
                return await self._answers(last, head=head)
        except TimeoutError:
            return "silent"
        except _Garbled:
            return "garbled"

    async def _answers(self, last: bytes, *, head: bool) -> str:
        while True:
            answer = await self._answer(head=head and not self._final())
            if answer is None:
                return "closed"
            if answer.body == last and answer.status == 200:
                return "kept"
            self.answers.append(answer)
            if not answer.whole:
                return "closed"

    def _final(self) -> bool:
        return any(answer.status >= 200 for answer in self.answers)

    async def _answer(self, *, head: bool) -> Answer | None:
        """The next answer; None where there is none before the end."""
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                if self._held:
                    raise _Garbled
                return None
        raw, self._held = self._held[: end + 4], self._held[end + 4 :]
        match = _STATUS_LINE.match(raw)
        if match is None:
            raise _Garbled
        status = int(match[1])
        if status < 200 or status in (204, 304) or head:
            return Answer(status, raw, b"", whole=True)
        body, whole = await self._body(raw)
        return Answer(status, raw, body, whole)

    async def _body(self, raw: bytes) -> tuple[bytes, bool]:
        if _CHUNKED.search(raw):
            return await self._chunks()
        length = _LENGTH.search(raw)
        if length:
            return await self._exactly(int(length[1]))
        while await self._more():
            pass
        body, self._held = self._held, b""
        return body, True

    async def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while (end := self._held.find(b"\r\n")) < 0:
                if not await self._more():
                    return body, False
            if not _CHUNK_SIZE.fullmatch(self._held, 0, end):
                raise _Garbled
            size = int(self._held[:end], 16)
            self._held = self._held[end + 2 :]
            data, whole = await self._exactly(size + 2 if size else 0)
            body += data[:size]
            if not whole or not size:
                return body, whole and await self._trailers()

    async def _trailers(self) -> bool:
        while not self._held.startswith(b"\r\n") and b"\r\n\r\n" not in self._held:
            if not await self._more():
                return False
        end = 2 if self._held.startswith(b"\r\n") else self._held.index(b"\r\n\r\n") + 4
        self._held = self._held[end:]
        return True

    async def _exactly(self, size: int) -> tuple[bytes, bool]:
        while len(self._held) < size:
            if not await self._more():
                break
        data, self._held = self._held[:size], self._held[size:]
        return data, len(data) == size

    async def _more(self) -> bool:
        """Wait for bytes; False at the end."""
        if self._ended:
            return False
        try:
            data = await self._reader.read(65536)
        except ConnectionResetError:
            data = b""
        self._held += data
        self._ended = not data
        return bool(data)


@contextlib.asynccontextmanager
async def _client(port: int) -> AsyncIterator[_Client]:
    client = _Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        await client.close()


async def play(lanes: Lanes, cases: Iterable[RequestCase | ResponseCase]) -> dict[str, Observation]:
    """Play all cases, on each lane one at a time; the observations by the cases' keys."""
    waiting = list(cases)[::-1]
    seen: dict[str, Observation] = {}

    async def one_lane(lane: Lane) -> None:
        while waiting:
            case = waiting.pop()
            is_request = isinstance(case, RequestCase)
            seen[case.key] = await (lane.request(case) if is_request else lane.response(case))

    async with asyncio.TaskGroup() as group:
        for port, recorder in lanes:
            group.create_task(one_lane(Lane(port, recorder)))
    return seen

"""Clients that ask for chat completions, one after the other, each on a connection that it keeps.

Every answer is read whole and judged: its status, its framing, what it says, and, of a stream, that
it ends with `[DONE]`. What is not as it had to be is counted by kind.
"""

import asyncio
import contextlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field

from loadtest.processes import LOOPBACK

ANSWER_TIMEOUT_S = 30.0
TEXT = "one two three four five six seven eight"
_VERSION = re.compile(rb"version-(\d+)")
_LENGTH = re.compile(rb"\ncontent-length: (\d+)\r", re.IGNORECASE)


@dataclass
class Account:
    """What clients did and met."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    version: int = 0  # the newest that a plugin said of itself


class Broken(Exception):
    """An answer that is not what it had to be; the text is the kind."""


def request_for(model: str, *, stream: bool) -> bytes:
    """A whole request."""
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": TEXT}]}
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: loadtest\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One client."""

    def __init__(self, port: int, account: Account, *, model: str, stream: bool) -> None:
        self._port = port
        self._account = account
        self._stream = stream
        self._request = request_for(model, stream=stream)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def live(self, enough: asyncio.Event) -> None:
        """Ask again and again until it is `enough`."""
        while not enough.is_set():
            await self.ask()
        self.leave()

    async def ask(self) -> bool:
        """Ask once; whether all was well. What was not is in the account."""
        account = self._account
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                body = await self._answer()
        except TimeoutError:
            account.failed["no answer in time"] += 1
        except (OSError, asyncio.IncompleteReadError):
            account.failed["connection broke"] += 1
        except Broken as broken:
            account.failed[str(broken)] += 1
        else:
            account.done += 1
            found = _VERSION.search(body)
            if found is not None:
                account.version = max(account.version, int(found[1]))
            return True
        self.leave()
        return False

    def leave(self) -> None:
        """Close the connection; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    async def _answer(self) -> bytes:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None:
            body = await self._reader.readexactly(int(length[1]))
        else:
            body = await _chunks(self._reader)
        if b"\nconnection: close" in head.lower():  # It had as many as a connection may have.
            self.leave()
        status = head.split(maxsplit=2)[1]
        if status != b"200":
            raise Broken(f"status {status.decode()}: {_code_of(body)}")
        if self._stream and not body.rstrip().endswith(b"data: [DONE]"):
            raise Broken("a stream without its end")
        if b"version-" not in body:
            raise Broken("an answer without what it had to say")
        return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, to its last chunk."""
    body = b""
    while True:
        size = int((await reader.readline()).strip() or b"0", 16)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return body


def _code_of(body: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["error"]["code"])
    return body[:80].decode(errors="replace")

"""Raw HTTP to a plugin, as plain as can be: nothing of the SDK's own client is trusted here."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from loomproxy.plugins import sdk
from loomproxy.plugins.sdk.run import Running

TOKEN = "a-token-of-this-spawn"


class Said(NamedTuple):
    """One answer of a plugin."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of each event."""
        text = self.body.decode()
        assert text.endswith("\n\n")
        return [event.removeprefix("data: ") for event in text.removesuffix("\n\n").split("\n\n")]


class Link:
    """One connection to a plugin."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Said:
        self.send(method, path, body, **fields)
        return await self.answer()

    def send(self, method: str, path: str, body: Any = None, **fields: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        words = {"Host": "plugin", "Authorization": f"Bearer {TOKEN}", **fields}
        if body is not None:
            words["Content-Length"] = str(len(data))
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {word}" for key, word in words.items())]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    async def answer(self, *, bodiless: bool = False) -> Said:
        status, fields = await self.head()
        if bodiless:
            return Said(status, fields, b"")
        if "content-length" in fields:
            body = await self.reader.readexactly(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            body = b"".join([piece async for piece in self.pieces()])
        else:
            body = await self.reader.read()
        return Said(status, fields, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = block.removesuffix("\r\n\r\n").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"

    def leave(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def linked(running: Running) -> AsyncIterator[Link]:
    """A connection to a running plugin."""
    if running.address.startswith("unix:"):
        opened = asyncio.open_unix_connection(running.address.removeprefix("unix:"))
    else:
        host, _, port = running.address.rpartition(":")
        opened = asyncio.open_connection(host, int(port))
    link = Link(*await opened)
    try:
        yield link
    finally:
        link.leave()


@contextlib.asynccontextmanager
async def served(plugin: sdk.Plugin[Any], config: Any = ()) -> AsyncIterator[Link]:
    """A connection to a plugin that serves in this loop; initialised unless `config` is None."""
    async with plugin.serving("127.0.0.1:0", TOKEN) as running, linked(running) as link:
        if config is not None:
            said = await link.ask("POST", "/initialize", dict(config))
            assert said.status == 200, said
        yield link


def asking(text: str = "hello big world", **more: Any) -> dict[str, Any]:
    """A request for a completion."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}

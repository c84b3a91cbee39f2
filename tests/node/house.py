"""The admin pages over plugins in memory, asked as over the private socket or as over TCP."""

import json
from collections.abc import Iterable
from typing import Any

from loomproxy.channel import Stats
from loomproxy.core.http1.wire import Limits, RequestWire
from loomproxy.core.message import RequestHead, RequestPart
from loomproxy.core.tally import Tally
from loomproxy.node.admin import Admin
from loomproxy.node.group import Group
from loomproxy.node.http import Reply
from loomproxy.node.plugin_api import PluginApi
from loomproxy.node.plugin_figures import Plugin, plugins
from loomproxy.node.reload import Report
from tests.node.fakes import Plugins

TOKEN = "0123456789abcdef"


class House:
    """An `Admin`, what was done through it, and ways to ask it."""

    def __init__(self, operator: Plugins | None, *, token: str | None = None) -> None:
        self.operator = operator
        self.tally = Tally()
        self.stats: Iterable[Stats] = ()
        self.leaving = False
        self.drained = 0
        self.group = Group()
        self.api = PluginApi(
            lambda: self.operator, self.plugins, self.group.spawn, leaving=lambda: self.leaving
        )
        self.admin = Admin(
            {b"/health": self._page, b"/metrics": self._page},
            status=self._status,
            reload=self._reload,
            drain=self._drain,
            sections=(self.api,),
            token=token,
        )

    async def plugins(self) -> tuple[Plugin, ...]:
        statuses = self.operator.status() if self.operator is not None else ()
        return plugins(statuses, self.tally, self.stats)

    async def ask(
        self, target: str, method: str = "GET", fields: str = "", body: str = ""
    ) -> Reply:
        """As an operator on this machine."""
        return await self.admin.answer(*request(target, method, fields, body))

    async def ask_tcp(self, target: str, method: str = "GET", fields: str = "") -> Reply:
        """As anybody who reaches the address."""
        return await self.admin.answer_anybody(*request(target, method, fields))

    async def _page(self) -> Reply:
        return Reply(200, b"{}\n")

    async def _status(self) -> object:
        return {"node": {}}

    async def _reload(self) -> Report:
        return Report(ok=True, revision=2)

    def _drain(self) -> None:
        self.drained += 1


def request(
    target: str, method: str = "GET", fields: str = "", body: str = ""
) -> tuple[RequestHead, bytes]:
    """A request as the admin listener reads it."""
    wire = RequestWire(Limits())
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    wire.receive(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}".encode())
    head = wire.poll()
    assert isinstance(head, RequestHead), head
    part = wire.poll() if head.has_body else RequestPart(b"", ended=True)
    assert isinstance(part, RequestPart), part
    return head, part.data


def value(reply: Reply) -> Any:
    assert reply.content_type == b"application/json"
    assert reply.body.endswith(b"\n")
    return json.loads(reply.body)

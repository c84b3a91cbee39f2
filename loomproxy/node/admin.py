"""What the node answers: on its admin listener, and through workers on public ones.

Health and metrics are for everybody whom the configuration lets ask; status and commands only for
whoever reaches the admin listener. It is not authenticated: it is a private Unix socket unless the
operator says otherwise. A web page in a browser on the same machine could reach a TCP one, so a
command that carries Origin, as browsers send it, is refused.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import orjson

from loomproxy.core.message import RequestHead, field
from loomproxy.node.http import Reply
from loomproxy.node.reload import Report

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"

Page = Callable[[], Awaitable[Reply]]


class Admin:
    """The pages: `public` ones for all, by path; `status`, `reload` and `drain` for operators."""

    def __init__(
        self,
        public: Mapping[bytes, Page],
        *,
        status: Callable[[], Awaitable[object]],
        reload: Callable[[], Awaitable[Report]],
        drain: Callable[[], None],
    ) -> None:
        self._public = public
        self._status = status
        self._reload = reload
        self._drain = drain
        self._pages: dict[bytes, tuple[bytes, Page]] = {
            **{path: (b"GET", page) for path, page in public.items()},
            b"/api/v1/status": (b"GET", self._answer_status),
            b"/api/v1/reload": (b"POST", self._answer_reload),
            b"/api/v1/drain": (b"POST", self._answer_drain),
        }

    async def page(self, path: bytes) -> Reply:
        """A page that a client asked a worker for. Nothing of the operator's is among them."""
        page = self._public.get(path)
        return await page() if page is not None else _text(404, "There is no such page.")

    async def answer(self, head: RequestHead, _body: bytes) -> Reply:
        """Answer a request on the admin listener."""
        found = self._pages.get(head.path)
        if found is None:
            return _text(404, "There is no such page.")
        method, page = found
        if head.method != method and (method, head.method) != (b"GET", b"HEAD"):
            allow = b"GET, HEAD" if method == b"GET" else method
            reply = _text(405, f"Use {allow.decode()}.")
            reply.extra = b"Allow: %b\r\n" % allow
            return reply
        if method == b"POST" and field(head.block, b"origin") is not None:
            return _text(403, "Commands are not taken from web pages.")
        return await page()

    async def _answer_status(self) -> Reply:
        return as_json(200, await self._status())

    async def _answer_reload(self) -> Reply:
        report = await self._reload()
        return as_json(200 if report.ok else 422, msgspec.to_builtins(report))

    async def _answer_drain(self) -> Reply:
        self._drain()
        return as_json(202, {"draining": True})


def as_json(status: int, thing: object) -> Reply:
    """`thing` as compact JSON with a newline: what people read in a terminal ends a line."""
    return Reply(status, orjson.dumps(thing, option=orjson.OPT_APPEND_NEWLINE), JSON)


def _text(status: int, text: str) -> Reply:
    return Reply(status, text.encode() + b"\n", TEXT)

"""What the node answers: on its admin listener, and through workers on public ones.

Health and metrics are for everybody whom the configuration lets ask; all else is for operators.
Whoever reaches the private Unix socket is one: its permissions say who can. Over TCP an operator is
who shows `admin.token`; nothing else that a request says of its sender is believed. Without a
token, status and commands are for whoever reaches the address, as they ever were; what shows and
runs plugins and the cluster is not there. A web page in a browser on the same machine could reach a
TCP address, so a command that carries Origin, as browsers send it, is refused.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from loomproxy.core.message import RequestHead, field, fields
from loomproxy.node.http import Reply, as_json
from loomproxy.node.reload import Report

TEXT: Final = b"text/plain; charset=utf-8"

_UNKNOWN: Final = (
    "Show admin.token as `Authorization: Bearer …`; on the command line, in LOOMPROXY_ADMIN_TOKEN "
    "or with --token-file. Or use the private Unix socket."
)
_NOT_FOR_ALL: Final = (
    "Plugins and the cluster are not shown or run at an address that anybody may use. Set "
    "admin.token, or use the private Unix socket."
)
_BEARER: Final = b"bearer "

Page = Callable[[], Awaitable[Reply]]


class Section(Protocol):
    """Pages that belong together, below paths of their own, for operators alone."""

    def owns(self, path: bytes, /) -> bool:
        """Whether a path is one of these pages."""

    async def answer(self, head: RequestHead, body: bytes, /) -> Reply:
        """Answer one request."""

    def close(self) -> None:
        """Let nobody wait any longer."""


class Admin:
    """The pages: `public` ones for all, by path; the others for operators.

    `token` is what an operator shows who does not come over a Unix socket; None: none is asked for.
    """

    def __init__(
        self,
        public: Mapping[bytes, Page],
        *,
        status: Callable[[], Awaitable[object]],
        reload: Callable[[], Awaitable[Report]],
        drain: Callable[[], None],
        sections: Sequence[Section],
        token: str | None,
    ) -> None:
        self._public = public
        self._status = status
        self._reload = reload
        self._drain = drain
        self._sections = tuple(sections)
        self._token = None if token is None else token.encode()
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

    async def answer_anybody(self, head: RequestHead, body: bytes) -> Reply:
        """Answer a request that came over TCP: it may come from anybody."""
        if head.path not in self._public:
            if self._token is None:
                if self._section(head.path) is not None:
                    return _text(403, _NOT_FOR_ALL)
            elif not _shows(head.block, self._token):
                reply = _text(401, _UNKNOWN)
                reply.extra = b'WWW-Authenticate: Bearer realm="loomproxy"\r\n'
                return reply
        return await self.answer(head, body)

    async def answer(self, head: RequestHead, body: bytes) -> Reply:
        """Answer a request of an operator, as those over the private Unix socket are."""
        if head.method == b"POST" and field(head.block, b"origin") is not None:
            return _text(403, "Commands are not taken from web pages.")
        section = self._section(head.path)
        if section is not None:
            return await section.answer(head, body)
        found = self._pages.get(head.path)
        if found is None:
            return _text(404, "There is no such page.")
        method, page = found
        if head.method != method and (method, head.method) != (b"GET", b"HEAD"):
            allow = b"GET, HEAD" if method == b"GET" else method
            reply = _text(405, f"Use {allow.decode()}.")
            reply.extra = b"Allow: %b\r\n" % allow
            return reply
        return await page()

    def close(self) -> None:
        """The listeners are about to close: let nobody wait any longer."""
        for section in self._sections:
            section.close()

    def _section(self, path: bytes) -> Section | None:
        return next((section for section in self._sections if section.owns(path)), None)

    async def _answer_status(self) -> Reply:
        return as_json(200, await self._status())

    async def _answer_reload(self) -> Reply:
        report = await self._reload()
        return as_json(200 if report.ok else 422, msgspec.to_builtins(report))

    async def _answer_drain(self) -> Reply:
        self._drain()
        return as_json(202, {"draining": True})


def _shows(block: bytes, token: bytes) -> bool:
    """Whether a head carries the token, once (RFC 6750 §2.1; the scheme in any case)."""
    shown = [value for name, value in fields(block) if name == b"authorization"]
    if len(shown) != 1 or shown[0][: len(_BEARER)].lower() != _BEARER:
        return False
    return hmac.compare_digest(shown[0][len(_BEARER) :].strip(b" "), token)


def _text(status: int, text: str) -> Reply:
    return Reply(status, text.encode() + b"\n", TEXT)

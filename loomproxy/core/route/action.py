"""What becomes of the requests that a route is for."""

import functools
import re
from typing import Final

import msgspec

from loomproxy.core.hygiene import HeaderOps
from loomproxy.core.message import RequestHead
from loomproxy.core.route.match import Match, normal_escapes, normal_prefix


class ToPool(msgspec.Struct, frozen=True):
    """Send the request to an endpoint of a pool."""

    pool: str


class Respond(msgspec.Struct, frozen=True):
    """Answer with a fixed response."""

    status: int  # 200..599
    body: bytes = b""
    content_type: bytes = b"text/plain; charset=utf-8"
    block: bytes = b""  # further canonical field lines


class Redirect(msgspec.Struct, frozen=True):
    """Send the client elsewhere."""

    status: int  # one of REDIRECT_STATUSES
    location: bytes  # may hold {scheme}, {host}, {path} and {query} (with its `?`, if any)

    def lacks(self, head: RequestHead) -> bool:
        """Whether the request says no host, and the location would have none without it.

        Browsers take the first segment of `https:///name/path` for the host, and the client chose
        it.
        """
        return not head.host and b"{host}" in self.location

    def location_for(self, head: RequestHead, scheme: bytes) -> bytes:
        """The Location value for one request that lacks nothing.

        Never a path that begins with `//` unless the configuration wrote it so: browsers read that
        as another host, and the client chose the path.
        """
        query = b"?" + head.query if head.query else b""
        values = {b"scheme": scheme, b"host": head.host, b"path": head.path, b"query": query}
        location = _PLACEHOLDER.sub(lambda found: values[found[1]], self.location)
        if location.startswith((b"//", b"/\\")) and not self.location.startswith(b"//"):
            location = b"/" + location.lstrip(b"/\\")
        return location


class Serve(msgspec.Struct, frozen=True):
    """The house answers: health and metrics."""


class Chat(msgspec.Struct, frozen=True):
    """Have the provider answer that serves the model which the request names."""

    dialect: str  # of the client: `openai` or `loom`
    streams: bool = False  # every answer is a stream, whatever the request's body says


class Models(msgspec.Struct, frozen=True):
    """Answer with the models that providers serve: all of them, or the one that the path names."""

    path: bytes  # of the list; a slash and a name behind it ask for one


Action = ToPool | Respond | Redirect | Serve | Chat | Models

OF_THE_HOUSE: Final = (Serve, Chat, Models)
"""What is asked before any route of the configuration."""

PREFIXES_MAX: Final = 1024
"""Prefixes to strip that are remembered as patterns: as many as most configurations have routes."""

REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)


class PathRewrite(msgspec.Struct, frozen=True):
    """How the path is changed before it goes up: strip, substitute, add. The query stays."""

    strip_prefix: bytes = b""  # whole segments; a path without it stays as it is
    pattern: bytes = b""  # regular expression, substituted once, at its first place; b"": none
    replacement: bytes = b""  # may hold \\1 or \\g<name>; may hold a `?`
    add_prefix: bytes = b""  # begins with `/`, does not end with one

    def target(self, head: RequestHead) -> bytes:
        """The request target for the upstream, in origin form; `*` stays `*`.

        It begins with exactly one slash: what is left of `/api//x` without `/api` must not be read
        as an authority. And it has no dot segments: a pattern that ends within a segment makes one
        of `/strip../x`, which never was one for the routes. Where a pattern cuts an escape in half,
        what is left of it is escaped again.
        """
        path = head.path
        if not path.startswith(b"/"):
            return head.target
        if self.strip_prefix:
            path = _stripped(path, self.strip_prefix)
        if self.pattern:
            path = re.sub(self.pattern, self.replacement, path, count=1)
            path = _BAD_ESCAPE.sub(b"%25", path)
        path, mark, query = path.partition(b"?")
        path = self.add_prefix + b"/" + _without_dots(path).lstrip(b"/") + mark + query
        if not head.query:
            return path
        return path + (b"&" if b"?" in path else b"?") + head.query


class Timeouts(msgspec.Struct, frozen=True):
    """How long each phase of an exchange may last, in seconds."""

    queue_s: float = 5.0  # for a place in the pool
    connect_s: float = 3.0  # for a connection to the endpoint
    response_s: float = 60.0  # from the request's last part to the response head
    idle_s: float = 60.0  # between two parts of a body, either direction
    send_s: float = 30.0  # in which the client takes nothing of what is buffered for it
    tunnel_idle_s: float = 300.0  # with no byte either way
    service_s: float = 5.0  # for the house's own answer
    body_bytes_min_per_s: int = 240  # of a request body; 0: any speed (see `core.pace`)
    send_bytes_min_per_s: int = 240  # that the client takes of what is there; 0: any speed


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often one exchange may be tried."""

    attempts_max: int = 3  # 1..10; 1: never again


WEBSOCKET_ONLY: Final = frozenset((b"websocket",))

HOST_OF_ENDPOINT: Final = b""
"""`Route.host` that asks for the endpoint's own address in the Host field."""


class Route(msgspec.Struct, frozen=True):
    """What to do with the requests that match."""

    name: str
    match: Match
    action: Action
    rewrite: PathRewrite | None = None
    request_ops: HeaderOps | None = None
    response_ops: HeaderOps | None = None
    host: bytes | None = None  # None: the client's Host; HOST_OF_ENDPOINT; else this value
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    body_bytes_max: int = 100 << 20  # a larger request body is answered 413
    replay_bytes_max: int = 64 << 10  # of a request body kept for another attempt; beyond: no retry
    upgrades: frozenset[bytes] = WEBSOCKET_ONLY  # lower-case Upgrade tokens that may pass


def _stripped(path: bytes, prefix: bytes) -> bytes:
    """`path` without `prefix` where that ends with a segment; what is left keeps its spelling."""
    found = _at_begin(prefix).match(normal_escapes(path))
    return path if found is None else path[_written_end(path, found.end()) :]


def _written_end(path: bytes, end: int) -> int:
    """Where in `path`, as it is written, the first `end` bytes of its normal form end."""
    for escape in _ESCAPE.finditer(path):
        if escape.start() >= end:
            break
        end += len(escape[0]) - len(normal_escapes(escape[0]))
    return end


@functools.lru_cache(PREFIXES_MAX)
def _at_begin(prefix: bytes) -> re.Pattern[bytes]:
    """What finds a prefix as routes do, however many slashes and parameters its segments have."""
    first, *segments = [re.escape(segment) for segment in normal_prefix(prefix).split(b"/")]
    rest = b"".join([rb"/+%b(?:;[^/]*)?" % segment for segment in segments])
    return re.compile(rb"%b%b(?=/|\Z)" % (first, rest))


def _without_dots(path: bytes) -> bytes:
    """`path` with `.` and `..` carried out (RFC 3986 §5.2.4), escaped ones too."""
    written = path.split(b"/")
    segments = normal_escapes(path).split(b"/")  # as many: an escaped slash stays one
    if not _DOTS.intersection(segments):
        return path
    kept: list[bytes] = []
    for spelling, segment in zip(written, segments, strict=True):
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(spelling)
    if segments[-1] in _DOTS:
        kept.append(b"")
    return b"/".join(kept)


_DOTS: Final = frozenset((b".", b".."))
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%(?=00)")
_PLACEHOLDER: Final = re.compile(rb"\{(scheme|host|path|query)\}")

"""Which route a request takes, and what a route asks for.

A request matches many routes; exactly one may have it. The most specific wins, and specific is a total order, so
that two people reading one configuration cannot disagree:

    1. what the house answers itself (health, metrics), on the listeners that say so
    2. host:    exact name, then the longest wildcard, then any
    3. path:    exact, then regular expressions in file order, then the longest prefix, then any
    4. methods: a route that names methods before one that does not
    5. headers: more conditions before fewer
    6. query:   more conditions before fewer
    7. the order of the file

A route that does not match at all is no candidate: where the exact host has no route for a path, the wildcards
are asked, then the routes for any host. `precedence` is that order as a sort key; `RouteTable` is the same order as
a walk through dictionaries, and a property test holds the two together.

Paths are compared as they came, in the one normal form that RFC 3986 §6.2.2 calls equal anyway: `%61dmin` is
`admin`, `%2f` is `%2F` and still not a slash. Otherwise a route that guards `/admin` could be walked around.
"""

import enum
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from loomproxy.core.hygiene import HeaderOps
from loomproxy.core.message import RequestHead, fields


class PathKind(enum.Enum):
    """How a route compares the path."""

    EXACT = "exact"
    REGEX = "regex"  # found anywhere in the path; `^` and `$` anchor it
    PREFIX = "prefix"  # whole segments: /api is a prefix of /api and /api/x, not of /apix
    ANY = "any"


class ValueKind(enum.Enum):
    """How a route compares the value of a header or query parameter."""

    PRESENT = "present"  # any value, an empty one too
    EXACT = "exact"
    REGEX = "regex"


class Condition(msgspec.Struct, frozen=True):
    """What one header or query parameter must say. Of several with one name, any may hold."""

    name: bytes  # a header's in lower case; a parameter's decoded, case kept
    kind: ValueKind = ValueKind.PRESENT
    value: bytes = b""  # the exact value, or the regular expression

    def test(self) -> Callable[[bytes], bool]:
        """A function that says whether one value holds."""
        if self.kind is ValueKind.PRESENT:
            return _always
        if self.kind is ValueKind.EXACT:
            return self.value.__eq__
        return _finds(re.compile(self.value))


class Match(msgspec.Struct, frozen=True):
    """Which requests a route is for: every part must hold; an empty part always does."""

    hosts: tuple[bytes, ...] = ()  # lower case, no port: b"example.com", or b"*.example.com"
    path_kind: PathKind = PathKind.ANY
    paths: tuple[bytes, ...] = ()  # any of them; empty exactly for ANY
    methods: frozenset[bytes] = frozenset()
    headers: tuple[Condition, ...] = ()  # all of them
    query: tuple[Condition, ...] = ()  # all of them
    listeners: frozenset[str] = frozenset()


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

    status: int  # 301, 302, 303, 307 or 308
    location: bytes  # may hold {scheme}, {host}, {path} and {query} (with its `?`; nothing when empty)

    def location_for(self, head: RequestHead, scheme: bytes) -> bytes:
        """The Location value for one request.

        Never a path that begins with `//` unless the configuration wrote it so: browsers read that as another
        host, and the client chose the path.
        """
        query = b"?" + head.query if head.query else b""
        values = {b"scheme": scheme, b"host": head.host, b"path": head.path, b"query": query}
        location = _PLACEHOLDER.sub(lambda found: values[found[1]], self.location)
        if location.startswith((b"//", b"/\\")) and not self.location.startswith(b"//"):
            location = b"/" + location.lstrip(b"/\\")
        return location


class Serve(msgspec.Struct, frozen=True):
    """The house answers: health and metrics."""


Action = ToPool | Respond | Redirect | Serve

REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)


class PathRewrite(msgspec.Struct, frozen=True):
    """How the path is changed before it goes up: strip, then substitute, then add. The query stays."""

    strip_prefix: bytes = b""  # whole segments; a path without it stays as it is
    pattern: bytes = b""  # regular expression, substituted once, at its first place; b"": none
    replacement: bytes = b""  # may hold \\1 or \\g<name>; may hold a `?`
    add_prefix: bytes = b""  # begins with `/`, does not end with one

    def target(self, head: RequestHead) -> bytes:
        """The request target for the upstream, in origin form; `*` stays `*`."""
        path = head.path
        if not path.startswith(b"/"):
            return head.target
        if self.strip_prefix:
            path = _stripped(normal_path(path), self.strip_prefix)
        if self.pattern:
            path = re.sub(self.pattern, self.replacement, path, count=1)
        if self.add_prefix:
            path = self.add_prefix + (path if path.startswith(b"/") else b"/" + path)
        path = b"/" + path.lstrip(b"/")
        if not head.query:
            return path
        return path + (b"&" if b"?" in path else b"?") + head.query


class Timeouts(msgspec.Struct, frozen=True):
    """How long each phase of an exchange may last, in seconds."""

    queue_s: float = 5.0  # for a place in the pool
    connect_s: float = 3.0  # for a connection to the endpoint
    response_s: float = 60.0  # from the request's last part to the response head
    idle_s: float = 60.0  # between two parts of a body, either direction
    send_s: float = 30.0  # for the client to take what is buffered at the end
    tunnel_idle_s: float = 300.0  # with no byte either way
    service_s: float = 5.0  # for the house's own answer


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often one exchange may be tried."""

    attempts_max: int = 3  # 1..10; 1: never again


WEBSOCKET_ONLY: Final = frozenset((b"websocket",))


class Route(msgspec.Struct, frozen=True):
    """What to do with the requests that match."""

    name: str
    match: Match
    action: Action
    rewrite: PathRewrite | None = None
    request_ops: HeaderOps | None = None
    response_ops: HeaderOps | None = None
    host: bytes | None = None  # None: the client's Host; b"": the endpoint's address; else this value
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    body_bytes_max: int = 100 << 20  # a larger request body is answered 413
    replay_bytes_max: int = 64 << 10  # of a request body kept for another attempt; beyond: no retry
    upgrades: frozenset[bytes] = WEBSOCKET_ONLY  # lower-case Upgrade tokens that may pass


HOST_OF_ENDPOINT: Final = b""
"""`Route.host` that asks for the endpoint's own address in the Host field."""


def normal_path(path: bytes) -> bytes:
    """`path` in the form that routes compare (RFC 3986 §6.2.2): as it is where there is no `%`."""
    if b"%" not in path:
        return path
    return _ENCODED.sub(_normal_octet, path)


def normal_prefix(prefix: bytes) -> bytes:
    """A prefix in the form that routes compare: /api/ and /api mean the same; `/` is b""."""
    return normal_path(prefix).rstrip(b"/")


def precedence(route: Route, place: int, host: bytes, path: bytes) -> tuple[object, ...]:
    """Where `route` stands among the candidates, by the host and path of its match that held.

    `place` is the route's place in the file. Smaller is taken first. This is the stated order, for one host
    pattern and one path pattern of the match (b"" where it has none); the walk of `RouteTable` obeys it.
    """
    match = route.match
    host_rank = (2, 0) if not host else (1, -len(host)) if host.startswith(b"*.") else (0, 0)
    kind = match.path_kind
    path_ranks = {
        PathKind.EXACT: (0, 0),
        PathKind.REGEX: (1, place),
        PathKind.PREFIX: (2, -len(normal_prefix(path))),
        PathKind.ANY: (3, 0),
    }
    return (
        not isinstance(route.action, Serve),
        host_rank,
        path_ranks[kind],
        not match.methods,
        -len(match.headers),
        -len(match.query),
        place,
    )


class _Candidate:
    """A route, with what is left to ask once its host and path hold."""

    __slots__ = ("headers", "methods", "plain", "query", "route")

    def __init__(self, route: Route) -> None:
        match = route.match
        self.route = route
        self.methods = match.methods
        self.headers = [(condition.name, condition.test()) for condition in match.headers]
        self.query = [(condition.name, condition.test()) for condition in match.query]
        self.plain = not (self.methods or self.headers or self.query)

    def holds(self, head: RequestHead) -> bool:
        """Whether method, headers and query hold too."""
        if self.methods and head.method not in self.methods:
            return False
        if self.headers and not _hold(self.headers, fields(head.block)):
            return False
        return not self.query or _hold(self.query, _parameters(head.query))


class _Paths:
    """The routes of one host pattern, by path."""

    __slots__ = ("any", "exact", "prefix_bytes_max", "prefixes", "regexes")

    def __init__(self) -> None:
        self.exact: dict[bytes, list[_Candidate]] = {}
        self.regexes: list[tuple[Callable[[bytes], object], _Candidate]] = []
        self.prefixes: dict[bytes, list[_Candidate]] = {}
        self.prefix_bytes_max = -1
        self.any: list[_Candidate] = []

    def add(self, candidate: _Candidate, path: bytes) -> None:
        """Enter a candidate under one path pattern; those entered earlier are asked earlier."""
        kind = candidate.route.match.path_kind
        if kind is PathKind.EXACT:
            self.exact.setdefault(normal_path(path), []).append(candidate)
        elif kind is PathKind.REGEX:
            self.regexes.append((re.compile(path).search, candidate))
        elif kind is PathKind.PREFIX:
            prefix = normal_prefix(path)
            self.prefixes.setdefault(prefix, []).append(candidate)
            self.prefix_bytes_max = max(self.prefix_bytes_max, len(prefix))
        else:
            self.any.append(candidate)

    def find(self, head: RequestHead, path: bytes) -> Route | None:
        """The first route that holds, in the stated order."""
        exact = self.exact.get(path)
        if exact is not None:
            for candidate in exact:
                if candidate.plain or candidate.holds(head):
                    return candidate.route
        for found, candidate in self.regexes:
            if found(path) and (candidate.plain or candidate.holds(head)):
                return candidate.route
        if self.prefixes and path.startswith(b"/"):
            route = self._longest_prefix(head, path)
            if route is not None:
                return route
        for candidate in self.any:
            if candidate.plain or candidate.holds(head):
                return candidate.route
        return None

    def _longest_prefix(self, head: RequestHead, path: bytes) -> Route | None:
        """Ask every prefix of whole segments, the longest first, none longer than the longest there is."""
        end = len(path)
        if end > self.prefix_bytes_max:
            # A prefix ends where a segment does: at a slash, or at the end of the path.
            end = path.rfind(b"/", 0, self.prefix_bytes_max + 1)
        prefixes = self.prefixes
        while end >= 0:
            candidates = prefixes.get(path[:end])
            if candidates is not None:
                for candidate in candidates:
                    if candidate.plain or candidate.holds(head):
                        return candidate.route
            end = path.rfind(b"/", 0, end)
        return None


class _Hosts:
    """The routes of one listener, by host."""

    __slots__ = ("any", "exact", "service", "wildcards")

    def __init__(self) -> None:
        self.service = _Paths()
        self.exact: dict[bytes, _Paths] = {}
        self.wildcards: dict[bytes, _Paths] = {}  # by what follows the star: b".example.com"
        self.any = _Paths()

    def bucket(self, route: Route, host: bytes) -> _Paths:
        """Where the routes of one host pattern are; b"" for any host."""
        if isinstance(route.action, Serve):
            return self.service
        if not host:
            return self.any
        if host.startswith(b"*."):
            return self.wildcards.setdefault(host[1:], _Paths())
        return self.exact.setdefault(host, _Paths())


class RouteTable:
    """All routes of a snapshot, arranged so that the common request costs a few dictionary look-ups."""

    __slots__ = ("_by_listener", "_default", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        named = {name for route in routes for name in route.match.listeners}
        self._default = _arranged(route for route in routes if not route.match.listeners)
        self._by_listener = {
            name: _arranged(
                route for route in routes if not route.match.listeners or name in route.match.listeners
            )
            for name in named
        }

    @classmethod
    def build(cls, routes: Sequence[Route]) -> "RouteTable":
        """Arrange `routes`, given in file order. Patterns are valid regular expressions by now."""
        return cls(routes)

    def find(self, head: RequestHead, listener: str) -> Route | None:
        """The route for a request that came in on `listener`, or None."""
        hosts = self._by_listener.get(listener, self._default)
        path = head.path
        if b"%" in path:
            path = normal_path(path)
        if hosts.service.exact:
            route = hosts.service.find(head, path)
            if route is not None:
                return route
        paths = hosts.exact.get(head.host)
        if paths is not None:
            route = paths.find(head, path)
            if route is not None:
                return route
        if hosts.wildcards:
            route = _find_wildcard(hosts.wildcards, head, path)
            if route is not None:
                return route
        return hosts.any.find(head, path)


def _find_wildcard(wildcards: dict[bytes, _Paths], head: RequestHead, path: bytes) -> Route | None:
    """Ask `*.b.c`, then `*.c`, for the host a.b.c: a star stands for one label or more."""
    host = head.host
    if len(host) > _HOST_BYTES_MAX:
        return None
    dot = host.find(b".", 1)
    while dot > 0:
        paths = wildcards.get(host[dot:])
        if paths is not None:
            route = paths.find(head, path)
            if route is not None:
                return route
        dot = host.find(b".", dot + 1)
    return None


def _arranged(routes: Iterable[Route]) -> _Hosts:
    """Enter routes under each of their hosts and paths, most specific first within a path."""
    entries = [
        (precedence(route, place, host, path), route, host, path)
        for place, route in enumerate(routes)
        for host in route.match.hosts or (b"",)
        for path in route.match.paths or (b"",)
    ]
    entries.sort(key=lambda entry: entry[0])
    hosts = _Hosts()
    candidates: dict[int, _Candidate] = {}
    for _, route, host, path in entries:
        candidate = candidates.setdefault(id(route), _Candidate(route))
        hosts.bucket(route, host).add(candidate, path)
    return hosts


def _hold(
    conditions: list[tuple[bytes, Callable[[bytes], bool]]], pairs: list[tuple[bytes, bytes]]
) -> bool:
    """Whether every condition holds for some pair of its name."""
    return all(
        any(have == name and test(value) for have, value in pairs) for name, test in conditions
    )


def _parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The (name, value) pairs of a query, decoded as HTML forms write them (`+` is a space)."""
    pairs = []
    for piece in query.replace(b"+", b" ").split(b"&"):
        name, _, value = piece.partition(b"=")
        pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def _stripped(path: bytes, prefix: bytes) -> bytes:
    """`path` without `prefix` where that ends with a segment; as it is otherwise."""
    prefix = normal_prefix(prefix)
    rest = path[len(prefix) :]
    if not path.startswith(prefix) or (rest and not rest.startswith(b"/")):
        return path
    return rest or b"/"


def _always(_value: bytes) -> bool:
    return True


def _finds(pattern: re.Pattern[bytes]) -> Callable[[bytes], bool]:
    search = pattern.search
    return lambda value: search(value) is not None


_HOST_BYTES_MAX: Final = 253
"""No name in the DNS is longer (RFC 1035 §2.3.4); bounds the walk over the labels of a hostile Host."""

_PLACEHOLDER: Final = re.compile(rb"\{(scheme|host|path|query)\}")
_ENCODED: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986 §2.3


def _normal_octet(encoded: re.Match[bytes]) -> bytes:
    octet = int(encoded[0][1:], 16)
    return bytes((octet,)) if octet in _UNRESERVED else encoded[0].upper()

"""Which of several routes a request takes.

A request matches many routes; exactly one may have it. The most specific wins, and specific is a
total order, so that two people reading one configuration cannot disagree:

    1. what the house answers itself (health, metrics, chats), on the listeners that say so
    2. host:    exact name, then the longest wildcard, then any
    3. path:    exact, then regular expressions in file order, then the longest prefix, then any
    4. methods: a route that names methods before one that does not
    5. headers: more conditions before fewer
    6. query:   more conditions before fewer
    7. the order of the file

A route that does not match at all is no candidate: where the exact host has no route for a path,
the wildcards are asked, then the routes for any host. `precedence` is that order as a sort key;
`RouteTable` is the same order as a walk through dictionaries, and a property test holds the two
together.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from loomproxy.core.message import RequestHead
from loomproxy.core.route.action import OF_THE_HOUSE, Route
from loomproxy.core.route.match import PathKind, Remainder, normal_path, normal_prefix

# A byte is found in bytes four times as fast by its number as by itself.
PERCENT: Final = ord("%")
SEMICOLON: Final = ord(";")

HOST_BYTES_MAX: Final = 253
"""No name in the DNS is longer (RFC 1035 §2.3.4).

A longer Host matches no wildcard: that bounds the walk over the labels of a hostile one.
"""


def precedence(route: Route, place: int, host: bytes, path: bytes) -> tuple[object, ...]:
    """Where `route` stands among the candidates, by the host and path of its match that held.

    `place` is the route's place in the file. Smaller is taken first. This is the stated order, for
    one host pattern and one path pattern of the match (b"" where it has none); the walk of
    `RouteTable` obeys it.
    """
    match = route.match
    path_ranks = {
        PathKind.EXACT: (0, 0),
        PathKind.REGEX: (1, place),
        PathKind.PREFIX: (2, -len(normal_prefix(path))),
        PathKind.ANY: (3, 0),
    }
    return (
        not isinstance(route.action, OF_THE_HOUSE),
        _host_rank(host),
        path_ranks[match.path_kind],
        not match.methods,
        -len(match.headers),
        -len(match.query),
        place,
    )


def _host_rank(host: bytes) -> tuple[int, int]:
    if not host:
        return (2, 0)
    return (1, -len(host)) if host.startswith(b"*.") else (0, 0)


_Candidate = tuple[Route, Remainder]

_Choice = Route | list[_Candidate]
"""A route that has the request for certain, or those to ask in turn.

Most places have one route without further conditions; for it nothing more is called.
"""


class _Paths:
    """The routes of one host pattern, by path."""

    __slots__ = ("any", "exact", "prefix_bytes_max", "prefixes", "regexes")

    def __init__(self) -> None:
        self.exact: dict[bytes, _Choice] = {}
        self.regexes: list[tuple[Callable[[bytes], object], Route, Remainder]] = []
        self.prefixes: dict[bytes, _Choice] = {}
        self.prefix_bytes_max = 0
        self.any: _Choice | None = None

    def add(self, candidate: _Candidate, path: bytes) -> None:
        """Enter a candidate under one path pattern; those entered earlier are asked earlier."""
        kind = candidate[0].match.path_kind
        if kind is PathKind.EXACT:
            path = normal_path(path)
            self.exact[path] = _with(self.exact.get(path), candidate)
        elif kind is PathKind.REGEX:
            self.regexes.append((re.compile(path).search, *candidate))
        elif kind is PathKind.PREFIX:
            prefix = normal_prefix(path)
            self.prefixes[prefix] = _with(self.prefixes.get(prefix), candidate)
            self.prefix_bytes_max = max(self.prefix_bytes_max, len(prefix))
        else:
            self.any = _with(self.any, candidate)

    def find(self, head: RequestHead, path: bytes) -> Route | None:
        """The first route that holds, in the stated order."""
        choice = self.exact.get(path)
        if choice is not None:
            route = choice if type(choice) is Route else _first(choice, head)
            if route is not None:
                return route
        for found, route, remainder in self.regexes:
            if found(path) and (remainder.always or remainder.holds(head)):
                return route
        if self.prefixes:
            route = self._longest_prefix(head, path)
            if route is not None:
                return route
        return self.any if type(self.any) is Route else _first(self.any, head)

    def _longest_prefix(self, head: RequestHead, path: bytes) -> Route | None:
        """Ask every prefix of whole segments, from the longest that a route has.

        The empty one (`/`) is asked at the first slash, so `*` never comes to it.
        """
        end = len(path)
        if end > self.prefix_bytes_max:
            # A prefix ends where a segment does: at a slash, or at the end of the path.
            end = path.rfind(b"/", 0, self.prefix_bytes_max + 1)
        prefixes = self.prefixes
        while end >= 0:
            choice = prefixes.get(path[:end])
            if choice is not None:
                route = choice if type(choice) is Route else _first(choice, head)
                if route is not None:
                    return route
            end = path.rfind(b"/", 0, end)
        return None


def _with(choice: _Choice | None, candidate: _Candidate) -> _Choice:
    """`choice` with one more to ask after all others; nothing is asked after a certain one."""
    route, remainder = candidate
    if choice is None:
        return route if remainder.always else [candidate]
    if isinstance(choice, list):
        choice.append(candidate)
    return choice


def _first(choice: _Choice | None, head: RequestHead) -> Route | None:
    """The first that holds; its host and path do already."""
    if isinstance(choice, list):
        for route, remainder in choice:
            if remainder.always or remainder.holds(head):
                return route
        return None
    return choice


class _Hosts:
    """The routes of one listener, by host."""

    __slots__ = ("any", "exact", "service", "wildcards")

    def __init__(self) -> None:
        self.service: _Paths | None = None
        self.exact: dict[bytes, _Paths] = {}
        self.wildcards: dict[bytes, _Paths] = {}  # by what follows the star: b".example.com"
        self.any = _Paths()

    def paths(self, route: Route, host: bytes) -> _Paths:
        """Where the routes of one host pattern are; b"" for any host."""
        if isinstance(route.action, OF_THE_HOUSE):
            self.service = self.service or _Paths()
            return self.service
        if not host:
            return self.any
        if host.startswith(b"*."):
            return self.wildcards.setdefault(host[1:], _Paths())
        return self.exact.setdefault(host, _Paths())


class RouteTable:
    """All routes of a snapshot, arranged for a few dictionary look-ups per request."""

    __slots__ = ("_by_listener", "_default", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        named = {name for route in routes for name in route.match.listeners}
        self._default = _arranged(route for route in routes if not route.match.listeners)
        self._by_listener = {name: _arranged(_open_to(routes, name)) for name in named}

    @classmethod
    def build(cls, routes: Sequence[Route]) -> "RouteTable":
        """Arrange `routes`, given in file order. Their patterns are valid regular expressions."""
        return cls(routes)

    def find(self, head: RequestHead, listener: str) -> Route | None:
        """The route for a request that came in on `listener`, or None."""
        hosts = self._by_listener.get(listener, self._default)
        path = head.path
        if PERCENT in path or SEMICOLON in path or path.find(b"//") >= 0:
            path = normal_path(path)
        if hosts.service is not None:
            route = hosts.service.find(head, path)
            if route is not None:
                return route
        if hosts.exact:
            paths = hosts.exact.get(head.host)
            route = None if paths is None else paths.find(head, path)
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
    if len(host) > HOST_BYTES_MAX:
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


def _open_to(routes: Sequence[Route], listener: str) -> list[Route]:
    """The routes that requests of one listener may take, in file order."""
    return [
        route for route in routes if not route.match.listeners or listener in route.match.listeners
    ]


def _arranged(routes: Iterable[Route]) -> _Hosts:
    """Enter routes under each of their hosts and paths, most specific first within a path."""
    entries = [
        (precedence(route, place, host, path), (route, Remainder(route.match)), host, path)
        for place, route in enumerate(routes)
        for host in route.match.hosts or (b"",)
        for path in route.match.paths or (b"",)
    ]
    entries.sort(key=_rank)
    hosts = _Hosts()
    for _, candidate, host, path in entries:
        hosts.paths(candidate[0], host).add(candidate, path)
    return hosts


def _rank(entry: tuple[tuple[object, ...], _Candidate, bytes, bytes]) -> tuple[object, ...]:
    return entry[0]

"""Which of several routes a request takes. The stated order is the law; the walk must obey it."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.message import Framing, RequestHead
from loomproxy.core.route import (
    Condition,
    Match,
    PathKind,
    Route,
    RouteTable,
    Serve,
    ToPool,
    normal_path,
    normal_prefix,
    precedence,
)
from loomproxy.core.route.match import Remainder
from loomproxy.core.route.table import HOST_BYTES_MAX

EXACT, REGEX, PREFIX, ANY = PathKind.EXACT, PathKind.REGEX, PathKind.PREFIX, PathKind.ANY


def asked(
    target: bytes = b"/",
    host: bytes = b"example.com",
    method: bytes = b"GET",
    block: bytes = b"",
) -> RequestHead:
    path, _, query = target.partition(b"?")
    return RequestHead(
        method, target, path, query, 1, host, host, Framing.NONE, 0, True, False, b"", (), block
    )


def route(name: str, *paths: bytes, kind: PathKind = PREFIX, **match: Any) -> Route:
    return Route(name, Match(path_kind=kind if paths else ANY, paths=paths, **match), ToPool("app"))


def found(routes: list[Route], head: RequestHead, listener: str = "public") -> str | None:
    route = RouteTable.build(routes).find(head, listener)
    return None if route is None else route.name


def test_without_routes_nothing_is_found() -> None:
    assert found([], asked()) is None


def test_an_exact_host_goes_before_wildcards_and_these_before_any() -> None:
    routes = [
        route("any"),
        route("wide", hosts=(b"*.com",)),
        route("narrow", hosts=(b"*.example.com",)),
        route("exact", hosts=(b"a.example.com",)),
    ]
    assert found(routes, asked(host=b"a.example.com")) == "exact"
    assert found(routes, asked(host=b"b.a.example.com")) == "narrow"
    assert found(routes, asked(host=b"example.com")) == "wide"
    assert found(routes, asked(host=b"example.org")) == "any"
    assert found(routes, asked(host=b"")) == "any"


def test_a_wildcard_stands_for_one_label_at_least() -> None:
    routes = [route("below", hosts=(b"*.example.com",))]
    assert found(routes, asked(host=b"example.com")) is None
    assert found(routes, asked(host=b".example.com")) is None
    assert found(routes, asked(host=b"notexample.com")) is None
    assert found(routes, asked(host=b"a.example.com")) == "below"


def test_a_host_that_no_name_can_have_matches_no_wildcard() -> None:
    routes = [route("below", hosts=(b"*.com",))]
    assert found(routes, asked(host=b"a" * (HOST_BYTES_MAX - 4) + b".com")) == "below"
    assert found(routes, asked(host=b"a" * (HOST_BYTES_MAX - 3) + b".com")) is None


def test_where_the_exact_host_has_no_route_for_a_path_others_are_asked() -> None:
    routes = [
        route("exact", b"/a", hosts=(b"x.example.com",)),
        route("below", b"/b", hosts=(b"*.example.com",)),
        route("wide", b"/c", hosts=(b"*.com",)),
        route("any", b"/d"),
    ]
    host = b"x.example.com"
    paths = (b"/a", b"/b", b"/c", b"/d", b"/e")
    assert [found(routes, asked(path, host)) for path in paths] == [
        "exact",
        "below",
        "wide",
        "any",
        None,
    ]


def test_paths_exact_then_regex_then_longest_prefix_then_any() -> None:
    routes = [
        route("any"),
        route("short", b"/a"),
        route("long", b"/a/b"),
        route("regex", rb"/\d$", kind=REGEX),
        route("exact", b"/a/b/1", kind=EXACT),
    ]
    assert found(routes, asked(b"/a/b/1")) == "exact"
    assert found(routes, asked(b"/a/b/2")) == "regex"
    assert found(routes, asked(b"/a/b/c")) == "long"
    assert found(routes, asked(b"/a/b")) == "long"
    assert found(routes, asked(b"/a/bc")) == "short"
    assert found(routes, asked(b"/abc")) == "any"
    assert found(routes, asked(b"*")) == "any"


def test_regexes_go_by_the_order_of_the_file() -> None:
    first, second = route("first", b"/a", kind=REGEX), route("second", b"^/a$", kind=REGEX)
    assert found([first, second], asked(b"/a")) == "first"
    assert found([second, first], asked(b"/a")) == "second"


def test_the_root_is_the_shortest_prefix_and_no_prefix_of_the_asterisk() -> None:
    routes = [route("root", b"/")]
    assert found(routes, asked(b"/x/y/z")) == "root"
    assert found(routes, asked(b"*")) is None


def test_a_longer_prefix_that_asks_for_more_leaves_the_request_to_a_shorter_one() -> None:
    routes = [
        route("posts", b"/a/b", methods=frozenset((b"POST",))),
        route("all", b"/a"),
    ]
    assert found(routes, asked(b"/a/b/c")) == "all"
    assert found(routes, asked(b"/a/b/c", method=b"POST")) == "posts"


def test_an_exact_path_that_asks_for_more_leaves_the_request_to_others() -> None:
    routes = [
        route("exact", b"/a", kind=EXACT, methods=frozenset((b"POST",))),
        route("regex", b"/a", kind=REGEX, methods=frozenset((b"PUT",))),
        route("prefix", b"/a", methods=frozenset((b"GET",))),
        route("any", methods=frozenset((b"HEAD",))),
    ]
    methods = (b"POST", b"PUT", b"GET", b"HEAD", b"DELETE")
    assert [found(routes, asked(b"/a", method=method)) for method in methods] == [
        "exact",
        "regex",
        "prefix",
        "any",
        None,
    ]


def test_among_equals_methods_then_headers_then_query_then_the_file() -> None:
    header, query = Condition(b"x-a"), Condition(b"q")
    routes = [
        route("file"),
        route("later"),
        route("query", query=(query,)),
        route("headers", headers=(header,)),
        route("methods", methods=frozenset((b"POST",))),
    ]
    block = b"X-A: 1\r\n"
    assert found(routes, asked(b"/?q", method=b"POST", block=block)) == "methods"
    assert found(routes, asked(b"/?q", block=block)) == "headers"
    assert found(routes, asked(b"/?q")) == "query"
    assert found(routes, asked(b"/")) == "file"


def test_a_guarded_path_cannot_be_walked_around_by_encoding() -> None:
    routes = [route("guard", b"/admin"), route("rest")]
    assert found(routes, asked(b"/%61dmin/x")) == "guard"
    assert found(routes, asked(b"/admin%2Fx")) == "rest"


def test_routes_of_one_listener_are_for_its_requests_only() -> None:
    routes = [
        route("inside", b"/a", listeners=frozenset(("private",))),
        route("all"),
    ]
    assert found(routes, asked(b"/a"), "private") == "inside"
    assert found(routes, asked(b"/b"), "private") == "all"
    assert found(routes, asked(b"/a"), "public") == "all"


def test_the_house_answers_before_any_route_where_it_shall() -> None:
    house = Route(
        "health",
        Match(path_kind=EXACT, paths=(b"/health",), listeners=frozenset(("public",))),
        Serve(),
    )
    routes = [route("host", b"/health", kind=EXACT, hosts=(b"example.com",)), house]
    assert found(routes, asked(b"/health")) == "health"
    assert found(routes, asked(b"/health"), "private") == "host"
    assert found(routes, asked(b"/healthy")) is None
    assert RouteTable.build(routes).routes == tuple(routes)


# ---- The law and the walk. ---------------------------------------------------------------------


def candidates(routes: list[Route], head: RequestHead, listener: str) -> list[tuple[Any, Route]]:
    """Every way in which a route matches, by asking each part of each match."""
    path = normal_path(head.path)
    result = []
    for place, each in enumerate(routes):
        match = each.match
        if match.listeners and listener not in match.listeners:
            continue
        if not Remainder(match).holds(head):
            continue
        result += [
            (precedence(each, place, host, pattern), each)
            for host in match.hosts or (b"",)
            for pattern in match.paths or (b"",)
            if _host_holds(host, head.host) and _path_holds(match.path_kind, pattern, path)
        ]
    return result


def _host_holds(pattern: bytes, host: bytes) -> bool:
    if not pattern:
        return True
    if pattern.startswith(b"*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _path_holds(kind: PathKind, pattern: bytes, path: bytes) -> bool:
    import re

    if kind is EXACT:
        return normal_path(pattern) == path
    if kind is REGEX:
        return re.search(pattern, path) is not None
    if kind is PREFIX:
        prefix = normal_prefix(pattern)
        return path.startswith(b"/") and (path == prefix or path.startswith(prefix + b"/"))
    return True


PATHS = st.lists(
    st.sampled_from((b"", b"a", b"b", b"ab", b"%61", b"c%2fd", b"a;b", b";")),
    min_size=1,
    max_size=4,
).map(lambda segments: b"/" + b"/".join(segments))
HOSTS = st.sampled_from((b"a.b.c", b"b.c", b"c", b"x.b.c", b"y.x.b.c", b"", b".c"))
HOST_PATTERNS = st.sampled_from((b"a.b.c", b"b.c", b"*.b.c", b"*.c", b"*.x.b.c"))
METHODS = st.sampled_from((b"GET", b"POST"))
CONDITIONS = st.lists(st.sampled_from((Condition(b"x"), Condition(b"y"))), max_size=2, unique=True)
LISTENERS = st.sampled_from(("public", "private"))


@st.composite
def matches(draw: st.DrawFn) -> Match:
    kind = draw(st.sampled_from(PathKind))
    patterns = st.sampled_from((b"a", b"^/a", b"b$", b"/.*/")) if kind is REGEX else PATHS
    return Match(
        hosts=tuple(draw(st.lists(HOST_PATTERNS, max_size=2))),
        path_kind=kind,
        paths=() if kind is ANY else tuple(draw(st.lists(patterns, min_size=1, max_size=2))),
        methods=draw(st.frozensets(METHODS, max_size=1)),
        headers=tuple(draw(CONDITIONS)),
        query=tuple(draw(CONDITIONS)),
        listeners=draw(st.frozensets(LISTENERS, max_size=1)),
    )


@st.composite
def tables(draw: st.DrawFn) -> list[Route]:
    routes = []
    for place, match in enumerate(draw(st.lists(matches(), max_size=8))):
        serving = match.path_kind is EXACT and not match.hosts and draw(st.booleans())
        routes.append(Route(str(place), match, Serve() if serving else ToPool("app")))
    return routes


@given(
    routes=tables(),
    path=PATHS | st.just(b"*"),
    host=HOSTS,
    method=METHODS,
    query=st.sampled_from((b"", b"?x", b"?x&y=1")),
    block=st.sampled_from((b"", b"X: 1\r\n", b"Y: 1\r\nX: 2\r\n")),
    listener=LISTENERS,
)
def test_the_walk_finds_what_the_stated_order_puts_first(
    *,
    routes: list[Route],
    path: bytes,
    host: bytes,
    method: bytes,
    query: bytes,
    block: bytes,
    listener: str,
) -> None:
    head = asked(path + query, host, method, block)
    ways = candidates(routes, head, listener)
    first = min(ways, key=lambda way: way[0])[1].name if ways else None
    assert found(routes, head, listener) == first


def test_a_thousand_routes_and_a_hostile_path_are_no_trouble() -> None:
    dice = random.Random(7)
    routes = [route(str(n), b"/" + b"/".join([b"%d" % dice.randrange(9)] * 5)) for n in range(1000)]
    table = RouteTable.build(routes)
    # The walk is bounded by the longest prefix, not by what a client sends.
    assert table.find(asked(b"/x" * 8000), "public") is None

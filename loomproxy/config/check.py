"""What is wrong between two values: names that lead nowhere, doubles, contradictions.

Each value alone was checked by the loader. Blanks, which stand for what could not be read, are
passed over.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Final

from loomproxy.config.address import endpoint_address, listen_address
from loomproxy.config.agreement import check_cluster
from loomproxy.config.model import Config, Dynamic, Plugins, Pool, Route, Static
from loomproxy.config.problem import Problem
from loomproxy.config.walk import PROBLEMS_MAX, joined, shown

ENDPOINTS_MAX: Final = 10_000
"""In a pool. Choosing among them costs time for each request."""

NAMES_SHOWN_MAX: Final = 20
"""In one problem. With thousands of pools, thousands of problems would list them all each."""

_ANY_HOSTS: Final = ("0.0.0.0", "[::]")  # noqa: S104 -- to compare with; nothing is bound here
_ACTIONS: Final = ("pool", "respond", "redirect")
_NOT_OF_TARGETS: Final = re.compile(rb"[^\x21-\x7e]|[#\\]")
_PATHS: Final = ("path", "path_prefix", "path_regex")


def check(config: Config) -> list[Problem]:
    """The problems between values, in the order of the model; at most PROBLEMS_MAX."""
    static, dynamic = config.static, config.dynamic
    problems = itertools.chain(
        _static(static),
        check_cluster(static),
        _plugins(config.plugins),
        _pools(dynamic),
        _limits(dynamic),
        _routes(dynamic, {listener.name for listener in static.listeners}),
    )
    return list(itertools.islice(problems, PROBLEMS_MAX))


def route_name(route: Route, place: int) -> str:
    """What logs and metrics call the route at `place` of the list, counted from 0."""
    return route.name or f"route-{place + 1}"


def _static(static: Static) -> Iterator[Problem]:
    node = static.node
    if node.worker_ping_timeout_s <= node.worker_ping_interval_s:
        yield Problem(
            "node.worker_ping_timeout",
            f"{node.worker_ping_timeout_s:g}s is not above worker_ping_interval",
            "time for more than one ping",
            "Raise it to several intervals.",
        )
    if not static.listeners:
        yield Problem(
            "listeners",
            "there is none",
            "at least one",
            'Add - {name: public, address: ":8080"}.',
        )
    yield from _doubles(
        ((f"listeners[{i}].name", at.name) for i, at in enumerate(static.listeners)), "name"
    )
    addresses = [("admin.address", static.admin.address)]
    addresses += [(f"listeners[{i}].address", at.address) for i, at in enumerate(static.listeners)]
    yield from _doubles(((at, each) for at, text in addresses for each in _bound(text)), "address")


def _plugins(plugins: Plugins) -> Iterator[Problem]:
    for name, desired in plugins.desired.items():
        if desired.config and desired.config not in plugins.config:
            where, seen = f"plugins.desired.{name}.config", f"{desired.config} is not there"
            expected = f"an entry of plugins.config ({_listed(plugins.config)})"
            yield Problem(where, seen, expected, "Add it, or mend the name.")


def _bound(text: str) -> list[str]:
    """What is bound for an address: `:80` is two; port 0 is another one each time."""
    if text in ("", "auto") or text.endswith(":0"):
        return []
    address = listen_address(text)
    if address.host or address.path:
        return [text]
    return [f"{any_host}:{address.port}" for any_host in _ANY_HOSTS]


def _doubles(named: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    """Every value that an earlier place has too."""
    first: dict[str, str] = {}
    for path, value in named:
        if not value:
            continue
        if value in first:
            seen = f"{value} is the {what} of {first[value].rpartition('.')[0]} too"
            yield Problem(path, seen, f"another {what}", "Change one of them.")
        else:
            first[value] = path


def _pools(dynamic: Dynamic) -> Iterator[Problem]:
    for name, pool in dynamic.pools.items():
        yield from _pool(pool, joined("pools", name))


def _pool(pool: Pool, path: str) -> Iterator[Problem]:
    if not 0 < len(pool.endpoints) <= ENDPOINTS_MAX:
        yield Problem(
            f"{path}.endpoints",
            f"there are {len(pool.endpoints)}",
            f"1 to {ENDPOINTS_MAX}",
            "Add - http://127.0.0.1:9000." if not pool.endpoints else "Use several pools.",
        )
    seen: dict[str, int] = {}
    for index, endpoint in enumerate(pool.endpoints):
        if not endpoint.address:
            continue
        address = str(endpoint_address(endpoint.address))
        if address in seen:
            yield Problem(
                f"{path}.endpoints[{index}].address",
                f"it is that of endpoints[{seen[address]}] too",
                "each address once",
                "Take one out; to give it more traffic, raise its weight.",
            )
        seen.setdefault(address, index)
    yield from _ranges(pool, path)
    yield from _tls(pool, path)


def _tls(pool: Pool, path: str) -> Iterator[Problem]:
    tls = pool.tls
    if tls.ca_file and not tls.verify:
        seen = "it has no effect beside verify: false"
        yield Problem(
            f"{path}.tls.ca_file", seen, "it beside verify: true", "Take one of them out."
        )
    if tls.client_key and not tls.client_certificate:
        do = "Name the file of the certificate."
        yield Problem(f"{path}.tls.client_key", "it is the key to nothing", "a certificate too", do)


def _ranges(pool: Pool, path: str) -> Iterator[Problem]:
    ejection, probe = pool.ejection, pool.probe
    if ejection.time_max_s < ejection.time_s:
        seen = f"{ejection.time_max_s:g}s is below ejection.time"
        yield Problem(f"{path}.ejection.time_max", seen, "at least that", "Raise it.")
    if probe is not None and probe.status_max < probe.status_min:
        seen = f"{probe.status_max} is below probe.status_min"
        yield Problem(f"{path}.probe.status_max", seen, "at least that", "Raise it.")
    if probe is not None and probe.timeout_s > probe.interval_s:
        seen = f"{probe.timeout_s:g}s is above probe.interval"
        yield Problem(f"{path}.probe.timeout", seen, "at most that", "Lower it.")


def _limits(dynamic: Dynamic) -> Iterator[Problem]:
    limits = dynamic.limits
    if limits.target_bytes_max > limits.head_bytes_max:
        seen = f"{limits.target_bytes_max} is above limits.head_bytes_max, which it is a part of"
        yield Problem("limits.target_bytes_max", seen, "at most that", "Lower it.")


def _routes(dynamic: Dynamic, listeners: set[str]) -> Iterator[Problem]:
    if dynamic.pools and not dynamic.routes:
        pool = next(iter(dynamic.pools))
        yield Problem(
            "routes",
            "there are pools, but no route leads to them",
            "at least one route",
            f"To send everything to one pool, add routes: [{{pool: {shown(pool)}}}].",
        )
    names = ((f"routes[{i}].name", route_name(route, i)) for i, route in enumerate(dynamic.routes))
    yield from _doubles(names, "name")
    for index, route in enumerate(dynamic.routes):
        path = f"routes[{index}]"
        yield from _action(route, dynamic, path)
        yield from _match(route, listeners, path)
        yield from _rewrite(route, path)


def _action(route: Route, dynamic: Dynamic, path: str) -> Iterator[Problem]:
    given = [name for name in _ACTIONS if getattr(route, name) is not None]
    if len(given) != 1:
        seen = f"it has {' and '.join(given)}" if given else "it says not what to do"
        yield Problem(path, seen, "one of pool, respond and redirect", "Write pool: NAME.")
    if route.pool and route.pool not in dynamic.pools:
        seen, expected = f"{route.pool} is no pool", f"one of pools ({_listed(dynamic.pools)})"
        yield Problem(f"{path}.pool", seen, expected, "Add it, or mend the name.")
    if given and route.pool is None:
        yield from _useless(route, given[0], path)
    if route.respond is not None:
        yield from _respond(route, path)


def _useless(route: Route, action: str, path: str) -> Iterator[Problem]:
    """Keys that only a route to a pool has any use for."""
    plain = Route()
    for name in ("rewrite", "request_headers", "response_headers", "host", "retry"):
        if getattr(route, name) != getattr(plain, name):
            do = "Take it out."
            if name == "response_headers" and action == "respond":
                do = "Move it to respond.headers."
            yield Problem(
                f"{path}.{name}", f"it has no effect beside {action}", "it beside pool only", do
            )


def _respond(route: Route, path: str) -> Iterator[Problem]:
    respond = route.respond
    assert respond is not None, "a route without an answer"
    for name in respond.headers:
        if name.lower() == "content-type":
            where = f"{path}.respond.headers.{name}"
            do = "Write respond.content_type."
            yield Problem(where, "it has a key of its own", "content_type", do)
    if respond.body and respond.status in (204, 205, 304):
        seen = f"a {respond.status} answer has no body (RFC 9110 §15)"
        yield Problem(f"{path}.respond.body", seen, "none", "Take it out, or change the status.")


def _match(route: Route, listeners: set[str], path: str) -> Iterator[Problem]:
    match = route.match
    given = [name for name in _PATHS if getattr(match, name)]
    if len(given) > 1:
        do = "Write a route for each."
        yield Problem(
            f"{path}.match", f"it has {' and '.join(given)}", "one way to compare paths", do
        )
    for index, name in enumerate(match.listeners):
        if name and name not in listeners:
            where, seen = f"{path}.match.listeners[{index}]", f"{name} is no listener"
            expected = f"one of listeners ({_listed(listeners)})"
            yield Problem(where, seen, expected, "Add it, or mend the name.")


def _listed(names: Iterable[str]) -> str:
    """Names that there are, for a problem; of many the first ones."""
    first = sorted(names)[: NAMES_SHOWN_MAX + 1]
    known = ", ".join(map(shown, first[:NAMES_SHOWN_MAX])) or "none yet"
    return f"{known}, …" if len(first) > NAMES_SHOWN_MAX else known


def _rewrite(route: Route, path: str) -> Iterator[Problem]:
    rewrite = route.rewrite
    if rewrite is None:
        return
    if rewrite.replacement and not rewrite.regex:
        seen = "there is no regex that it would replace"
        yield Problem(f"{path}.rewrite.replacement", seen, "a regex beside it", "Add one.")
    if not rewrite.regex:
        return
    try:
        written = _try(rewrite.regex, rewrite.replacement)
    except (re.error, IndexError) as error:
        do = "Use \\1 to \\9 or \\g<name>."
        seen = f"it does not fit the regex ({error})"
        yield Problem(f"{path}.rewrite.replacement", seen, "the groups of the regex", do)
        return
    odd = _NOT_OF_TARGETS.search(written)
    if odd:
        seen = f"one of its escapes stands for {odd[0].decode('latin-1')!r}"
        do = "Percent-encode what no target has: a line break here would begin another field."
        yield Problem(f"{path}.rewrite.replacement", seen, "a path", do)


def _try(regex: str, replacement: str) -> bytes:
    """Have Python read a replacement against the groups of a regular expression, all empty."""
    pattern = re.compile(regex.encode())
    names = {place: name for name, place in pattern.groupindex.items()}
    groups = [
        f"(?P<{names[place]}>)" if place in names else "()"
        for place in range(1, pattern.groups + 1)
    ]
    # Groups like those of the regex, all empty: this matches, so the replacement is read.
    return re.sub("".join(groups).encode(), replacement.encode(), b"", count=1)

"""From the typed Config to the frozen Snapshot that exchanges live in.

What comes here was checked by the loader, so nothing is refused any more for one value's sake;
`compile_snapshot` checks once again what stands between values, because a worker would rather keep
its old snapshot than serve a wrong one.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from loomproxy.config.address import endpoint_address
from loomproxy.config.check import check, route_name
from loomproxy.config.kinds import UNIX_PEERS
from loomproxy.config.model import (
    Config,
    Dynamic,
    HeaderChange,
    Listener,
    Match,
    Pool,
    Probe,
    Rewrite,
    Route,
    Tls,
)
from loomproxy.config.problem import Problems
from loomproxy.core import route as core
from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.provider import Provider
from loomproxy.core.endpoint import (
    Address,
    EjectionPolicy,
    EndpointSpec,
    KeepaliveSpec,
    TlsSpec,
)
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import Family, ForwardPolicy, HeaderOps
from loomproxy.core.pool import Balance, PoolSpec, ProbeSpec
from loomproxy.core.snapshot import Snapshot

HEALTH_PATHS: Final = (b"/health", b"/health/live", b"/health/ready")
METRICS_PATHS: Final = (b"/metrics",)
MODELS_PATH: Final = b"/v1/models"
CHATS: Final = {
    "chat": (b"/v1/chat/completions", core.Chat("openai")),
    "chat-loom": (b"/api/v1/chat/completions", core.Chat("loom")),
    "chat-loom-stream": (b"/api/v1/chat/completions/stream", core.Chat("loom", streams=True)),
}
"""Where chats are answered, by the name of the route."""


class ConfigError(ValueError):
    """A Config that cannot be compiled; `problems` says why."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(str(problems))
        self.problems = problems


def compile_snapshot(config: Config, revision: int, providers: Iterable[Provider] = ()) -> Snapshot:
    """The snapshot of one revision; raise ConfigError where values contradict one another.

    `providers` are the plugins as they are now, no two with the same `provider_type`.
    """
    problems = check(config)
    if problems:
        raise ConfigError(Problems(tuple(problems)))
    dynamic = config.dynamic
    routes = [
        *_house(config.static.listeners),
        *_chats(config.static.listeners, dynamic),
        *(_route(route, place, dynamic) for place, route in enumerate(dynamic.routes)),
    ]
    by_type = {provider.provider_type: provider for provider in providers}
    return Snapshot(
        revision=revision,
        table=core.RouteTable.build(routes),
        pools={
            **{name: _pool(name, pool) for name, pool in dynamic.pools.items()},
            **{provider.pool: _provider_pool(provider) for provider in by_type.values()},
        },
        policy=_policy(dynamic),
        limits=_limits(dynamic, routes),
        timeouts=_timeouts(dynamic),
        providers=by_type,
        catalogue=Catalogue(by_type.values()),
    )


def _policy(dynamic: Dynamic) -> ForwardPolicy:
    forwarded, peers = dynamic.forwarded, dynamic.trusted_proxies
    return ForwardPolicy(
        x_forwarded=forwarded.x_forwarded,
        forwarded=forwarded.rfc7239,
        via=forwarded.via.encode(),
        request_id_header=forwarded.request_id_header.encode(),
        trusted=tuple(ipaddress.ip_network(peer) for peer in peers if peer != UNIX_PEERS),
        trusts_unix=UNIX_PEERS in peers,
        believe=Family(forwarded.believe),
    )


def _limits(dynamic: Dynamic, routes: Iterable[core.Route]) -> Limits:
    """What a connection may bring before its route is known: the most that any route allows."""
    limits = dynamic.limits
    bodies = [limits.body_bytes_max, *(route.body_bytes_max for route in routes)]
    return Limits(
        head_bytes_max=limits.head_bytes_max,
        target_bytes_max=limits.target_bytes_max,
        fields_max=limits.fields_max,
        body_bytes_max=max(bodies),
    )


def _timeouts(dynamic: Dynamic) -> core.Timeouts:
    timeouts = dynamic.timeouts
    return core.Timeouts(
        queue_s=timeouts.queue_s,
        connect_s=timeouts.connect_s,
        response_s=timeouts.response_s,
        idle_s=timeouts.idle_s,
        send_s=timeouts.send_s,
        tunnel_idle_s=timeouts.tunnel_idle_s,
        body_bytes_min_per_s=timeouts.body_bytes_min_per_s,
        send_bytes_min_per_s=timeouts.send_bytes_min_per_s,
    )


def _pool(name: str, pool: Pool) -> PoolSpec:
    keepalive, ejection, budget = pool.keepalive, pool.ejection, pool.retry_budget
    return PoolSpec(
        name=name,
        endpoints=tuple(
            EndpointSpec(endpoint_address(at.address), at.weight, at.enabled)
            for at in pool.endpoints
        ),
        balance=Balance(pool.balance),
        ejection=EjectionPolicy(ejection.failures, ejection.time_s, ejection.time_max_s),
        in_flight_max=pool.in_flight_max,
        queue_max=pool.queue_max,
        keepalive=KeepaliveSpec(
            keepalive.idle_max, keepalive.idle_timeout_s, keepalive.requests_max
        ),
        probe=None if pool.probe is None else _probe(pool.probe),
        retry_budget_ratio=budget.ratio,
        retries_min_per_s=budget.retries_min_per_s,
        tls=tls_spec(pool.tls),
    )


def tls_spec(tls: Tls) -> TlsSpec:
    """What a pool says of TLS, in the words of core."""
    return TlsSpec(
        verify=tls.verify,
        ca_file=tls.ca_file,
        server_name=tls.server_name,
        client_certificate=tls.client_certificate,
        client_key=tls.client_key,
    )


def _provider_pool(provider: Provider) -> PoolSpec:
    """A provider's endpoints as a pool; whether they are well is the node's to find out."""
    by_address: dict[Address, EndpointSpec] = {}
    for endpoint in provider.endpoints:
        # Of two generations at one address, as a remote plugin's are, the one that serves counts.
        if endpoint.enabled or endpoint.address not in by_address:
            by_address[endpoint.address] = endpoint
    return PoolSpec(
        name=provider.pool,
        endpoints=tuple(by_address.values()),
        balance=Balance.LEAST_IN_FLIGHT,
        follows=True,
    )


def _probe(probe: Probe) -> ProbeSpec:
    return ProbeSpec(
        path=probe.path.encode(),
        interval_s=probe.interval_s,
        timeout_s=probe.timeout_s,
        rise=probe.rise,
        fall=probe.fall,
        status_min=probe.status_min,
        status_max=probe.status_max,
        host=probe.host.encode(),
    )


def _house(listeners: Iterable[Listener]) -> list[core.Route]:
    """The routes of what the house answers itself, on the listeners that say so."""
    wanted = (
        ("health", HEALTH_PATHS, [at.name for at in listeners if at.health]),
        ("metrics", METRICS_PATHS, [at.name for at in listeners if at.metrics]),
    )
    return [
        core.Route(
            name=name,
            match=core.Match(
                path_kind=core.PathKind.EXACT, paths=paths, listeners=frozenset(names)
            ),
            action=core.Serve(),
        )
        for name, paths, names in wanted
        if names
    ]


def _chats(listeners: Iterable[Listener], dynamic: Dynamic) -> list[core.Route]:
    """The routes of chats and models, on the listeners that say so."""
    names = frozenset(at.name for at in listeners if at.chat)
    if not names:
        return []
    exact, prefix = core.PathKind.EXACT, core.PathKind.PREFIX
    return [
        core.Route(
            name="models",
            match=core.Match(path_kind=prefix, paths=(MODELS_PATH,), listeners=names),
            action=core.Models(MODELS_PATH),
        ),
        *(
            core.Route(
                name=name,
                match=core.Match(path_kind=exact, paths=(path,), listeners=names),
                action=action,
                timeouts=_timeouts(dynamic),
                body_bytes_max=dynamic.limits.chat_body_bytes_max,
            )
            for name, (path, action) in CHATS.items()
        ),
    ]


def _route(route: Route, place: int, dynamic: Dynamic) -> core.Route:
    limits = dynamic.limits
    body_bytes_max = route.body_bytes_max
    return core.Route(
        name=route_name(route, place),
        match=_match(route.match),
        action=_action(route),
        rewrite=None if route.rewrite is None else _rewrite(route.rewrite),
        request_ops=_ops(route.request_headers),
        response_ops=_ops(route.response_headers),
        host=_host(route.host),
        timeouts=_route_timeouts(route, dynamic),
        retry=core.RetryPolicy(route.retry.attempts_max),
        body_bytes_max=limits.body_bytes_max if body_bytes_max is None else body_bytes_max,
        replay_bytes_max=limits.replay_bytes_max,
        upgrades=frozenset(token.lower().encode() for token in route.upgrades),
    )


def _route_timeouts(route: Route, dynamic: Dynamic) -> core.Timeouts:
    """The route's own where it has one, else those of all."""
    ours, all_routes = route.timeouts, dynamic.timeouts
    return core.Timeouts(
        **{
            name: getattr(all_routes if getattr(ours, name) is None else ours, name)
            for name in type(ours).__struct_fields__
        }
    )


def _host(host: str) -> bytes | None:
    if host == "preserve":
        return None
    return core.HOST_OF_ENDPOINT if host == "endpoint" else host.encode()


def _action(route: Route) -> core.Action:
    if route.pool is not None:
        return core.ToPool(route.pool)
    if route.redirect is not None:
        return core.Redirect(route.redirect.status, route.redirect.location.encode())
    respond = route.respond
    assert respond is not None, "a route without an action was let in"
    return core.Respond(
        status=respond.status,
        body=respond.body.encode(),
        content_type=respond.content_type.encode(),
        block=b"".join(
            b"%s: %s\r\n" % (name.encode(), value.encode())
            for name, value in respond.headers.items()
        ),
    )


def _rewrite(rewrite: Rewrite) -> core.PathRewrite:
    return core.PathRewrite(
        strip_prefix=rewrite.strip_prefix.encode(),
        pattern=rewrite.regex.encode(),
        replacement=rewrite.replacement.encode(),
        add_prefix=rewrite.add_prefix.encode(),
    )


def _ops(change: HeaderChange) -> HeaderOps | None:
    if change == HeaderChange():
        return None
    return HeaderOps(
        set=tuple((name.encode(), value.encode()) for name, value in change.set.items()),
        add=tuple(
            (name.encode(), value.encode())
            for name, values in change.add.items()
            for value in values
        ),
        remove=tuple(name.encode() for name in change.remove),
    )


def _match(match: Match) -> core.Match:
    kind, paths = _paths(match)
    return core.Match(
        hosts=tuple(host.encode() for host in match.hosts),
        path_kind=kind,
        paths=tuple(path.encode() for path in paths),
        methods=frozenset(method.encode() for method in match.methods),
        headers=_conditions(match.headers, lower=True),
        query=_conditions(match.query, lower=False),
        listeners=frozenset(match.listeners),
    )


def _paths(match: Match) -> tuple[core.PathKind, tuple[str, ...]]:
    if match.path:
        return core.PathKind.EXACT, match.path
    if match.path_prefix:
        return core.PathKind.PREFIX, match.path_prefix
    if match.path_regex:
        return core.PathKind.REGEX, match.path_regex
    return core.PathKind.ANY, ()


def _conditions(texts: Mapping[str, str], *, lower: bool) -> tuple[core.Condition, ...]:
    return tuple(
        _condition((name.lower() if lower else name).encode(), text) for name, text in texts.items()
    )


def _condition(name: bytes, text: str) -> core.Condition:
    """`*` is any value, `~regex` an expression, anything else the value itself."""
    if text == "*":
        return core.Condition(name)
    if text.startswith("~"):
        return core.Condition(name, core.ValueKind.REGEX, text[1:].encode())
    return core.Condition(name, core.ValueKind.EXACT, text.encode())

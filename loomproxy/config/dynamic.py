"""The keys that are published to running workers: routes, timeouts, limits, and the pools."""

from typing import Annotated, Literal

from msgspec import field

from loomproxy.config.key import (
    HOUR_S,
    Base,
    HeaderChangeName,
    HeaderName,
    HeaderTemplate,
    HeaderValue,
    Name,
    UrlPath,
    count,
    duration,
    group,
    size,
    text,
)
from loomproxy.config.pools import Pool


class Forwarded(Base, frozen=True):
    """What upstreams are told about the client, and what is believed of trusted proxies."""

    believe: Annotated[
        Literal["x_forwarded", "rfc7239"],
        group(
            "What is believed of `trusted_proxies`: `x_forwarded`, X-Forwarded-For, -Proto, -Host "
            "and -Port; `rfc7239`, Forwarded. Name what they all write, or drop, themselves. The "
            "other family is dropped, whoever sends it; where it is sent on, it begins anew with "
            "the peer's address."
        ),
    ] = "x_forwarded"
    x_forwarded: Annotated[
        bool,
        group("Send X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP."),
    ] = True
    rfc7239: Annotated[bool, group("Send Forwarded (RFC 7239).")] = False
    via: Annotated[
        str,
        text("The name in Via, both directions (RFC 9110 §7.6.3). Empty: none.", "optional_token"),
    ] = "loomproxy"
    request_id_header: Annotated[
        str,
        text(
            "The field that carries the request id, both directions; a well-formed one that a "
            "request brings is kept, whoever sends it. Empty: none.",
            "optional_token",
        ),
    ] = "X-Request-ID"


class Timeouts(Base, frozen=True):
    """How long each phase of an exchange may last, and how slow a client may be in it."""

    queue_s: Annotated[float, duration("For a place in the pool; then 503.", high=HOUR_S)] = 5.0
    connect_s: Annotated[
        float,
        duration("For a connection to the endpoint; then the next attempt, or 504.", high=HOUR_S),
    ] = 3.0
    response_s: Annotated[
        float, duration("From the request's last byte to the response head; then 504.")
    ] = 60.0
    idle_s: Annotated[float, duration("Between two pieces of a body, either direction.")] = 60.0
    send_s: Annotated[
        float, duration("How long a client may take nothing of what it is sent.", high=HOUR_S)
    ] = 30.0
    tunnel_idle_s: Annotated[
        float, duration("With no byte either way in an upgraded connection (WebSocket).")
    ] = 300.0
    body_bytes_min_per_s: Annotated[
        int,
        count(
            "How fast a request body has to come once `idle` has passed; then 408. While the proxy "
            "or the upstream holds the client back, its time stands still. 0: any speed.",
            low=0,
        ),
    ] = 240
    send_bytes_min_per_s: Annotated[
        int,
        count(
            "How much of what it is sent a client has to take, on average over each `send` in "
            "which something is left for it. Silent streams are not measured. 0: any speed.",
            low=0,
        ),
    ] = 240


class RouteTimeouts(Base, frozen=True):
    """Timeouts of one route; what is not set is inherited from `timeouts`."""

    queue_s: Annotated[float | None, duration("Overrides `timeouts.queue`.", high=HOUR_S)] = None
    connect_s: Annotated[float | None, duration("Overrides `timeouts.connect`.", high=HOUR_S)] = (
        None
    )
    response_s: Annotated[float | None, duration("Overrides `timeouts.response`.")] = None
    idle_s: Annotated[float | None, duration("Overrides `timeouts.idle`.")] = None
    send_s: Annotated[float | None, duration("Overrides `timeouts.send`.", high=HOUR_S)] = None
    tunnel_idle_s: Annotated[float | None, duration("Overrides `timeouts.tunnel_idle`.")] = None
    body_bytes_min_per_s: Annotated[
        int | None, count("Overrides `timeouts.body_bytes_min_per_s`.", low=0)
    ] = None
    send_bytes_min_per_s: Annotated[
        int | None, count("Overrides `timeouts.send_bytes_min_per_s`.", low=0)
    ] = None


class Limits(Base, frozen=True):
    """How much of anything one request may bring."""

    head_bytes_max: Annotated[
        int, size("Request line and fields together; then 431.", low=1024, high=1 << 20)
    ] = 64 << 10
    target_bytes_max: Annotated[
        int, size("The request target; then 414.", low=128, high=1 << 20)
    ] = 16 << 10
    fields_max: Annotated[int, count("Header fields; then 431.", low=8, high=10_000)] = 200
    body_bytes_max: Annotated[
        int, size("The request body; then 413. Bodies are streamed, not stored.", low=0)
    ] = 100 << 20
    chat_body_bytes_max: Annotated[
        int,
        size(
            "The request body of a chat; then 413. It is kept until it is whole, for the model in "
            "it tells who answers.",
            high=128 << 20,
        ),
    ] = 32 << 20
    replay_bytes_max: Annotated[
        int,
        size(
            "Of a request body, kept for another attempt; a body beyond it is not retried.",
            low=0,
            high=64 << 20,
        ),
    ] = 64 << 10


class Match(Base, frozen=True):
    """Which requests a route is for. All that is set must hold; an empty match is every request."""

    hosts: Annotated[
        tuple[Annotated[str, text(kind="host_pattern")], ...],
        group(
            "Any of these: `example.com`, or `*.example.com` for every name below it.",
            one_or_many=True,
        ),
    ] = ()
    path: Annotated[
        tuple[UrlPath, ...],
        group("Exactly any of these paths.", one_or_many=True),
    ] = ()
    path_prefix: Annotated[
        tuple[UrlPath, ...],
        group(
            "Below any of these, in whole segments: `/api` is not a prefix of `/apix`.",
            one_or_many=True,
        ),
    ] = ()
    path_regex: Annotated[
        tuple[Annotated[str, text(kind="regex")], ...],
        group(
            "Any of these Python regular expressions is found in the path; `^` and `$` anchor. "
            "Avoid nested repetition such as `(a+)+`: a hostile path could keep a worker busy.",
            one_or_many=True,
        ),
    ] = ()
    methods: Annotated[
        tuple[Annotated[str, text(kind="method")], ...],
        group("Any of these, in upper case.", one_or_many=True),
    ] = ()
    headers: Annotated[
        dict[HeaderName, Annotated[str, text(kind="condition")]],
        group(
            'All of these: `X-Beta: yes` exactly, `X-Beta: "*"` with any value, '
            "`X-Beta: ~^y` by regular expression."
        ),
    ] = field(default_factory=dict)
    query: Annotated[
        dict[Annotated[str, text(kind="parameter")], Annotated[str, text(kind="condition")]],
        group("All of these query parameters, written as in `headers`."),
    ] = field(default_factory=dict)
    listeners: Annotated[
        tuple[Name, ...],
        group("Only requests that came in on any of these listeners.", one_or_many=True),
    ] = ()


class Rewrite(Base, frozen=True):
    """How the path is changed before it goes up: strip, substitute, add. The query stays."""

    strip_prefix: Annotated[
        str, text("Taken away where the path begins with it, in whole segments.", "optional_path")
    ] = ""
    regex: Annotated[
        str, text("Its first place in the path is replaced by `replacement`.", "optional_regex")
    ] = ""
    replacement: Annotated[
        str, text(r"What `regex` becomes; `\1` and `\g<name>` are its groups.", "replacement")
    ] = ""
    add_prefix: Annotated[str, text("Put before the path at the end.", "added_prefix")] = ""


class Respond(Base, frozen=True):
    """A fixed answer."""

    status: Annotated[int, count("The status.", low=200, high=599)] = 200
    body: Annotated[str, text("The body, at most 64 KiB.", "body")] = ""
    content_type: Annotated[str, text("The body's Content-Type.", "header_value")] = (
        "text/plain; charset=utf-8"
    )
    headers: Annotated[dict[HeaderChangeName, HeaderValue], group("Further header fields.")] = (
        field(default_factory=dict)
    )


class Redirect(Base, frozen=True):
    """An answer that sends the client elsewhere."""

    location: Annotated[
        str,
        text(
            "Where to: may hold {scheme}, {host} (without port), {path} and {query} "
            "(with its `?`), as in `https://{host}{path}{query}`.",
            "location",
        ),
    ]
    status: Annotated[Literal[301, 302, 303, 307, 308], group("The status.")] = 308


class HeaderChange(Base, frozen=True):
    """Changes to header fields: `remove`, then `set`, then `add`.

    Values may hold {client_ip}, {request_id}, {host}, {scheme}, {path} and {route}.
    """

    set: Annotated[
        dict[HeaderChangeName, HeaderTemplate], group("Replace, or add where there is none.")
    ] = field(default_factory=dict)
    add: Annotated[
        dict[HeaderChangeName, Annotated[tuple[HeaderTemplate, ...], group("", one_or_many=True)]],
        group("Add beside what is there; a value or a list."),
    ] = field(default_factory=dict)
    remove: Annotated[tuple[HeaderChangeName, ...], group("Take away.", one_or_many=True)] = ()


class Retry(Base, frozen=True):
    """Whether a failed attempt is repeated, where that is safe."""

    attempts_max: Annotated[int, count("Attempts in all; 1: never again.", high=10)] = 3


class Route(Base, frozen=True):
    """What becomes of the requests that match: exactly one of `pool`, `respond` and `redirect`."""

    name: Annotated[
        str,
        text(
            "What logs and metrics call it. Empty: `route-1` for the first, and so on.",
            "optional_name",
        ),
    ] = ""
    match: Annotated[Match, group("Which requests.")] = Match()
    pool: Annotated[str | None, text("Send them to this pool.", "name")] = None
    respond: Annotated[Respond | None, group("Give a fixed answer.")] = None
    redirect: Annotated[Redirect | None, group("Send the client elsewhere.")] = None
    rewrite: Annotated[Rewrite | None, group("Change the path that the pool sees.")] = None
    request_headers: Annotated[HeaderChange, group("Changes to what the pool sees.")] = (
        HeaderChange()
    )
    response_headers: Annotated[HeaderChange, group("Changes to what the client sees.")] = (
        HeaderChange()
    )
    host: Annotated[
        Literal["preserve", "endpoint"] | Annotated[str, text(kind="authority")],
        group(
            "The Host that the pool sees: `preserve` the client's, the `endpoint`'s address, "
            "or this value.",
        ),
    ] = "preserve"
    timeouts: Annotated[RouteTimeouts, group("What differs from `timeouts`.")] = RouteTimeouts()
    retry: Annotated[Retry, group("Further attempts.")] = Retry()
    body_bytes_max: Annotated[
        int | None, size("Overrides `limits.body_bytes_max`, up or down.", low=0)
    ] = None
    upgrades: Annotated[
        tuple[Annotated[str, text(kind="token")], ...],
        group("Protocols that a client may upgrade to. `[]`: none.", one_or_many=True),
    ] = ("websocket",)


class Dynamic(Base, frozen=True):
    """What is published to running workers, without dropping a request."""

    trusted_proxies: Annotated[
        tuple[Annotated[str, text(kind="trusted_peer")], ...],
        group(
            "Networks of the proxies before us, who are believed when they say who the client is. "
            "`unix`: whoever connects to a Unix socket. `forwarded.believe` says in which fields.",
            one_or_many=True,
        ),
    ] = ()
    forwarded: Annotated[Forwarded, group("What upstreams are told about the client.")] = (
        Forwarded()
    )
    timeouts: Annotated[Timeouts, group("How long each phase of an exchange may last.")] = (
        Timeouts()
    )
    limits: Annotated[Limits, group("How much one request may bring.")] = Limits()
    pools: Annotated[
        dict[Name, Pool],
        group("Endpoints that serve one purpose, by name."),
    ] = field(default_factory=dict)
    routes: Annotated[
        tuple[Route, ...],
        group(
            "What becomes of which requests. The most specific match wins; a request that no "
            "route matches is answered 404."
        ),
    ] = ()

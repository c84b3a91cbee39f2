"""The keys of a pool: its endpoints, whom to trust there, and how it deals with their failures."""

from typing import Annotated, Literal

from loomproxy.config.key import (
    DAY_S,
    HOUR_S,
    Base,
    count,
    duration,
    group,
    number,
    text,
)


class Endpoint(Base, frozen=True):
    """One address of a pool."""

    address: Annotated[
        str, text("`http://host:port`, `https://host:port` or `unix:/path`.", "endpoint_address")
    ]
    weight: Annotated[
        int,
        count(
            "Its share of the traffic, relative to the others.",
            high=1000,
            advice="To stop traffic to it, set enabled: false.",
        ),
    ] = 1
    enabled: Annotated[
        bool, group("`false`: nothing new is sent to it; what has begun goes on.")
    ] = True


class Keepalive(Base, frozen=True):
    """Idle upstream connections held for reuse."""

    idle_max: Annotated[
        int,
        count("Idle connections per endpoint and worker; 0: none are kept.", low=0, high=65535),
    ] = 64
    idle_timeout_s: Annotated[
        float,
        duration(
            "How long one is held. Keep it below the upstream's own timeout (node.js: 5 s), "
            "or requests race its close.",
            high=HOUR_S,
        ),
    ] = 4.0
    requests_max: Annotated[int, count("Requests on one upstream connection.")] = 10_000


class Ejection(Base, frozen=True):
    """What real traffic teaches us: an endpoint that keeps failing gets none for a while."""

    failures: Annotated[
        int, count("Failures in a row that take an endpoint out; 0: never.", low=0, high=1000)
    ] = 3
    time_s: Annotated[
        float, duration("How long, the first time; doubles with each repetition.", high=HOUR_S)
    ] = 5.0
    time_max_s: Annotated[float, duration("How long at most.", high=DAY_S)] = 60.0


class Probe(Base, frozen=True):
    """Ask each endpoint whether it is well, besides the real traffic."""

    path: Annotated[str, text("What to GET.", "url_path")] = "/"
    interval_s: Annotated[float, duration("How often, per worker.", low=0.1, high=HOUR_S)] = 5.0
    timeout_s: Annotated[float, duration("How long an answer may take.", low=0.01, high=HOUR_S)] = (
        2.0
    )
    rise: Annotated[int, count("Good answers in a row that make it healthy.", high=100)] = 2
    fall: Annotated[int, count("Bad answers in a row that make it unhealthy.", high=100)] = 3
    status_min: Annotated[int, count("The lowest good status.", low=100, high=599)] = 200
    status_max: Annotated[int, count("The highest good status.", low=100, high=599)] = 399
    host: Annotated[
        str, text("The Host field. Empty: the endpoint's address.", "optional_authority")
    ] = ""


class RetryBudget(Base, frozen=True):
    """How much of the traffic retries may be, so that they cannot become the outage."""

    ratio: Annotated[float, number("Of recent requests.", low=0.0, high=1.0)] = 0.2
    retries_min_per_s: Annotated[
        float, number("Always allowed, for pools with little traffic.", low=0.0, high=1000.0)
    ] = 3.0


class Tls(Base, frozen=True):
    """How endpoints at `https://` prove who they are, and the proxy to them.

    TLS 1.2 or later. The files are read when the configuration is published.
    """

    verify: Annotated[
        bool,
        group(
            "Refuse an endpoint without a certificate that is trusted and has its name. `false`: "
            "whoever answers is believed."
        ),
    ] = True
    ca_file: Annotated[
        str,
        text(
            "Certificates of those who are trusted, PEM. Empty: whom the system trusts.",
            "optional_file_path",
        ),
    ] = ""
    server_name: Annotated[
        str,
        text(
            "The name that is asked for (SNI) and has to be in the certificate. Empty: the host of "
            "the endpoint's address.",
            "optional_host",
        ),
    ] = ""
    client_certificate: Annotated[
        str,
        text(
            "What the proxy shows to endpoints that ask: its certificate, PEM, with those between "
            "it and their CA. Empty: nothing.",
            "optional_file_path",
        ),
    ] = ""
    client_key: Annotated[
        str,
        text(
            "The key to it, PEM, without a passphrase. Empty: it stands in `client_certificate`.",
            "optional_file_path",
        ),
    ] = ""


class Pool(Base, frozen=True):
    """Endpoints that serve one purpose."""

    endpoints: Annotated[
        tuple[Annotated[Endpoint, group("", shorthand="address")], ...],
        group(
            "Its endpoints, at least one. `- http://127.0.0.1:9000` is short for `- address: …`."
        ),
    ]
    balance: Annotated[
        Literal["round_robin", "least_in_flight"],
        group("`round_robin`: in turn, by weight. `least_in_flight`: the least busy, by weight."),
    ] = "round_robin"
    in_flight_max: Annotated[
        int, count("Exchanges per endpoint and worker at one time; more wait.", high=1_000_000)
    ] = 1024
    queue_max: Annotated[
        int,
        count("Exchanges per worker that may wait for a place; then 503.", low=0, high=1_000_000),
    ] = 1024
    tls: Annotated[Tls, group("For endpoints at `https://`: whom to trust.")] = Tls()
    keepalive: Annotated[Keepalive, group("Idle connections held for reuse.")] = Keepalive()
    ejection: Annotated[Ejection, group("When failures take an endpoint out.")] = Ejection()
    probe: Annotated[
        Probe | None, group("Active checks. Without it, only real traffic teaches us.")
    ] = None
    retry_budget: Annotated[RetryBudget, group("The share of traffic that retries may be.")] = (
        RetryBudget()
    )

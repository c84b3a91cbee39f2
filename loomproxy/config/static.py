"""The keys that a running node cannot change: its processes, its addresses and its access log."""

from typing import Annotated, Literal

from loomproxy.config.cluster import Cluster, Database
from loomproxy.config.key import DAY_S, HOUR_S, MINUTE_S, Base, count, duration, group, text


class Drain(Base, frozen=True):
    """How the node leaves: readiness turns false, grace, accepting stops, exchanges finish."""

    grace_s: Annotated[
        float,
        duration(
            "How long to go on accepting after readiness turned false, so that load balancers "
            "notice.",
            low=0.0,
            high=HOUR_S,
        ),
    ] = 0.0
    deadline_s: Annotated[
        float,
        duration("When the exchanges that have not finished by then are ended.", high=DAY_S),
    ] = 30.0


class Node(Base, frozen=True):
    """The control-plane process and its workers."""

    workers: Annotated[
        Annotated[int, count("", high=512)] | Literal["auto"],
        group("Worker processes, one event loop each. `auto`: one per core we may use."),
    ] = "auto"
    connections_max: Annotated[
        Annotated[int, count("", high=1_000_000)] | Literal["auto"],
        group(
            "Open connections of one worker on all its listeners; further ones wait in the "
            "backlogs. `auto`: as many as its limit of descriptors allows, with one to an endpoint "
            "for each; a larger number counts as `auto`."
        ),
    ] = "auto"
    instance_id: Annotated[
        str, text("What this node calls itself in status and metrics. Empty: host name and pid.")
    ] = ""
    runtime_directory: Annotated[
        str,
        text(
            "Where the admin socket and the pid live. Empty: $RUNTIME_DIRECTORY, else a private "
            "directory under $XDG_RUNTIME_DIR or /tmp.",
            "optional_file_path",
        ),
    ] = ""
    startup_timeout_s: Annotated[
        float,
        duration(
            "How long all startup gates together may take before the node gives up.", high=HOUR_S
        ),
    ] = 30.0
    worker_ping_interval_s: Annotated[
        float,
        duration("How often each worker is asked whether its loop turns.", low=0.1, high=MINUTE_S),
    ] = 1.0
    worker_ping_timeout_s: Annotated[
        float,
        duration(
            "How long a worker may owe an answer before it is replaced.", low=0.5, high=HOUR_S
        ),
    ] = 10.0
    drain: Annotated[Drain, group("How the node leaves.")] = Drain()
    demo_upstream: Annotated[
        str | None,
        text(
            "Run a small demo upstream at this address (`127.0.0.1:9000`) as long as the node "
            "lives. For trying things out.",
            "tcp_address",
        ),
    ] = None


class Admin(Base, frozen=True):
    """Where the node answers health, metrics and the commands of this tool."""

    address: Annotated[
        str,
        text(
            "`auto`: a private Unix socket in the runtime directory. Or `127.0.0.1:9901`, or "
            "`unix:/run/loomproxy/admin.sock`. Who reaches a Unix socket is the operator; a TCP "
            "address without a `token` is not authenticated, and has no pages of plugins: keep it "
            "private.",
            "admin_address",
        ),
    ] = "auto"
    token: Annotated[
        str | None,
        text(
            "What a TCP address asks for, as `Authorization: Bearer …`, for all but health and "
            "metrics: `${ADMIN_TOKEN}`. The command line shows LOOMPROXY_ADMIN_TOKEN, or what "
            "`--token-file` holds. It travels as it is: keep the address on loopback, or behind "
            "TLS.",
            "bearer",
        ),
    ] = None


class Listener(Base, frozen=True):
    """An address that clients connect to."""

    name: Annotated[str, text("What routes, logs and metrics call it.", "name")]
    address: Annotated[
        str,
        text(
            "`0.0.0.0:8080`, `[::]:8080`, `:8080` (every IPv4 and IPv6 address) or "
            "`unix:/run/app.sock`.",
            "listen_address",
        ),
    ]
    backlog: Annotated[
        int,
        count(
            "Connections the kernel holds for each worker before it accepts them; "
            "net.core.somaxconn bounds it too.",
            high=65535,
        ),
    ] = 4096
    mode: Annotated[
        str,
        text(
            "Permissions of a Unix socket, in octal and in quotes.",
            "file_mode",
        ),
    ] = "0660"
    health: Annotated[
        bool, group("Answer /health, /health/live and /health/ready here, before any route.")
    ] = False
    metrics: Annotated[bool, group("Answer /metrics here, before any route.")] = False
    chat: Annotated[
        bool,
        group("Answer chat completions and the list of models here, before any route."),
    ] = False
    head_timeout_s: Annotated[
        float,
        duration(
            "From a request's first byte to the end of its head; then 408. Also how long a new "
            "connection may say nothing; then it is closed.",
            high=HOUR_S,
        ),
    ] = 10.0
    idle_timeout_s: Annotated[
        float, duration("How long a connection may wait for its next request.", high=DAY_S)
    ] = 75.0
    keepalive_requests_max: Annotated[
        int, count("Requests on one connection; the last answer says `Connection: close`.")
    ] = 10_000
    connections_max: Annotated[
        int,
        count(
            "Open connections of one worker on this listener; further ones wait in the backlog.",
            high=1_000_000,
        ),
    ] = 16_384
    connections_per_client_max: Annotated[
        int,
        count(
            "Of these, those of one client: an IPv4 address or an IPv6 /64; further ones are "
            "reset. Not for `trusted_proxies` and Unix sockets.",
            high=1_000_000,
        ),
    ] = 2048
    client_half_close: Annotated[
        Literal["abort", "serve"],
        group(
            "When a client stops sending before it has its answer: `abort` takes it for gone and "
            "frees the upstream; `serve` answers it still."
        ),
    ] = "abort"


class AccessLog(Base, frozen=True):
    """One line per exchange."""

    path: Annotated[
        str, text("`stdout`, `off`, or a file, which is reopened on SIGUSR1.", "log_path")
    ] = "stdout"
    format: Annotated[
        Literal["json", "combined"],
        group("`json`, one object a line; or `combined`, as Apache and nginx write it."),
    ] = "json"


class Static(Base, frozen=True):
    """What a running node cannot change."""

    node: Annotated[Node, group("The node process and its workers.")] = Node()
    admin: Annotated[Admin, group("The node's own address, for health, metrics and commands.")] = (
        Admin()
    )
    listeners: Annotated[
        tuple[Listener, ...], group("The addresses that clients connect to. At least one.")
    ] = ()
    access_log: Annotated[AccessLog, group("One line per exchange.")] = AccessLog()
    database: Annotated[
        Database | None,
        group("Where shared state is kept. Without it there is none, and this node is alone."),
    ] = None
    cluster: Annotated[
        Cluster, group("How this instance is one of many. Only with `database.type: postgres`.")
    ] = Cluster()

"""Where the plays of an exchange take place: a world with routes and pools, and real heads."""

from collections.abc import Sequence

from loomproxy.core.endpoint import Address, EjectionPolicy, Endpoint, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.hygiene import ForwardPolicy, Peer
from loomproxy.core.message import RequestHead, ResponseHead
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import (
    Match,
    PathKind,
    Redirect,
    Respond,
    Route,
    RouteTable,
    Serve,
    Timeouts,
    ToPool,
)
from loomproxy.core.snapshot import Snapshot
from loomproxy.core.world import World
from tests.commands import Scribe, Staged
from tests.playbook import Play, deadline, head_down, opened, opens, sends_up

PEER = Peer(ip=b"192.0.2.7", port=40000, trusted=False, local_port=80, listener="public")
FIRST, SECOND = "http://10.0.0.1:80", "http://10.0.0.2:80"
BODY_RATE, SEND_RATE = 2, 1  # bytes a second, at least
CONNECT_S, RESPONSE_S, IDLE_S, SEND_S, QUEUE_S, TUNNEL_S, SERVICE_S = 3, 60, 40, 30, 5, 300, 7
TIMEOUTS = Timeouts(
    queue_s=QUEUE_S,
    connect_s=CONNECT_S,
    response_s=RESPONSE_S,
    idle_s=IDLE_S,
    send_s=SEND_S,
    tunnel_idle_s=TUNNEL_S,
    service_s=SERVICE_S,
    body_bytes_min_per_s=BODY_RATE,
    send_bytes_min_per_s=SEND_RATE,
)
UNROUTED = Timeouts(send_s=11.0)
NEVER_FROM_NOW = float("inf")


def route(path: str, action: object, **more: object) -> Route:
    """A route for one exact path, or for everything (`*`)."""
    match = Match() if path == "*" else Match(path_kind=PathKind.EXACT, paths=(path.encode(),))
    more.setdefault("timeouts", TIMEOUTS)
    return Route(name=path, match=match, action=action, **more)


HOUSE_ROUTES = (
    route("/health", Serve()),
    route("/fixed", Respond(200, b"fixed\n", block=b"X-Fixed: yes\r\n")),
    route("/empty", Respond(204, b"never sent\n")),
    route("/moved", Redirect(308, b"https://{host}{path}")),
    route("/small", ToPool("web"), body_bytes_max=10),
    route("/unheld", ToPool("web"), replay_bytes_max=4),
    route("/chat", ToPool("web"), upgrades=frozenset((b"websocket", b"chat"))),
)


def house(
    endpoints: int = 2,
    *,
    routes: Sequence[Route] = (*HOUSE_ROUTES, route("*", ToPool("web"))),
    **pool: object,
) -> World:
    """A world with one pool, `web`, of so many endpoints."""
    specs = tuple(EndpointSpec(Address(f"10.0.0.{n}", 80)) for n in range(1, endpoints + 1))
    pool.setdefault("ejection", EjectionPolicy(failures=0))
    spec = PoolSpec("web", specs, **pool)
    return World(
        Snapshot(
            revision=1,
            table=RouteTable.build(routes),
            pools={"web": spec},
            policy=ForwardPolicy(),
            limits=Limits(),
            timeouts=UNROUTED,
        )
    )


def play(
    world: World | None = None, *, peer: Peer = PEER, may_keep: bool = True, idle: bool = False
) -> Play:
    """A new exchange, before its first event; `idle`: there is an idle connection for it."""
    scribe = Scribe()
    scribe.idle = idle
    return Play(Staged(world or house(), peer, scribe, fresh_id=b"id-1", may_keep=may_keep), scribe)


def endpoint(world: World, name: str) -> Endpoint:
    """An endpoint of the pool, by name."""
    return next(each for each in world.pools["web"].endpoints if each.name == name)


def request(method: str, path: str, *lines: str, version: str = "1.1") -> RequestHead:
    """A request head, read by the wire from these lines."""
    return read(f"{method} {path} HTTP/{version}", "Host: a.example", *lines)


def read(*lines: str) -> RequestHead:
    """A request head of just these lines."""
    wire = RequestWire(Limits())
    wire.receive("\r\n".join((*lines, "", "")).encode())
    head = wire.poll()
    assert isinstance(head, RequestHead), head
    return head


def get(path: str = "/", *lines: str, version: str = "1.1") -> RequestHead:
    """A request without a body."""
    return request("GET", path, *lines, version=version)


def post(length: int = 5, path: str = "/", *lines: str) -> RequestHead:
    """A request with a body of known length."""
    return request("POST", path, f"Content-Length: {length}", *lines)


def put(length: int = 5, path: str = "/", *lines: str) -> RequestHead:
    """An idempotent request with a body of known length."""
    return request("PUT", path, f"Content-Length: {length}", *lines)


def post_chunked(path: str = "/", *lines: str) -> RequestHead:
    """A request with a body in chunks."""
    return request("POST", path, "Transfer-Encoding: chunked", *lines)


def upgrade(path: str = "/chat", to: str = "websocket") -> RequestHead:
    """A request that asks to speak another protocol."""
    return request("GET", path, "Connection: upgrade", f"Upgrade: {to}")


def response(status: int, *lines: str, to: str = "GET", version: str = "1.1") -> ResponseHead:
    """A response head, read by the wire from these lines."""
    wire = ResponseWire(Limits())
    wire.expect(to.encode())
    wire.receive("\r\n".join((f"HTTP/{version} {status} Reason", *lines, "", "")).encode())
    head = wire.poll()
    assert isinstance(head, ResponseHead), head
    return head


def with_length(length: int, *lines: str, status: int = 200, to: str = "GET") -> ResponseHead:
    """A response with a body of known length."""
    return response(status, f"Content-Length: {length}", *lines, to=to)


def chunked(*lines: str) -> ResponseHead:
    """A response with a body in chunks."""
    return response(200, "Transfer-Encoding: chunked", *lines)


def connecting(head: RequestHead, world: World | None = None, **how: bool) -> Play:
    """A play up to the connection that is being opened."""
    it = play(world, **how)
    assert it >> head << opens(FIRST) << deadline(CONNECT_S)
    return it


def waiting(head: RequestHead, world: World | None = None, *, reused: bool = False) -> Play:
    """A play up to the request that was sent, and the answer that is waited for."""
    wait_s = IDLE_S if head.has_body and not head.expect_continue else RESPONSE_S
    if reused:
        it = play(world, idle=True)
        assert it >> head << opens(FIRST) << deadline(wait_s) << sends_up(head.method)
    else:
        it = connecting(head, world)
        assert it >> opened() << deadline(wait_s) << sends_up(head.method)
    return it


def answering(head: RequestHead, answer: ResponseHead, world: World | None = None) -> Play:
    """A play up to the response head."""
    it = waiting(head, world)
    assert it >> answer << head_down(answer.status) << deadline(IDLE_S)
    return it


def queueing(head: RequestHead, world: World) -> tuple[Play, Play]:
    """A play up to the queue, behind another that holds the only slot; the other comes second."""
    other = connecting(get("/other"), world)
    it = play(world)
    assert it >> head << deadline(QUEUE_S)
    return it, other

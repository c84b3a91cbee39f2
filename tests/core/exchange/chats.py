"""Where the plays of chats take place: providers with models, and what they say."""

import json
from typing import Any

from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.message import RequestHead, RequestPart, Response, ResponseHead, ResponsePart
from loomproxy.core.pool import PoolSpec
from loomproxy.core.route import Chat, Match, Models, PathKind, Route, RouteTable
from loomproxy.core.snapshot import Snapshot
from loomproxy.core.world import World
from tests.commands import Release, SendDown
from tests.core.exchange.scenery import (
    IDLE_S,
    TIMEOUTS,
    UNROUTED,
    play,
    request,
    response,
    route,
)
from tests.playbook import Play, deadline, opened, opens, sends_up

CHAT, LOOM, LOOM_STREAM = (
    "/v1/chat/completions",
    "/api/v1/chat/completions",
    "/api/v1/chat/completions/stream",
)
BODY_MAX = 1000
CONNECT_S, FIRST_BYTE_S, CHUNK_S = 2, 50, 20
ACME_1, ACME_2, CLOSED_AI = "unix:/run/acme-1", "unix:/run/acme-2", "http://10.1.0.1:8000"
SECRETS = ((b"Authorization", b"Bearer of-the-guest"),)
ROUTES = (
    route(CHAT, Chat("openai"), body_bytes_max=BODY_MAX),
    route(LOOM, Chat("loom"), body_bytes_max=BODY_MAX),
    route(LOOM_STREAM, Chat("loom", streams=True), body_bytes_max=BODY_MAX),
    Route(
        name="models",
        match=Match(path_kind=PathKind.PREFIX, paths=(b"/v1/models",)),
        action=Models(b"/v1/models"),
        timeouts=TIMEOUTS,
    ),
)


def endpoint(path: str, **more: Any) -> EndpointSpec:
    """One replica of a plugin."""
    return EndpointSpec(Address(path=path), secrets=SECRETS, **more)


def acme(*endpoints: EndpointSpec, **more: Any) -> Provider:
    """A plugin with two models."""
    settings: dict[str, Any] = {
        "models": (Model("m1", context_window=1000), Model("m2")),
        "connect_timeout_s": CONNECT_S,
        "request_timeout_s": FIRST_BYTE_S,
        "idle_timeout_s": CHUNK_S,
        "published_at": 1700000000,
        **more,
    }
    return Provider("acme", endpoints or (endpoint("/run/acme-1"),), **settings)


CLOSED = Provider(
    "closed-ai",
    (EndpointSpec(Address("10.1.0.1", 8000), secrets=((b"api-key", b"k"),)),),
    models=(Model("gpt"), Model("m2")),
    tongue=Tongue.OPENAI,
    target=b"/v1/chat/completions?api=2",
    connect_timeout_s=CONNECT_S,
    request_timeout_s=FIRST_BYTE_S,
    idle_timeout_s=CHUNK_S,
)
AWAY = Provider("away", models=(Model("m9"),), reason="it crashed five times in a minute")


def snapshot(*providers: Provider, revision: int = 1, **pool: Any) -> Snapshot:
    """A snapshot of these providers."""
    return Snapshot(
        revision=revision,
        table=RouteTable.build(ROUTES),
        pools={
            each.pool: PoolSpec(each.pool, each.endpoints, follows=True, **pool)
            for each in providers
        },
        policy=ForwardPolicy(),
        limits=Limits(),
        timeouts=UNROUTED,
        providers={each.provider_type: each for each in providers},
        catalogue=Catalogue(providers),
    )


def market(*providers: Provider, **pool: Any) -> World:
    """A world with these providers; without any, with all of the above."""
    return World(snapshot(*(providers or (acme(), CLOSED, AWAY)), **pool))


def body(model: str | None = "acme/m1", **more: Any) -> bytes:
    """A request body."""
    said = {} if model is None else {"model": model}
    messages = [{"role": "user", "content": "Hello"}]
    return json.dumps({**said, "messages": messages, **more}, separators=(",", ":")).encode()


def post(data: bytes, *lines: str, path: str = CHAT, version: str = "1.1") -> RequestHead:
    """The head of a chat with this body."""
    return request("POST", path, f"Content-Length: {len(data)}", *lines, version=version)


def whole(data: bytes) -> RequestPart:
    """A body in one part."""
    return RequestPart(data, ended=True)


def asking(
    data: bytes,
    world: World | None = None,
    *lines: str,
    path: str = CHAT,
    to: str = ACME_1,
    version: str = "1.1",
) -> Play:
    """A play up to the request that was sent to the provider."""
    it = play(world or market())
    assert (
        it
        >> post(data, *lines, path=path, version=version)
        << deadline(IDLE_S)
        >> whole(data)
        << opens(to)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(b"POST ")
    )
    return it


def completion(**more: Any) -> bytes:
    """A whole answer."""
    message = {"role": "assistant", "content": "Hi"}
    said = {
        "id": "c-1",
        "object": "chat.completion",
        "created": 5,
        "model": "m1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **more,
    }
    return json.dumps(said).encode()


def answer(data: bytes, status: int = 200, *lines: str) -> Response:
    """An answer that arrives whole."""
    length = f"Content-Length: {len(data)}"
    head = response(status, length, "Content-Type: application/json", *lines, to="POST")
    return Response(head, data)


def event(**more: Any) -> bytes:
    """One event of a stream."""
    said = {"id": "c-1", "object": "chat.completion.chunk", **more}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


HI = event(choices=[{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}])
COUNTED = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8})
DONE = b"data: [DONE]\n\n"


def stream_head() -> ResponseHead:
    """The head of a stream."""
    return response(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked", to="POST")


def part(data: bytes, *, ended: bool = False) -> ResponsePart:
    """Some of an answer."""
    return ResponsePart(data, ended=ended)


def framed(data: bytes) -> bytes:
    """A chunk of the transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(
    data: bytes, world: World | None = None, *lines: str, path: str = CHAT, to: str = ACME_1
) -> Play:
    """A play up to the head of a stream; nothing of it has gone down."""
    it = asking(data, world, *lines, path=path, to=to)
    assert it >> stream_head() << deadline(CHUNK_S)
    return it


def taken(it: Play) -> Play:
    """The client takes everything at once."""
    it.scribe.taken = True
    return it


ASKED, STREAMED = body(), body(stream=True)
LAST_CHUNK = SendDown(b"0\r\n\r\n")
GIVEN_BACK, LET_GO = Release(reusable=True), Release(reusable=False)
TRANSIENT = json.dumps(
    {"code": "provider_unavailable", "message": "Soon.", "transient": True}
).encode()

"""What is asked, what the upstream does about it, and what must come back when all goes well.

Every byte of every body names the path of its request, so that bytes of another one are noticed
wherever they turn up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.support.caller import request
from tests.support.origin import Scene as Played
from tests.support.origin import chunk, head

SMALL_BYTES: Final = 2_000
LARGE_BYTES: Final = 600_000
"""More than any buffer between two ends takes at once."""

BEATS: Final = 4
BEAT_S: Final = 0.01
TUNNEL_WORDS: Final = (b"one", b"two " * 500, b"three")
GOODBYE: Final = b" goodbye"
CHUNKED: Final = ("Transfer-Encoding", "chunked")
SUM: Final = "X-Sum"
END: Final = b".end"
"""With which every body ends, and nothing else does."""


def payload(name: str, size: int) -> bytes:
    """A body that only `name` has."""
    word = f"{name} ".encode()
    return (word * (size // len(word) + 1))[: size - len(END)] + END


def upload(path: str, size: int) -> bytes:
    """The body that a client sends for `path`."""
    return payload(f"up {path}", size)


@dataclass(frozen=True)
class Expected:
    """The right answer."""

    body: bytes
    status: int = 200
    trailers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Scene:
    """One thing that a client does, over a fresh or a reused connection to the upstream."""

    name: str
    act: Callable[[Played], Awaitable[None]]
    size: int = SMALL_BYTES  # of the answer's body
    method: str = "GET"
    reused: bool = False
    up: int = 0  # bytes of the request's body
    chunked: bool = False
    expects: bool = False  # it waits for 100 before it sends the body
    requests: int = 1  # pipelined
    tunnel: bool = False
    old: bool = False  # an HTTP/1.0 client, who knows neither chunks nor trailers
    trailers: bool = False
    fields: tuple[tuple[str, str], ...] = field(default=())

    @property
    def idempotent(self) -> bool:
        """Whether an attempt may be repeated although it was sent."""
        return self.method != "POST"

    def paths(self, path: str) -> list[str]:
        """The path of each request; one that is not pipelined has just `path`."""
        return [path, *(f"{path}-{number}" for number in range(1, self.requests))]

    def head(self, path: str) -> bytes:
        """The request head."""
        more = list(self.fields)
        if self.chunked:
            more.append(CHUNKED)
        elif self.up:
            more.append(("Content-Length", str(self.up)))
        if self.expects:
            more.append(("Expect", "100-continue"))
        head = request(path, self.method, more)
        return head.replace(b"HTTP/1.1", b"HTTP/1.0", 1) if self.old else head

    def body(self, path: str) -> Iterable[bytes]:
        """The request's body in the pieces in which it is sent."""
        whole = upload(path, self.up)
        if not self.chunked:
            yield whole
            return
        half = len(whole) // 2
        yield chunk(whole[:half])
        yield chunk(whole[half:])
        yield b"0\r\n%s: %s\r\n\r\n" % (SUM.encode(), path.encode())

    @property
    def end_mark(self) -> bytes:
        """With which an answer ends on the wire; b"" where only the connection's end tells."""
        if self.act is beat:
            return END + b"\r\n\r\n" if self.trailers else b"0\r\n\r\n"
        if self.method == "HEAD":
            return END + b"\r\n\r\n"
        return b"" if self.tunnel or self.act is until_close else END

    def expected(self, path: str) -> Expected:
        """The right answer to the request for `path`."""
        if self.tunnel:
            return Expected(b"".join(TUNNEL_WORDS) + GOODBYE, 101)
        trailers = ((SUM.lower(), path + END.decode()),) if self.trailers else ()
        body = b"" if self.method == "HEAD" else payload(path, self.size)
        return Expected(body, 200, trailers)


# --- what the upstream does -----------------------------------------------------------------------


async def answer(played: Played) -> None:
    """A body of known length."""
    body = payload(played.path, of(played).size)
    if played.method == "HEAD":
        await played.send(
            head(200, [("Content-Length", str(len(body))), (SUM, "x" + END.decode())])
        )
    else:
        await played.reply(200, body)


async def take(played: Played) -> None:
    """Answer well only who sent the right body."""
    scene = of(played)
    if scene.expects:
        await played.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await played.body()
    trailers = [f"{SUM}: {played.path}"] if scene.chunked else []
    if body != upload(played.path, scene.up) or played.trailers != trailers:
        played.line.origin.failures.append(AssertionError(f"{played.path} came up wrong"))
    await played.reply(200, payload(played.path, scene.size))


async def answer_early(played: Played) -> None:
    """Answer before the body has come, and take it all the same."""
    await played.reply(200, payload(played.path, of(played).size))
    await played.body()


async def beat(played: Played) -> None:
    """An event stream: some of the body, a while, some more."""
    fields = [CHUNKED, ("Content-Type", "text/event-stream")]
    await played.send(head(200, fields))
    scene = of(played)
    whole = payload(played.path, scene.size)
    step = len(whole) // BEATS
    for at in range(0, len(whole), step):
        await played.send(chunk(whole[at : at + step]))
        await asyncio.sleep(BEAT_S)
    trailer = f"{SUM}: {played.path}{END.decode()}\r\n" if scene.trailers else ""
    await played.send(f"0\r\n{trailer}\r\n".encode())


async def until_close(played: Played) -> None:
    """A body that ends with the connection."""
    await played.send(head(200) + payload(played.path, of(played).size))
    played.line.close()


async def tunnel(played: Played) -> None:
    """Switch, say all that is heard, and at last goodbye."""
    await played.send(head(101, [("Connection", "upgrade"), ("Upgrade", "websocket")]))
    while data := await played.line.some():
        await played.send(data)
    await played.send(GOODBYE)
    played.line.close()


UPGRADE: Final = (("Connection", "upgrade"), ("Upgrade", "websocket"))

SCENES: Final = (
    Scene("get", answer),
    Scene("get-reused", answer, reused=True),
    Scene("post", take, method="POST", up=SMALL_BYTES),
    Scene("post-reused", take, method="POST", up=SMALL_BYTES, reused=True),
    Scene("put-reused", take, method="PUT", up=SMALL_BYTES, reused=True),
    Scene("post-chunked", take, method="POST", up=SMALL_BYTES, chunked=True),
    Scene("continue", take, method="POST", up=SMALL_BYTES, expects=True),
    Scene("download", answer, size=LARGE_BYTES),
    Scene("upload", take, method="PUT", up=LARGE_BYTES),
    Scene("early", answer_early, method="POST", up=LARGE_BYTES),
    Scene("head", answer, method="HEAD", reused=True),
    Scene("events", beat),
    Scene("old", beat, old=True),
    Scene("trailers", beat, trailers=True, reused=True),
    Scene("until-close", until_close),
    Scene("tunnel", tunnel, tunnel=True, fields=UPGRADE),
    Scene("pipelined", answer, requests=3),
)
BY_NAME: Final = {scene.name: scene for scene in SCENES}


def of(played: Played) -> Scene:
    """The scene that a request belongs to: `/lane/scene/number`."""
    return BY_NAME[played.path.split("/")[2]]


async def play(played: Played) -> None:
    """What the upstream does with any request."""
    await of(played).act(played)

"""Control calls to a plugin: what it may answer, and how slowly, and what is made of that."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from loomproxy.core.endpoint import Address
from loomproxy.plugins.call import ANSWER_BYTES_MAX, Caller, CallError, CallTimeouts
from loomproxy.plugins.contract import HealthStatus, PluginError

DEADLINE_S: Final = 30.0
LONG: Final = CallTimeouts()
SHORT: Final = CallTimeouts(connect_s=0.05, first_byte_s=0.1, idle_s=0.1, total_s=0.3)

Ask = Callable[[Caller], Awaitable[Any]]
Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes | object = b"{}", *, status: str = "200 OK", more: str = "") -> bytes:
    """An answer with a body: bytes, or what is to be JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Plugin:
    """A plugin that answers each request as it is told, and keeps what it was asked."""

    def __init__(self, act: bytes | Act) -> None:
        self.act = act
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            self.requests.append((head[0], fields, body))
            if not isinstance(self.act, bytes):
                await self.act(writer)
                return
            writer.write(self.act)
            await writer.drain()

    async def end(self, server: asyncio.Server) -> None:
        """Close the server, and leave nobody waiting."""
        server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def called(
    act: bytes | Act, folder: Path, **keys: Any
) -> AsyncIterator[tuple[Plugin, Caller]]:
    """A plugin on a Unix socket, and who calls it."""
    plugin = Plugin(act)
    path = str(folder / "s")
    server = await asyncio.start_unix_server(plugin.serve, path, limit=1 << 20)
    caller = Caller(Address(path=path), "token-1", **keys)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield plugin, caller
    finally:
        await caller.aclose()
        await plugin.end(server)


def fails(act: bytes | Act, ask: Ask, folder: Path, **keys: Any) -> CallError:
    """How a call fails."""

    async def play() -> CallError:
        async with called(act, folder, **keys) as (_plugin, caller):
            with pytest.raises(CallError) as caught:
                await ask(caller)
            return caught.value

    return asyncio.run(play())


def test_every_call_carries_the_token_and_an_identity_of_its_own(tmp_path: Path) -> None:
    async def play() -> None:
        async with called(answer(), tmp_path) as (plugin, caller):
            await caller.initialize({"api_key": "k", "timeout": 30, "ratio": 0.5, "on": True})
            await caller.cleanup()
            plugin.act = answer([])
            assert await caller.models() == ()
        lines = [line for line, _fields, _body in plugin.requests]
        assert lines == [
            "POST /initialize HTTP/1.1",
            "POST /cleanup HTTP/1.1",
            "GET /models HTTP/1.1",
        ]
        bodies = [body for _line, _fields, body in plugin.requests]
        assert json.loads(bodies[0]) == {"api_key": "k", "timeout": 30, "ratio": 0.5, "on": True}
        assert bodies[1:] == [b"{}", b""]
        identities = set()
        for _line, fields, body in plugin.requests:
            assert fields["host"] == "localhost"
            assert fields["authorization"] == "bearer token-1"
            assert fields["accept"] == "application/json"
            assert fields.get("content-type", "") == ("application/json" if body else "")
            assert "cookie" not in fields
            version, trace, span, flags = fields["traceparent"].split("-")
            assert (version, flags, len(trace), len(span)) == ("00", "01", 32, 16)
            assert fields["x-request-id"] == trace
            identities.add(trace)
        assert len(identities) == 3
        assert plugin.connections == 1

    asyncio.run(play())


def test_plugin_of_somebody_else_is_called_below_its_base_with_its_own_secrets() -> None:
    async def play() -> None:
        plugin = Plugin(answer({"data": [{"id": "m"}]}))
        server = await asyncio.start_server(plugin.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        caller = Caller(Address(host, port), "", base="/v1/", secrets=((b"X-Api-Key", b"s3"),))
        async with asyncio.timeout(DEADLINE_S):
            (model,) = await caller.openai_models("/models")
        assert model.id == "m"
        ((line, fields, _body),) = plugin.requests
        assert line == "GET /v1/models HTTP/1.1"
        assert fields["host"] == f"{host}:{port}"
        assert fields["x-api-key"] == "s3"
        assert "authorization" not in fields
        await caller.aclose()
        await plugin.end(server)

    asyncio.run(play())


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content", "299 Odd"])
def test_every_2xx_is_a_success(tmp_path: Path, status: str) -> None:
    async def play() -> None:
        done = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
        if "204" in status:
            done = b"HTTP/1.1 204 No Content\r\n\r\n"
        async with called(done, tmp_path) as (_plugin, caller):
            await caller.initialize({})
            await caller.cleanup()

    asyncio.run(play())


def test_plugin_that_is_not_well_says_so_and_that_is_an_answer(tmp_path: Path) -> None:
    async def play() -> None:
        body = {"healthy": False, "message": "no key", "timestamp": "2026-01-21T13:42:00"}
        async with called(answer(body), tmp_path) as (_plugin, caller):
            health = await caller.health()
            assert health == HealthStatus(
                healthy=False, message="no key", checked_at="2026-01-21T13:42:00"
            )

    asyncio.run(play())


def test_error_of_a_plugin_is_kept_as_it_said_it(tmp_path: Path) -> None:
    error = {
        "code": "rate_limit_exceeded",
        "message": "slow down",
        "details": {"retry_after": 7},
        "transient": True,
    }
    failed = fails(answer(error, status="429 Too Many"), Caller.models, tmp_path)
    assert failed.error == PluginError(
        code="rate_limit_exceeded", message="slow down", details={"retry_after": 7}, transient=True
    )
    assert failed.status == 429
    assert str(failed) == f"GET /models at unix:{tmp_path}/s: rate_limit_exceeded: slow down"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (answer(b"null"), "metadata"),
        (answer(b""), "metadata: it is no JSON"),
        (answer(b"\x00\xff{"), "metadata: it is no JSON"),
        (answer(b"[" * 100_000), "nested"),
        (answer([]), "metadata"),
        (answer(b"7"), "metadata"),
        (answer({"name": "x"}), "metadata.version: it is missing"),
        (answer(b"x" * (ANSWER_BYTES_MAX + 1)), f"a body of more than {ANSWER_BYTES_MAX} bytes"),
        (
            answer(b"", status="307 Gone", more="Location: http://169.254.169.254/\r\n"),
            "it answered 307 and sends us to 'http://169.254.169.254/'; redirects are not followed",
        ),
        (answer(b"", status="304 Same"), "it answered 304"),
        (answer({"error": "boom"}, status="500 Oops"), '{"error": "boom"}'),
        (answer(b"<h1>no</h1>", status="502 Bad"), "<h1>no</h1>"),
        (answer(b"null", status="400 Bad"), "400"),
        (answer(b"\xff" * 100_000, status="500 Oops"), "500"),
        (answer(b"", status="404 Not Found"), "404"),
    ],
)
def test_answer_that_is_none_is_an_internal_error_and_never_a_traceback(
    tmp_path: Path, data: bytes, says: str
) -> None:
    failed = fails(data, Caller.metadata, tmp_path)
    assert failed.error.code == "internal_error"
    assert not failed.error.transient
    assert says in failed.error.message
    assert len(failed.error.message) < 3000
    assert str(failed).startswith(f"GET /metadata at unix:{tmp_path}/s: internal_error: ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
)
def test_what_is_no_http_is_a_plugin_that_is_unavailable_for_the_moment(
    tmp_path: Path, data: bytes
) -> None:
    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    failed = fails(act, Caller.health, tmp_path)
    assert (failed.error.code, failed.error.transient, failed.status) == (
        "provider_unavailable",
        True,
        0,
    )
    assert "what came is no HTTP answer, or not all of one (" in failed.error.message


async def silent(_writer: asyncio.StreamWriter) -> None:
    """Say nothing, for as long as somebody listens."""
    await asyncio.Event().wait()


async def halting(writer: asyncio.StreamWriter) -> None:
    """Begin, and go no further."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"healthy"')
    await asyncio.Event().wait()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (silent, "no answer within 0.1 s"),
        (halting, "the body went on no further within 0.1 s"),
        (dripping, "the answer was not complete within 0.3 s"),
    ],
)
def test_slow_plugin_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, act: Act, says: str
) -> None:
    failed = fails(act, Caller.health, tmp_path, timeouts=SHORT)
    assert failed.error == PluginError(code="timeout", message=says, transient=True)
    assert failed.status == 0


def test_nobody_there_is_said_with_the_place_and_the_reason(tmp_path: Path) -> None:
    async def play(address: Address, timeouts: CallTimeouts = LONG) -> CallError:
        caller = Caller(address, "token-1", timeouts=timeouts)
        with pytest.raises(CallError) as caught:
            await caller.health()
        await caller.aclose()
        assert "token-1" not in f"{caught.value!r}"
        assert caught.value.error.transient
        return caught.value

    gone = asyncio.run(play(Address(path=f"{tmp_path}/gone")))
    assert str(gone) == (
        f"GET /health at unix:{tmp_path}/gone: provider_unavailable: "
        "nobody takes the connection ([Errno 2] No such file or directory)"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        refused = asyncio.run(play(Address("127.0.0.1", port)))
    assert str(refused).startswith(f"GET /health at http://127.0.0.1:{port}: provider_unavailable")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        port = full.getsockname()[1]
        for _time in range(4):  # the kernel takes one more than the backlog, and answers no others
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        late = asyncio.run(play(Address("127.0.0.1", port), SHORT))
    assert late.error.code == "timeout"
    assert late.error.message == "no connection within 0.05 s"


def test_calls_at_once_use_a_bounded_number_of_connections(tmp_path: Path) -> None:
    async def play() -> None:
        async with called(answer({"healthy": True}), tmp_path) as (plugin, caller):
            await asyncio.gather(*(caller.health() for _time in range(20)))
            assert len(plugin.requests) == 20
            assert plugin.connections <= 4

    asyncio.run(play())


def test_nobody_pays_for_the_http_client_before_a_plugin_is_called() -> None:
    code = "import sys, loomproxy.plugins.call; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

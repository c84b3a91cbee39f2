"""Plugins that somebody else runs, and builtin providers: no process of ours."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from loomproxy.plugins.status import State
from tests.plugins.estate import Estate, estate

PLAIN: dict[str, Any] = {"command": None, "args": None, "env": None, "stop_timeout": None}
"""What is said of processes only."""

TOKEN = "somebody-else's"


@contextlib.contextmanager
def somebody(it: Estate, name: str, place: str = "s") -> Iterator[subprocess.Popen[bytes]]:
    """Runs the tiny plugin without us."""
    code = it.directory / name / "plugin.py"
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", code],
        env={
            "LOOM_TINY": str(it.knob(name)),
            "LOOM_PLUGIN_NAME": name,
            "LOOM_PLUGIN_TOKEN": TOKEN,
            "LOOM_PLUGIN_SOCKET": str(it.knob(name, place)),
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        it.knob(name, place).unlink(missing_ok=True)


def socket_of(it: Estate, name: str) -> str:
    return str(it.knob(name, "s"))


def test_remote_plugin_is_introduced_probed_and_introduced_again_when_it_was_away() -> None:
    async def play() -> None:
        async with estate() as it:
            it.knob("far").mkdir(parents=True)
            it.plant(
                "far",
                **PLAIN,
                endpoint=f"unix:{socket_of(it, 'far')}",
                auth={"secret": TOKEN},
                startup_timeout=0.5,
            )
            await it.begin()
            message = "waits for an answer to GET /health"
            await it.until(lambda: message in str(it.status("far").generations))
            await it.until(lambda: it.states()["far"] is State.BACKOFF)
            assert "nobody takes the connection" in it.status("far").last_error
            away = "The plugin far cannot be reached."
            await it.until(lambda: it.providers["far"].reason == away)
            with somebody(it, "far") as process:
                await it.until(lambda: it.is_ready("far"))
                (endpoint,) = it.providers["far"].endpoints
                assert endpoint.address.path == socket_of(it, "far")
                assert endpoint.secrets == ((b"Authorization", f"Bearer {TOKEN}".encode()),)
                assert it.status("far").kind == "remote"
                assert it.pids() == []
                # A new generation is at the same place: it is never out.
                assert (await it.manager.reload("far")).ok
                assert it.is_ready("far")
                await it.until(lambda: len(it.status("far").generations) == 1)
                assert it.providers["far"].endpoints == (endpoint,)
                it.knob("far", "unhealthy").touch()
                await it.until(lambda: it.states()["far"] is State.UNHEALTHY)
                it.knob("far", "unhealthy").unlink()
                await it.until(lambda: it.is_ready("far"))
                process.send_signal(signal.SIGTERM)
                await it.until(lambda: it.states()["far"] is State.BACKOFF)
                await it.until(lambda: not it.providers["far"].endpoints)
            with somebody(it, "far"):
                await it.until(lambda: it.is_ready("far"))
                assert it.notes("far").count("initialize {}") >= 3

    asyncio.run(play())


def test_remote_plugin_is_never_told_to_clean_up_for_it_may_serve_others() -> None:
    async def play() -> None:
        async with estate() as it:
            it.knob("far").mkdir(parents=True)
            at = f"unix:{socket_of(it, 'far')}"
            it.plant("far", **PLAIN, endpoint=at, auth={"secret": TOKEN})
            with somebody(it, "far"):
                await it.begin()
                await it.until(lambda: it.is_ready("far"))
                assert (await it.manager.reload("far")).ok  # The old generation ends,
                await it.until(lambda: len(it.status("far").generations) == 1)
                # so does a new one that is given up,
                it.refuses = lambda _all: "not now"
                it.plant("far", **PLAIN, endpoint=at, auth={"secret": TOKEN}, request_timeout=5)
                assert not (await it.manager.reload("far")).ok
                it.refuses = lambda _all: ""
                await it.until(lambda: len(it.status("far").generations) == 1)
                # and the last one when the node leaves it; it hears of none of that.
                assert (await it.manager.stop("far")).state is State.STOPPED
                assert it.notes("far") == ["initialize {}"] * 3

    asyncio.run(play())


def test_remote_plugin_that_was_replaced_between_two_probes_is_initialised_again() -> None:
    async def play() -> None:
        async with estate() as it:
            it.knob("far").mkdir(parents=True)
            it.plant(
                "far", **PLAIN, endpoint=f"unix:{socket_of(it, 'far')}", auth={"secret": TOKEN}
            )
            with somebody(it, "far") as first, somebody(it, "far", "next"):
                await it.begin()
                await it.until(lambda: it.is_ready("far") and it.knob("far", "next").is_socket())
                it.knob("far", "next").replace(socket_of(it, "far"))
                first.kill()  # and the connection that probes keep
                await it.until(lambda: it.notes("far") == ["initialize {}"] * 2)
                await it.until(lambda: it.is_ready("far"))
                assert (it.status("far").last_error, it.status("far").restarts) == ("", 0)

    asyncio.run(play())


def test_remote_plugin_that_is_another_one_is_failed() -> None:
    async def play() -> None:
        async with estate() as it:
            it.plant("real")
            it.plant(
                "far",
                **PLAIN,
                endpoint=f"unix:{socket_of(it, 'real')}",
                auth={"secret": TOKEN},
            )
            with somebody(it, "real"):
                await it.begin()
                await it.until(lambda: it.states()["far"] is State.FAILED)
                assert "provider_type is 'real'" in it.status("far").last_error

    asyncio.run(play())


@contextlib.asynccontextmanager
async def upstream(asked: list[bytes]) -> AsyncIterator[str]:
    """Speaks the OpenAI dialect, as far as its list of models; the first time it does not."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        status, body = b"503 No", b"{}"
        if len(asked) > 1:
            status, body = b"200 OK", b'{"object": "list", "data": [{"id": "big"}]}'
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % (status, len(body)) + body)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def test_builtin_provider_is_ready_when_its_models_are_known() -> None:
    async def play() -> None:
        asked: list[bytes] = []
        async with estate() as it, upstream(asked) as url:
            plain = {**PLAIN, "type": "builtin", "endpoint": url}
            it.plant("asks", **plain, health_check_interval=None, auth={"secret": "sk-1"})
            it.plant("knows", **plain, health_check_interval=None, models=["small"])
            await it.begin()
            await it.until(lambda: it.is_ready("knows") and it.is_ready("asks"))
            assert [model.id for model in it.providers["knows"].models] == ["small"]
            assert [model.id for model in it.providers["asks"].models] == ["big"]
            assert it.status("asks").kind == "builtin"
            assert len(asked) == 2
            assert asked[1].startswith(b"GET /v1/models HTTP/1.1\r\n")
            assert b"Authorization: Bearer sk-1\r\n" in asked[1]
            assert (await it.manager.reload("knows")).ok

    asyncio.run(play())

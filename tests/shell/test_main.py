"""A worker process as its node sees it: everything over the channel, on real connections."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from loomproxy import channel as ch
from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.core.chat.provider import Provider
from loomproxy.worker.main import FORCED_EXIT
from tests.shell.stage import run
from tests.support.places import full_pipe

ROOT = Path(__file__).parents[2]
Said = TypeVar("Said", bound=ch.Message)


class Upstream:
    """Answers each request when it is told to."""

    def __init__(self) -> None:
        self.holding = False
        self.begun = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.begun.release()
                if self.holding:
                    await self.go_on.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()


class Caller:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, path: str = "/") -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next response."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        return int(head[9:12]), head, await self.reader.readexactly(length)

    async def asked(self, path: str = "/") -> tuple[int, bytes, bytes]:
        self.ask(path)
        return await self.answer()


class Stage:
    """A worker, its node's end of the channel, and an upstream."""

    def __init__(self, config: Config, upstream: Upstream, stderr: int) -> None:
        self.config = config
        self.stderr = stderr
        self.upstream = upstream
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.process: asyncio.subprocess.Process
        self._heard: asyncio.Queue[ch.Message] = asyncio.Queue()
        self.channel: ch.Channel[Any]
        self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._writers: list[asyncio.StreamWriter] = []

    async def spawn(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.channel = await ch.node_end(ours, self._heard.put_nowait, self.ended.set_result)
        fds = (theirs.fileno(), self._door.fileno())
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loomproxy", "worker", "--channel", str(fds[0])),
            pass_fds=fds,
            stderr=self.stderr,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()

    async def start(self) -> None:
        doors = (ch.ListenerSocket("http", self._door.fileno()),)
        self.say(ch.Start(3, doors, self.config, 7))
        assert await self.hear(ch.Ready) == ch.Ready(3, self.process.pid)

    def say(self, message: ch.Message) -> None:
        self.channel.send(message)

    async def hear(self, kind: type[Said]) -> Said:
        """The next thing that is said, which is of this kind."""
        message = await self._heard.get()
        assert isinstance(message, kind), message
        return message

    async def pong(self, number: int = 1) -> ch.Pong:
        self.say(ch.Ping(number))
        return await self.hear(ch.Pong)

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection(*self._door.getsockname()))
        self._writers.append(caller.writer)
        return caller

    async def drained(self) -> ch.Pong:
        """The last words, in order, then the end; what was counted."""
        pong = await self.hear(ch.Pong)
        assert pong.number == 0
        await self.hear(ch.Drained)
        assert await self.ended == ""
        assert await self.process.wait() == 0
        return pong

    async def said(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def sweep(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self._door.close()


def configured(port: int, log: str = "off", **more: Any) -> Config:
    listener = {"name": "http", "address": "127.0.0.1:0", "health": True}
    tree = {
        "node": {"drain": {"deadline": "20s"}},
        "listeners": [{**listener, **more.pop("listener", {})}],
        "access_log": {"path": log, "format": "json"},
        "pools": {"app": {"endpoints": [f"http://127.0.0.1:{port}"]}},
        "routes": [{"name": "app", "pool": "app"}],
        **more,
    }
    config = parse(json.dumps(tree), "test.json", {})
    assert isinstance(config, Config), config
    return config


@asynccontextmanager
async def stage(
    *,
    started: bool = True,
    log: str = "off",
    stderr: int = asyncio.subprocess.PIPE,
    **more: Any,
) -> AsyncIterator[Stage]:
    upstream = Upstream()
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
        upstream.port = server.sockets[0].getsockname()[1]
        it = Stage(configured(upstream.port, log, **more), upstream, stderr)
        await it.spawn()
        try:
            if started:
                await it.start()
            yield it
        finally:
            upstream.go_on.set()
            await it.sweep()


def test_worker_serves_counts_and_leaves(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    async def play() -> None:
        async with stage(log=str(log)) as it:
            caller = await it.call()
            for _ in range(3):
                assert (await caller.asked("/x"))[0] == 200
            pong = await it.pong(41)
            assert (pong.number, pong.connections, pong.in_flight) == (41, 1, 0)
            assert pong.tasks >= 1
            assert pong.loop_lag_s >= 0
            it.say(ch.StatsPlease(42))
            stats = await it.hear(ch.Stats)
            assert (stats.number, stats.revision) == (42, 7)
            (pool,) = stats.pools
            (endpoint,) = pool.endpoints
            assert (pool.name, pool.waiting) == ("app", 0)
            assert endpoint.address == f"http://127.0.0.1:{it.upstream.port}"
            assert (endpoint.in_flight, endpoint.keepalive, endpoint.healthy) == (0, 1, True)
            it.say(ch.Drain(10.0))
            last = await it.drained()
            assert last.tally.series[("app", "app")].requests[2] == 3
            assert "Traceback" not in await it.said()

    run(play)
    # The lines that had not been written at the drain are there now.
    assert [json.loads(line)["target"] for line in log.read_text().splitlines()] == ["/x"] * 3


def test_new_revision_is_used_and_a_bad_one_is_not() -> None:
    async def play() -> None:
        async with stage() as it:
            caller = await it.call()
            assert (await caller.asked())[0] == 200
            away = configured(
                it.upstream.port,
                routes=[{"name": "gone", "respond": {"status": 410, "body": "gone\n"}}],
            )
            it.say(ch.Publish(away.dynamic, 8))
            assert await it.hear(ch.Published) == ch.Published(8)
            assert (await caller.asked())[0] == 410
            nowhere = configured(it.upstream.port)
            import msgspec

            broken = msgspec.structs.replace(nowhere.dynamic, pools={})
            it.say(ch.Publish(broken, 9))
            refused = await it.hear(ch.Refused)
            assert refused.revision == 9
            assert "app" in refused.reason
            assert (await caller.asked())[0] == 410
            it.say(ch.Publish(secured("/none.pem").dynamic, 10))
            refused = await it.hear(ch.Refused)
            assert refused.reason.startswith("pools.app.tls.ca_file: /none.pem cannot be read")
            assert (await caller.asked())[0] == 410
            it.say(ch.StatsPlease(1))
            assert (await it.hear(ch.Stats)).revision == 8

    run(play)


def secured(ca_file: str) -> Config:
    """A pool in TLS, to which nobody here goes."""
    tls = {"endpoints": ["https://127.0.0.1:9"], "tls": {"ca_file": ca_file}}
    return configured(1, pools={"app": tls}, routes=[{"pool": "app"}])


def test_worker_that_starts_when_a_file_is_gone_serves_the_rest() -> None:
    async def play() -> None:
        away = {"name": "away", "match": {"path": "/away"}, "respond": {"status": 410}}
        tls = {"endpoints": ["https://127.0.0.1:9"], "tls": {"ca_file": "/none.pem"}}
        more = {"pools": {"app": tls}, "routes": [away, {"pool": "app"}]}
        async with stage(**more) as it:
            caller = await it.call()
            assert (await caller.asked("/away"))[0] == 410
            assert (await caller.asked("/x"))[0] == 502
            # What plugins have to say is published all the same.
            it.say(ch.Publish(it.config.dynamic, 8, (Provider("acme"),)))
            assert await it.hear(ch.Published) == ch.Published(8)

    run(play)


def test_house_is_answered_by_the_node() -> None:
    async def play() -> None:
        async with stage() as it:
            first, second = await it.call(), await it.call()
            first.ask("/health/ready")
            one = await it.hear(ch.ServiceAsk)
            second.ask("/health/live")
            two = await it.hear(ch.ServiceAsk)
            assert (one.path, two.path) == (b"/health/ready", b"/health/live")
            it.say(ch.ServiceAnswer(two.ask, 200, b"text/plain", b"yes"))
            it.say(ch.ServiceAnswer(one.ask, 503, b"text/plain", b"not yet"))
            it.say(ch.ServiceAnswer(one.ask, 200, b"text/plain", b"again"))  # to nobody
            assert (await first.answer())[::2] == (503, b"not yet")
            assert (await second.answer())[::2] == (200, b"yes")
            assert (await it.pong()).in_flight == 0

    run(play)


@pytest.mark.parametrize("by", ["word", "signal"])
def test_drain_lets_what_was_begun_finish(by: str) -> None:
    async def play() -> None:
        async with stage() as it:
            it.upstream.holding = True
            busy, idle = await it.call(), await it.call()
            busy.ask()
            await it.upstream.begun.acquire()
            if by == "word":
                it.say(ch.Drain(20.0))
            else:
                it.process.send_signal(signal.SIGTERM)
            # An idle connection is closed, which shows that the drain has begun.
            assert await idle.reader.read() == b""
            it.upstream.go_on.set()
            status, head, body = await busy.answer()
            assert (status, body) == (200, b"hi")
            assert b"connection: close" in head.lower()
            assert await busy.reader.read() == b""
            last = await it.drained()
            assert last.tally.series[("app", "app")].requests[2] == 1

    run(play)


def test_drain_deadline_is_told_to_clients_and_ends_them() -> None:
    async def play() -> None:
        async with stage() as it:
            it.upstream.holding = True
            caller, half = await it.call(), await it.call()
            half.writer.write(b"GET / HT")
            caller.ask()
            await it.upstream.begun.acquire()
            it.say(ch.Drain(0.05))
            assert (await caller.answer())[0] == 503
            assert (await it.drained()).connections == 0
            with contextlib.suppress(ConnectionResetError):
                assert await half.reader.read() == b""

    run(play)


def test_force_during_a_drain_ends_it_at_once() -> None:
    async def play() -> None:
        async with stage() as it:
            it.upstream.holding = True
            caller, half = await it.call(), await it.call()
            half.writer.write(b"GET / HT")  # has ten seconds for its head
            caller.ask()
            await it.upstream.begun.acquire()
            it.say(ch.Drain(600.0))
            it.say(ch.Force())
            assert (await caller.answer())[0] == 503
            async with asyncio.timeout(5):
                await it.drained()

    run(play)


def test_force_without_a_drain_ends_everything() -> None:
    async def play() -> None:
        async with stage() as it:
            it.upstream.holding = True
            caller = await it.call()
            caller.ask()
            await it.upstream.begun.acquire()
            it.say(ch.Force())
            assert (await caller.answer())[0] == 503
            async with asyncio.timeout(5):
                await it.drained()

    run(play)


@pytest.mark.parametrize("started", [False, True])
def test_worker_whose_node_is_gone_goes_too(started: bool) -> None:
    async def play() -> None:
        async with stage(started=started) as it:
            it.channel.close()
            assert await it.process.wait() == FORCED_EXIT
            assert "the node is gone" in await it.said()

    run(play)


def test_unwritable_log_is_told_and_serving_goes_on(tmp_path: Path) -> None:
    async def play() -> None:
        place = tmp_path / "not yet"
        async with stage(log=str(place / "access.log")) as it:
            caller = await it.call()
            assert (await caller.asked("/1"))[0] == 200
            trouble = await it.hear(ch.AccessLogTrouble)
            assert trouble == ch.AccessLogTrouble(
                f"{place}/access.log: No such file or directory", 0
            )
            place.mkdir()
            assert (await caller.asked("/2"))[0] == 200
            it.say(ch.ReopenLogs())
            it.say(ch.Drain(5.0))
            await it.drained()
        lines = (place / "access.log").read_text().splitlines()
        assert [json.loads(line)["target"] for line in lines] == ["/1", "/2"]

    run(play)


def test_a_log_that_nobody_reads_does_not_keep_a_worker_from_leaving(tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    async def play() -> None:
        async with stage(log=str(pipe)) as it:
            caller = await it.call()
            for _ in range(300):  # about twice what a pipe holds
                assert (await caller.asked())[0] == 200
            it.say(ch.Drain(20.0))
            trouble = await it.hear(ch.AccessLogTrouble)
            assert "nobody takes the last lines" in trouble.reason
            assert trouble.lines_lost > 0
            assert (await it.drained()).tally.access_log_dropped == trouble.lines_lost

    try:
        run(play)
    finally:
        os.close(reader)


def test_a_stderr_that_nobody_reads_keeps_a_worker_from_nothing() -> None:
    async def play(stderr: int) -> None:
        async with stage(stderr=stderr) as it:
            for _ in range(300):
                bad = await it.call()
                bad.writer.write(b"hello\r\n\r\n")
                assert (await bad.answer())[0] == 400
                bad.writer.close()
            assert (await (await it.call()).asked())[0] == 200
            it.say(ch.Drain(20.0))
            await it.drained()

    with full_pipe() as stderr:
        run(lambda: play(stderr))

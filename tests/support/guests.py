"""A worker without its node, and providers whose endpoints are an origin of the test's.

What plugins are and how they live is the affair of the node. To a worker they are providers, which
a test can publish just as well.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from loomproxy import channel as ch
from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.core.chat.provider import Model, Provider
from loomproxy.core.endpoint import Address, EndpointSpec
from tests.support.caller import Caller
from tests.support.loom import COMMANDS
from tests.support.origin import Act, Origin
from tests.support.waiting import WITHIN_S, eventually

ROOT: Final = Path(__file__).resolve().parents[2]
TOKEN: Final = "Bearer of-the-guest"


class Worker:
    """One worker process, told by the test what providers there are."""

    def __init__(self, subject: str, origin: Origin, directory: Path) -> None:
        self._command = COMMANDS[subject]
        self.origin = origin
        self.access_path = directory / "access.log"
        self.providers: dict[str, Provider] = {}
        self._names = itertools.count(1)
        self._revision = 1
        self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self._door.getsockname()
        self._heard: asyncio.Queue[ch.Message] = asyncio.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._channel: ch.Channel[Any]
        self._process: subprocess.Popen[bytes]
        said = {
            "listeners": [{"name": "http", "address": "127.0.0.1:1", "chat": True}],
            "access_log": {"path": str(self.access_path), "format": "json"},
            "timeouts": {"idle": "2s"},
        }
        config = parse(json.dumps(said), "worker.json", {})
        assert isinstance(config, Config), str(config)
        self._config = config

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()
        self._door.close()

    def provide(self, act: Act | None = None, **more: Any) -> str:
        """A provider is there from now on, whose requests `act` answers; returns its name."""
        name = f"guest-{next(self._names)}"
        target = f"/{name}/chat/completions"
        if act is not None:
            self.origin.on(target, act)
        endpoint = EndpointSpec(
            Address("127.0.0.1", self.origin.port), secrets=((b"Authorization", TOKEN.encode()),)
        )
        settings = {
            "endpoints": (endpoint,),
            "models": (Model("m"),),
            "target": target.encode(),
            "idle_timeout_s": 5.0,
            **more,
        }
        self.publish(Provider(name, **settings))
        return name

    def publish(self, provider: Provider) -> None:
        """Publish one more provider, or another state of one."""
        self.providers[provider.provider_type] = provider
        self._do(self._publish())

    def caller(self) -> Caller:
        """A client."""
        return Caller(self.address)

    def tally(self) -> Any:
        """What the worker has counted."""
        return self._do(self._ping()).tally

    def logged(self, request_id: str) -> dict[str, Any]:
        """The line of the access log for one request, once it is there."""

        def line() -> dict[str, Any]:
            lines = map(json.loads, self.access_path.read_text().splitlines())
            return next((each for each in lines if each["request_id"] == request_id), {})

        return eventually(line, f"the log line of {request_id}")

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN_S)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._channel = await ch.node_end(ours, self._heard.put_nowait, lambda _why: None)
        fds = (theirs.fileno(), self._door.fileno())
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it is there at once
            (*self._command, "worker", "--channel", str(fds[0])),
            pass_fds=fds,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        doors = (ch.ListenerSocket("http", self._door.fileno()),)
        self._channel.send(ch.Start(0, doors, self._config, 1))
        await self._hear(ch.Ready)

    async def _publish(self) -> None:
        self._revision += 1
        providers = tuple(self.providers.values())
        self._channel.send(ch.Publish(self._config.dynamic, self._revision, providers))
        await self._hear(ch.Published)

    async def _ping(self) -> Any:
        self._channel.send(ch.Ping(1))
        return await self._hear(ch.Pong)

    async def _hear(self, kind: type[ch.Message]) -> ch.Message:
        message = await self._heard.get()
        assert isinstance(message, kind), message
        return message

    async def _stop(self) -> None:
        self._channel.send(ch.Drain(0.0))
        await self._hear(ch.Pong)
        await self._hear(ch.Drained)
        self._channel.close()
        assert await asyncio.to_thread(self._process.wait, WITHIN_S) == 0


@contextlib.contextmanager
def worker(subject: str) -> Iterator[Worker]:
    """A worker, from the source tree or the zipapp, and an origin for its providers."""
    with Origin() as origin, tempfile.TemporaryDirectory() as directory:
        with Worker(subject, origin, Path(directory)) as made:
            yield made
        assert not origin.failures, origin.failures

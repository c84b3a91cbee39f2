"""Three instances behind the real nginx and the real HAProxy, as in `examples/load-balancing`.

The balancers run the example's own files, with ports that are free and checks that are faster. Each
instance has a passage to the database of its own, so that it alone can be cut off.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.differential.others import command
from tests.support.caller import ask
from tests.support.instances import Together
from tests.support.loom import ROOT, Loom
from tests.support.passage import Passage, passage
from tests.support.places import free_port
from tests.support.waiting import eventually

FOLDER: Final = ROOT / "examples" / "load-balancing"

CHECKS: Final = (
    "inter 5s fastinter 1s downinter 2s",
    "inter 400ms fastinter 100ms downinter 200ms",
)
"""What the example says, and what it is here, so that a play need not wait."""

PATIENCE: Final = ("fail_timeout=10s", "fail_timeout=1s")
"""The same of nginx: how long it leaves an instance alone that failed."""

DRAIN: Final = {"grace": "1s", "deadline": "10s"}
"""Above what HAProxy takes to notice: 400 ms and twice 100 ms."""

REAL_DRAIN: Final = {"grace": "8s", "deadline": "30s"}
"""As the example says."""


class Manner(msgspec.Struct, frozen=True):
    """How it is played."""

    hurried: bool = True  # with faster checks and a shorter drain than the example's
    count: int = 3  # of instances; others than three are before HAProxy's hash and cookie alone
    more: dict[str, Any] = {}  # of the configuration of each instance
    environments: dict[str, dict[str, str]] = {}  # what an instance alone has, by its name
    chat: bool = False  # whether listeners take chats


HURRIED: Final = Manner()


class Balanced:
    """Instances, and the ports of what stands before them."""

    def __init__(
        self, together: Together, origin: str, ways: list[Passage], manner: Manner
    ) -> None:
        self.together = together
        self.manner = manner
        self.names = tuple(f"inst{number}" for number in range(1, manner.count + 1))
        self.ways = dict(zip(self.names, ways, strict=True))
        self.looms: dict[str, Loom] = {}
        self._ports = {name: free_port() for name in self.names}
        self._origin = origin
        self.nginx, self.by_client, self.sticky, self.hashed = (free_port() for _ in range(4))
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> Loom:
        """An instance with this name, where it is expected."""
        self.looms[name] = self.together.start(
            name,
            port=self.ways[name].port,
            node={"drain": DRAIN if self.manner.hurried else REAL_DRAIN},
            listeners=[
                {
                    "name": "http",
                    "address": f"127.0.0.1:{self._ports[name]}",
                    "health": True,
                    "chat": self.manner.chat,
                }
            ],
            env=self.manner.environments.get(name),
            trusted_proxies=["127.0.0.0/8"],
            pools={"app": {"endpoints": [self._origin], "ejection": {"failures": 0}}},
            routes=[
                {"pool": "app", "response_headers": {"set": {"X-Instance-ID": name}}},
            ],
            **self.manner.more,
        )
        return self.looms[name]

    def is_ready(self, name: str) -> bool:
        """Whether balancers would send traffic to an instance."""
        with contextlib.suppress(OSError):
            return ask(("127.0.0.1", self._ports[name]), "/health/ready").status == 200
        return False

    def environment(self) -> dict[str, str]:
        """What the example's haproxy.cfg asks of its environment."""
        instances = {
            f"INSTANCE_{at}": f"127.0.0.1:{self._ports[name]}"
            for at, name in enumerate(self.names, 1)
        }
        binds = {
            "BIND_STICKY": f"127.0.0.1:{self.sticky}",
            "BIND_HASH": f"127.0.0.1:{self.hashed}",
            "BIND_STATUS": f"127.0.0.1:{free_port()}",
        }
        return {**os.environ, **instances, **binds}

    def rewritten(self, name: str) -> str:
        """A file of the example with the ports of this play."""
        text = (FOLDER / name).read_text()
        ports = {8080: self.nginx, 8088: self.by_client, 8089: free_port()}
        ports |= {8080 + at: self._ports[each] for at, each in enumerate(self.names, 1)}
        for before, after in ports.items():
            text = text.replace(f"127.0.0.1:{before}", f"127.0.0.1:{after:d}")
        return text.replace(*PATIENCE) if self.manner.hurried else text


@contextlib.contextmanager
def balanced(together: Together, origin: str, manner: Manner = HURRIED) -> Iterator[Balanced]:
    """It all runs; at the end the balancers are gone (instances are their starter's)."""
    with contextlib.ExitStack() as held:
        ways = [held.enter_context(passage(together.server.port)) for _ in range(manner.count)]
        made = Balanced(together, origin, ways, manner)
        held.callback(together.proxies.close)  # before their ways to the database are
        directory = Path(tempfile.mkdtemp(prefix="balanced-"))
        held.callback(shutil.rmtree, directory, ignore_errors=True)
        for name in ("nginx.conf", "instances.conf"):
            (directory / name).write_text(made.rewritten(name))
        (directory / "haproxy.cfg").write_text(_haproxy(manner))
        nginx = (command("nginx"), "-p", directory, "-c", "nginx.conf", "-g", "daemon off;")
        haproxy = (command("haproxy"), "-f", directory / "haproxy.cfg")
        for program in (nginx, haproxy):
            held.enter_context(_running(program, made.environment(), directory))
        for port in (made.nginx, made.by_client, made.sticky, made.hashed):
            eventually(lambda port=port: _serves(port), f"a balancer at {port}")
        yield made


def _haproxy(manner: Manner) -> str:
    """The example's file, with as many servers as there are instances."""
    lines = []
    for line in (FOLDER / "haproxy.cfg").read_text().splitlines():
        if line.lstrip().startswith("server inst1 "):
            numbers = range(1, manner.count + 1)
            lines += [line.replace("inst1", f"inst{n}").replace("_1}", f"_{n}}}") for n in numbers]
        elif not line.lstrip().startswith(("server inst2 ", "server inst3 ")):
            lines.append(line)
    text = "\n".join(lines) + "\n"
    assert CHECKS[0] in text, "the example's checks are written differently"
    return text.replace(*CHECKS) if manner.hurried else text


def _serves(port: int) -> bool:
    with contextlib.suppress(OSError):
        return ask(("127.0.0.1", port), "/health/live").status == 200
    return False


@contextlib.contextmanager
def _running(
    program: tuple[object, ...], environment: dict[str, str], directory: Path
) -> Iterator[None]:
    with (directory / "said").open("ab") as said:
        process = subprocess.Popen(
            [str(part) for part in program], stdout=said, stderr=said, env=environment
        )
    try:
        yield
        assert process.poll() is None, (directory / "said").read_text()
    finally:
        process.terminate()
        process.wait(10)

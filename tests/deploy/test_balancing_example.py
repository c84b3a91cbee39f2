"""`examples/load-balancing`: the real nginx and HAProxy take it, and `run` starts all of it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.differential.others import command
from tests.support.caller import Caller
from tests.support.loom import COMMANDS
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "load-balancing"
PORTS = (5433, 8080, 8081, 8082, 8083, 8088, 8089, 8090, 8091, 8404, 9001, 9002, 9003)
INSTANCES = {f"INSTANCE_{number}": f"127.0.0.1:808{number}" for number in (1, 2, 3)}
BINDS = {"BIND_STICKY": "127.0.0.1:8090", "BIND_HASH": "127.0.0.1:8091", "BIND_STATUS": ":8404"}


def test_haproxy_takes_its_file_without_a_warning() -> None:
    done = subprocess.run(
        (command("haproxy"), "-c", "-f", FOLDER / "haproxy.cfg"),
        env={**os.environ, **INSTANCES, **BINDS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize("instances", ["instances.conf", "instances.compose.conf"])
def test_nginx_takes_its_file(tmp_path: Path, instances: str) -> None:
    shutil.copy(FOLDER / "nginx.conf", tmp_path)
    text = (FOLDER / instances).read_text()
    # Names of containers are known where there are containers.
    (tmp_path / "instances.conf").write_text(re.sub(r"inst(\d):8080", r"127.0.0.1:808\1", text))
    done = subprocess.run(
        (command("nginx"), "-t", "-p", tmp_path, "-c", "nginx.conf"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_the_compose_file_says_the_same_as_run() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == {"postgres", "inst1", "inst2", "inst3", "nginx", "haproxy"}
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert len(published) == len({port.rpartition(":")[0] for port in published}), "a port twice"
    for name in ("inst1", "inst2", "inst3"):
        environment: dict[str, Any] = services[name]["environment"]
        assert environment["INSTANCE_NAME"] == name
        assert environment["DATABASE_DSN"].startswith("postgresql://")
        referred = set(re.findall(r"\$\{([A-Z_]+)\}", (FOLDER / "loomproxy.yaml").read_text()))
        assert referred <= environment.keys()
    mounted = [
        volume.split(":")[0] for one in services.values() for volume in one.get("volumes", ())
    ]
    assert all((FOLDER / path).is_file() for path in mounted)
    assert "curl" not in yaml.safe_dump(services), "the image has none"


class Run:
    """The example as its user has it: what it said, and where it answers."""

    def __init__(self, process: "subprocess.Popen[str]", offset: int) -> None:
        self.process = process
        self.offset = offset
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, text: str, within_s: float = 60.0) -> None:
        eventually(lambda: text in "".join(self.said), text, within_s=within_s)

    def who(self, port: int, **fields: str) -> tuple[str, str]:
        """Who answered, and what cookie it set."""
        with Caller(("127.0.0.1", port + self.offset)) as caller:
            response = caller.get("/hello", fields=fields)
        assert response.status == 200, response
        head = response.head
        return head.field("x-instance-id") or "", head.field("set-cookie") or ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)


def all_free(offset: int) -> bool:
    """Whether nobody has any of its ports; they are below those that other tests choose from."""
    with contextlib.ExitStack() as held:
        for port in PORTS:
            door = held.enter_context(socket.socket())
            try:
                door.bind(("127.0.0.1", port + offset))
            except OSError:
                return False
    return True


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """It runs, each of its ports higher by as much as makes them free."""
    subject = str(request.config.getoption("--subject"))
    offset = next(offset for offset in range(2000, 5900, 7) if all_free(offset))
    process = subprocess.Popen(
        FOLDER / "run",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OFFSET": str(offset), "LOOMPROXY": " ".join(COMMANDS[subject])},
        start_new_session=True,
    )
    try:
        yield Run(process, offset)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_run_starts_it_all_and_ends_it_all(run: Run) -> None:
    run.wait("All of it runs.")
    seen = {run.who(8080)[0] for _ in range(9)}
    assert seen == {"inst1", "inst2", "inst3"}, "nginx spreads over all"
    assert len({run.who(8088)[0] for _ in range(6)}) == 1, "nginx keeps a client with its instance"
    assert len({run.who(8091)[0] for _ in range(6)}) == 1, "and so does HAProxy"
    name, cookie = run.who(8090)
    assert cookie.startswith(f"LOOM_INSTANCE={name};")
    again = [run.who(8090, Cookie=f"LOOM_INSTANCE={name}") for _ in range(6)]
    assert again == [(name, "")] * 6, "the sticky client stays, and is told nothing new"
    with Caller(("127.0.0.1", 8404 + run.offset)) as caller:
        assert b"loom" in caller.get("/").body
    began = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    run.process.wait(60)
    assert time.monotonic() - began < 60
    run.wait("ending postgres", within_s=5.0)
    said = "".join(run.said)
    order = [said.index(f"ending {name}") for name in ("haproxy", "nginx", "inst3", "inst1")]
    assert order == sorted(order)

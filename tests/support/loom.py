"""The proxy as tests see it: a command that is started, watched and stopped, source or zipapp.

Whatever a test does with it, at the end nothing may be left: no process that carries its mark, no
traceback in what it said.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support import processes
from tests.support.caller import Address, Caller, Response, ask
from tests.support.places import free_port
from tests.support.waiting import WITHIN_S, eventually

ROOT: Final = Path(__file__).resolve().parents[2]

START_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 15.0

COMMANDS: Final = {
    "source": (sys.executable, "-m", "loomproxy"),
    "zipapp": (sys.executable, str(ROOT / "dist" / "loomproxy.pyz")),
}

Settings = dict[str, Any]


def settings(**more: Any) -> Settings:
    """A small configuration: one worker, asked often how it is, and what is given on top."""
    node = {"workers": 1, "worker_ping_interval": "100ms", **more.pop("node", {})}
    return {"node": node, **more}


def pool(*urls: Any, **more: Any) -> Settings:
    """A pool of these addresses."""
    return {"endpoints": list(urls), **more}


def to(chosen: str, prefix: str = "", /, **more: Any) -> Settings:
    """A route for all below `prefix` to the pool `chosen`."""
    match = {"path_prefix": prefix} if prefix else {}
    return {"match": match, "pool": chosen, **more}


class Loom:
    """One running proxy."""

    def __init__(self, command: Sequence[str], arguments: Sequence[str], directory: Path) -> None:
        self.command = tuple(command)
        self.directory = directory
        self.mark = uuid.uuid4().hex
        self.said_path = directory / "said.log"
        self.access_path = directory / "access.log"
        self.config_path = directory / "loomproxy.json"
        self.config: Settings = {}
        self.addresses: dict[str, Address] = {}
        self._told_to_leave = False
        self.expected_to_fail = False  # a test that kills the node says so
        self._notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notes.bind(str(directory / "notify"))
        self._heard: list[str] = []
        self._said = self.said_path.open("ab")
        self._arguments = tuple(arguments)
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *, ready: bool = True, env: dict[str, str] | None = None, stderr: int | None = None
    ) -> None:
        """Start it, and wait until it says READY unless told not to."""
        variables = {
            **os.environ,
            processes.MARK: self.mark,
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "RUNTIME_DIRECTORY": str(self.directory),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self.process = subprocess.Popen(
            (*self.command, *self._arguments),
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said if stderr is None else stderr,
            cwd=ROOT,
            env=variables,
        )
        if ready:
            self.wait_note("READY=1", within_s=START_WITHIN_S)

    @property
    def pid(self) -> int:
        """The node's process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def admin(self) -> Address:
        """Where the node answers operators: where it is when nothing is configured."""
        return str(self.directory / f"admin-{self.pid}.sock")

    @property
    def http(self) -> Address:
        """Where the listener `http` is."""
        return self.addresses["http"]

    def caller(self, name: str = "http", **more: Any) -> Caller:
        """A new client connection."""
        return Caller(self.addresses[name], **more)

    def ask(self, target: str = "/", method: str = "GET", **more: Any) -> Response:
        """One request on a connection of its own, to the listener `http`."""
        return ask(self.http, target, method, **more)

    def ask_admin(self, target: str) -> Response:
        """One request to the admin listener."""
        return ask(self.admin, target)

    def url(self, target: str = "/", name: str = "http") -> str:
        """For clients that take a URL."""
        address = self.addresses[name]
        assert not isinstance(address, str)
        host, port = address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{target}"

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to the node."""
        self._told_to_leave |= which in {signal.SIGTERM, signal.SIGINT}
        os.kill(self.pid, which)

    def workers(self) -> list[int]:
        """The worker processes there are now."""
        found = []
        for child in processes.children(self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if " worker " in processes.command_line(child):
                    found.append(child)
        return found

    def wait_note(self, wanted: str, *, within_s: float = WITHIN_S) -> None:
        """Wait for the next notification to the service manager that holds this line."""
        assert self.process is not None
        handle = os.pidfd_open(self.process.pid)
        try:
            poll = select.poll()
            poll.register(self._notes, select.POLLIN)
            poll.register(handle, select.POLLIN)
            while wanted not in self._heard:
                happened = dict(poll.poll(within_s * 1000))
                if self._notes.fileno() in happened:
                    self._heard += self._notes.recv(4096).decode().splitlines()
                    continue
                why = "it is gone" if happened else f"it did not within {within_s} s"
                raise AssertionError(f"{wanted} was awaited, but {why}; it said:\n{self.said()}")
            del self._heard[: self._heard.index(wanted) + 1]
        finally:
            os.close(handle)

    def write_config(self, config: Settings) -> None:
        """Replace the configuration file; the addresses it had stay."""
        self.config = {
            **{key: self.config[key] for key in ("listeners",) if key in self.config},
            **config,
        }
        self.config.setdefault("access_log", {"path": str(self.access_path), "format": "json"})
        staging = self.config_path.with_suffix(".new")
        staging.write_text(json.dumps(self.config, indent=1))
        staging.replace(self.config_path)

    def reload(self, config: Settings) -> None:
        """Write a configuration and have it published; waits until every worker has it."""
        self.write_config(config)
        self.signal(signal.SIGHUP)
        self.wait_note("RELOADING=1")
        self.wait_note("READY=1")

    def run(self, *arguments: str, within_s: float = WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Run another sub-command of the same subject, beside this instance."""
        return subprocess.run(
            (*self.command, *arguments),
            capture_output=True,
            text=True,
            timeout=within_s,
            cwd=ROOT,
            env={**os.environ, processes.MARK: self.mark, "RUNTIME_DIRECTORY": str(self.directory)},
            check=False,
        )

    def said(self) -> str:
        """All it wrote to stdout and stderr."""
        return self.said_path.read_text(errors="replace")

    def wait_said(self, text: str, *, within_s: float = WITHIN_S) -> None:
        """Wait until it said this."""
        eventually(lambda: text in self.said(), f"{text!r} in what it says", within_s=within_s)

    def lines(self) -> list[dict[str, Any]]:
        """The access log so far, in JSON form."""
        if not self.access_path.exists():
            return []
        return [
            json.loads(line)
            for line in self.access_path.read_text().splitlines(keepends=True)
            if line[-1] == "\n"
        ]

    def line(self, target: str, *, count: int = 1) -> dict[str, Any]:
        """The `count`-th access log line for a target, once it is there."""

        def found() -> list[dict[str, Any]]:
            lines = [line for line in self.lines() if line["target"] == target]
            return lines[count - 1 :]

        return eventually(found, f"line {count} of {target} in the access log")[0]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for sample in self.metrics()
            if sample.name == name
            and all(sample.labels.get(key) == value for key, value in labels.items())
        )

    def metrics(self) -> list[Any]:
        """Every sample of the admin's /metrics."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.ask_admin("/metrics").body.decode()
        return [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def wait_exit(self, *, within_s: float = STOP_WITHIN_S) -> int:
        """Wait for the node to be gone; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"it did not leave within {within_s} s; it said:\n{self.said()}"
            ) from None

    def stop(self) -> None:
        """End it, and fail unless it leaves in order with nothing behind."""
        try:
            self._end()
        finally:
            self._sweep()

    def _end(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None and not self._told_to_leave:  # twice would force it
            self.signal(signal.SIGTERM)
        code = self.wait_exit()
        eventually(lambda: not processes.marked(self.mark), "no process left behind", within_s=5.0)
        said = self.said()
        assert "Traceback" not in said, f"a traceback in its log:\n{said}"
        assert self.expected_to_fail or code == 0, f"it left with {code}; it said:\n{said}"

    def _sweep(self) -> None:
        self._notes.close()
        self._said.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in processes.marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Looms:
    """Starts proxies for a test, and stops them all when it is over."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self._exit = contextlib.ExitStack()

    def close(self) -> None:
        """Stop whatever was started."""
        self._exit.close()

    def prepare(self, config: Settings, *arguments: str) -> Loom:
        """A proxy with a configuration on free ports, not started yet."""
        directory = Path(tempfile.mkdtemp(prefix="loom-"))
        self._exit.callback(shutil.rmtree, directory, ignore_errors=True)
        loom = Loom(
            self.command, arguments or ("serve", str(directory / "loomproxy.json")), directory
        )
        self._exit.callback(loom.stop)
        config = dict(config)
        listeners = [_listener(loom, each) for each in config.pop("listeners", [{"name": "http"}])]
        config["listeners"] = listeners
        loom.write_config(config)
        return loom

    def start(self, config: Settings, **how: Any) -> Loom:
        """A running proxy with this configuration, on the listener `http` unless it has others."""
        loom = self.prepare(config)
        loom.start(**how)
        return loom

    def serve(self, *arguments: str) -> Loom:
        """A running proxy without a file, on these command-line arguments."""
        directory = Path(tempfile.mkdtemp(prefix="loom-"))
        self._exit.callback(shutil.rmtree, directory, ignore_errors=True)
        loom = Loom(self.command, ("serve", *arguments), directory)
        self._exit.callback(loom.stop)
        loom.start()
        return loom


def _listener(loom: Loom, wanted: Settings) -> Settings:
    """A listener on a free port of its address; `unix` as the address makes a socket file."""
    listener = dict(wanted)
    address = listener.get("address", "127.0.0.1")
    if listener.get("address") and ":" in address and address != "::1":
        return listener  # a whole address: the test knows best
    if address == "unix":
        path = str(loom.directory / f"{listener['name']}.sock")
        loom.addresses[listener["name"]] = path
        listener["address"] = f"unix:{path}"
    else:
        port = free_port(address)
        loom.addresses[listener["name"]] = (address, port)
        listener["address"] = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return listener


@contextlib.contextmanager
def looms(subject: str) -> Iterator[Looms]:
    """Starts proxies from `source` or `zipapp`; at the end all are stopped."""
    made = Looms(COMMANDS[subject])
    try:
        yield made
    finally:
        made.close()

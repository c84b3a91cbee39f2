"""The command line, as processes of its own, against a running instance."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import loomproxy
from loomproxy.node.runtime import admin_socket, instances

TREE = Path(loomproxy.__file__).parent.parent
DEADLINE_S = 30.0


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "RUNTIME_DIRECTORY": str(directory), "PYTHONPATH": str(TREE)}


def loom(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loomproxy", *arguments],
        env=environment(directory),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class Instance:
    """A running `loomproxy serve`."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self.directory = directory
        self.said = directory / f"said-{len(list(directory.iterdir()))}"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "loomproxy", "serve", *arguments],
                env=environment(directory),
                cwd=directory,
                stdout=said,
                stderr=said,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_said(self, text: str) -> None:
        deadline_at = time.monotonic() + DEADLINE_S
        while text not in self.said.read_text():  # a log file tells nobody that it grew
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline_at, self.said.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0, self.said.read_text()
        assert "Traceback" not in self.said.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    started: list[Instance] = []

    def begin(*arguments: str) -> Instance:
        instance = Instance(tmp_path, arguments)
        started.append(instance)
        instance.wait_said("loomproxy is ready")
        return instance

    yield begin
    for instance in started:
        instance.stop()


def write(path: Path, **more: object) -> str:
    config = {
        "node": {"workers": 1},
        "listeners": [{"name": "public", "address": "127.0.0.1:0"}],
        "pools": {"app": {"endpoints": ["http://127.0.0.1:9"]}},
        "routes": [{"pool": "app"}],
        **more,
    }
    path.write_text(json.dumps(config))
    return str(path)


def test_version_is_said_in_both_forms(tmp_path: Path) -> None:
    for arguments in (["version"], ["--version"]):
        assert loom(tmp_path, *arguments).stdout == f"loomproxy {loomproxy.__version__}\n"


def test_version_loads_nothing_that_only_a_node_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "loomproxy", "--version"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    for module in ("msgspec", "uvloop", "asyncio", "yaml", "h11"):
        assert not any(line.split("|")[-1].strip() == module for line in done.stderr.splitlines())


def test_help_lists_what_people_call_and_nothing_else(tmp_path: Path) -> None:
    help_text = loom(tmp_path, "--help").stdout
    for command in ("serve", "check", "reload", "drain", "status", "version"):
        assert f"  {command} " in help_text
        assert loom(tmp_path, command, "--help").returncode == 0
    assert "worker " not in help_text.split("Commands:")[1].replace("workers", "")
    assert loom(tmp_path, "frobnicate").returncode == 2


def test_roles_of_the_node_are_not_for_people(tmp_path: Path) -> None:
    for arguments in (["worker"], ["worker", "--channel", "x"], ["demo", "--listen", ":1"]):
        done = loom(tmp_path, *arguments)
        assert done.returncode == 2
        assert "the node starts by itself" in done.stderr


def test_check_says_every_problem_at_once(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json")
    done = loom(tmp_path, "check", good)
    assert (done.returncode, done.stdout) == (0, f"{good}: good (1 listener, 1 route, 1 pool)\n")
    bad = write(tmp_path / "bad.json", routes=[{"pool": "nobody"}], frobs=1)
    done = loom(tmp_path, "check", bad)
    assert done.returncode == 1
    assert "routes[0].pool" in done.stderr
    assert "frobs" in done.stderr
    assert "2 problems" in done.stderr
    done = loom(tmp_path, "check", str(tmp_path / "none.yaml"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_serve_refuses_what_contradicts_itself(tmp_path: Path) -> None:
    for arguments in ((), ("--listen", "127.0.0.1:0"), ("a.yaml", "--listen", "127.0.0.1:0")):
        assert loom(tmp_path, "serve", *arguments).returncode == 2
    twice = ("--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--to", "http://a")
    done = loom(tmp_path, "serve", *twice)
    assert (done.returncode, "For several listeners write a FILE" in done.stderr) == (2, True)
    done = loom(tmp_path, "serve", "--listen", "127.0.0.1:0", "--to", "ftp://a")
    assert done.returncode == 1
    assert done.stderr.startswith("--to")


def test_commands_without_an_instance_say_what_to_do(tmp_path: Path) -> None:
    for command in ("status", "reload", "drain"):
        done = loom(tmp_path, command)
        assert done.returncode == 1
        assert "loomproxy serve" in done.stderr
    done = loom(tmp_path, "status", "--admin", f"unix:{tmp_path}/nobody")
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_instance_is_found_asked_reloaded_and_drained(tmp_path: Path, start) -> None:  # type: ignore[no-untyped-def] # a fixture
    file = tmp_path / "loom.json"
    instance = start(write(file))
    done = loom(tmp_path, "status")
    assert done.returncode == 0
    for text in (f"pid {instance.pid}", "ready", "LISTENER", "WORKER", "http://127.0.0.1:9"):
        assert text in done.stdout
    status = json.loads(loom(tmp_path, "status", "--json").stdout)
    assert status["node"]["revision"] == 1
    write(file, pools={"app": {"endpoints": ["http://127.0.0.1:10"]}})
    done = loom(tmp_path, "reload", "--pid", str(instance.pid))
    assert (done.returncode, done.stdout) == (0, "published as revision 2\n")
    assert "http://127.0.0.1:10" in loom(tmp_path, "status").stdout
    write(file, node={"workers": 2})
    done = loom(tmp_path, "reload")
    assert done.returncode == 1
    assert "node.workers" in done.stderr
    assert "kept revision 2" in done.stderr
    assert loom(tmp_path, "drain").stdout == "draining\n"
    assert instance.process.wait(DEADLINE_S) == 0
    assert instances(environment(tmp_path)) == {}


def test_several_instances_do_not_collide_and_one_must_be_named(tmp_path: Path, start) -> None:  # type: ignore[no-untyped-def] # a fixture
    arguments = ("--listen", "127.0.0.1:0", "--to", "http://127.0.0.1:9", "--workers", "1")
    one, other = start(*arguments), start(*arguments)
    done = loom(tmp_path, "status")
    assert done.returncode == 1
    for instance in (one, other):
        assert f"--pid {instance.pid}" in done.stderr
        path = admin_socket(tmp_path, instance.pid)
        for option in (("--pid", str(instance.pid)), ("--admin", f"unix:{path}")):
            assert f"pid {instance.pid}" in loom(tmp_path, "status", *option).stdout
    assert "no instance with pid 1" in loom(tmp_path, "status", "--pid", "1").stderr


def test_killed_node_takes_its_workers_along(tmp_path: Path, start) -> None:  # type: ignore[no-untyped-def] # a fixture
    instance = start("--listen", "127.0.0.1:0", "--to", "http://127.0.0.1:9", "--workers", "2")
    status = json.loads(loom(tmp_path, "status", "--json").stdout)
    pidfds = [os.pidfd_open(worker["pid"]) for worker in status["workers"]]
    assert len(pidfds) == 2
    instance.process.kill()
    instance.process.wait(DEADLINE_S)
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE_S)[0]
        os.close(pidfd)
    instance.stop = lambda: None

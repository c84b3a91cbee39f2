"""A plugin as a process: what the proxy starts, what a person starts, and how both end."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from loomproxy.plugins.sdk.run import Refused, place
from tests.plugins.sdk.shipped import FOLDER
from tests.plugins.sdk.speak import TOKEN
from tests.support.waiting import eventually

ROOT = FOLDER.parents[1]
ECHO = FOLDER / "echo-python"


def environment(**more: str) -> dict[str, str]:
    """What the proxy gives a plugin, and nothing else."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}


def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the echo plugin until it ends by itself."""
    return subprocess.run(
        [sys.executable, "plugin.py", *arguments],
        cwd=ECHO,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that are ended with the test, whatever became of it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(started: list["subprocess.Popen[str]"], *arguments: str, **more: str) -> Any:
    """Start the echo plugin."""
    process = subprocess.Popen(
        [sys.executable, "plugin.py", *arguments],
        cwd=ECHO,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    return process


def connected(address: str | tuple[str, int]) -> HTTPConnection | None:
    """A connection, once somebody listens."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    door = socket.socket(family)
    try:
        door.connect(address)
    except OSError:
        door.close()
        return None
    connection = HTTPConnection("plugin")
    connection.sock = door
    return connection


def ask(connection: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One call."""
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_supervised_plugin_listens_on_its_socket_alone_and_leaves_nothing(
    tmp_path: Path, started: Any, signal_number: int
) -> None:
    path = tmp_path / "echo.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # A plugin that was killed has left it.
    process = start(started, LOOM_PLUGIN_SOCKET=str(path), LOOM_PLUGIN_TOKEN=TOKEN)
    connection = eventually(lambda: connected(str(path)), "the plugin listens")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(connection, "POST", "/initialize", {}) == (200, {})
    asked = {"model": "echo-1", "messages": [{"role": "user", "content": "one two"}]}
    status, answer = ask(connection, "POST", "/chat/completions", asked)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "one two")
    process.send_signal(signal_number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
    assert not path.exists()
    connection.close()


def test_by_hand_it_says_how_to_ask_it_and_ends_with_ctrl_c(started: Any) -> None:
    process = start(started, "--port", "0")
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[0].startswith("echo listens on http://127.0.0.1:")
    for line in (lines[1], lines[3]):
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.endswith("data: [DONE]\n\n"), done
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_by_hand_without_anything_it_explains_itself() -> None:
    done = run()
    assert done.returncode == 2
    assert "a provider plugin of loomproxy" in done.stdout
    assert "loomproxy plugins test" in done.stdout
    assert done.stderr == ""


def test_it_writes_its_own_manifest() -> None:
    done = run("--manifest")
    assert done.returncode == 0
    made = json.loads(done.stdout)
    assert made["metadata"]["provider_type"] == "echo"
    assert (made["command"], made["args"]) == ("python3", ["plugin.py"])


SOCKET = {"LOOM_PLUGIN_SOCKET": "/run/p.sock", "LOOM_PLUGIN_TOKEN": "t"}


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, ""),
        (SOCKET, "unix:/run/p.sock"),
        ({"LOOM_PLUGIN_PORT": "80", "LOOM_PLUGIN_TOKEN": "t"}, "127.0.0.1:80"),
        (
            {
                "LOOM_PLUGIN_HOST": "localhost",
                "LOOM_PLUGIN_PORT": "80",
                "LOOM_PLUGIN_TOKEN": "t",
            },
            "127.0.0.1:80",
        ),
        (
            {"LOOM_PLUGIN_HOST": "::1", "LOOM_PLUGIN_PORT": "80", "LOOM_PLUGIN_TOKEN": "t"},
            "[::1]:80",
        ),
    ],
)
def test_where_the_proxy_says_to_listen(environ: dict[str, str], address: str) -> None:
    assert place(environ) == address


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"LOOM_PLUGIN_TOKEN": ""}, "LOOM_PLUGIN_TOKEN"),
        ({"LOOM_PLUGIN_SOCKET": "", "LOOM_PLUGIN_PORT": "http"}, "LOOM_PLUGIN_PORT=http"),
        ({"LOOM_PLUGIN_SOCKET": "", "LOOM_PLUGIN_PORT": "65536"}, "LOOM_PLUGIN_PORT=65536"),
        (
            {"LOOM_PLUGIN_SOCKET": "", "LOOM_PLUGIN_PORT": "80", "LOOM_PLUGIN_HOST": "0.0.0.0"},
            "LOOM_PLUGIN_HOST=0.0.0.0",
        ),
    ],
)
def test_where_a_plugin_does_not_listen(more: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        place({**SOCKET, **more})


@pytest.mark.parametrize(
    ("path", "words"),
    [("/nowhere/at/all/p.sock", "cannot listen"), ("/tmp/" + "x" * 108, "more than 107 bytes")],
)
def test_a_place_that_cannot_be_is_told_in_a_line(path: str, words: str) -> None:
    done = run(LOOM_PLUGIN_SOCKET=path, LOOM_PLUGIN_TOKEN="t")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1

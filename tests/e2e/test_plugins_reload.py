"""Plugins as people see them who edit their files, and as those who kill things: a whole proxy."""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.garden import Garden
from tests.support import processes
from tests.support.caller import Response
from tests.support.loom import Loom, Looms, looms, pool, settings, to
from tests.support.waiting import eventually


class Place:
    """A proxy and its directory of plugins."""

    def __init__(self, made: Looms, root: Path) -> None:
        self.garden = Garden(root)
        self.garden.plant("acme", required=True)
        self.garden.plant("dying")
        self.garden.knob("dying", "die").touch()
        self.loom: Loom = made.start(
            settings(
                plugins={"directory": str(self.garden.directory)},
                pools={"app": pool("http://127.0.0.1:9")},
                routes=[to("app")],
                listeners=[{"name": "http", "chat": True}],
            )
        )

    def health(self) -> dict[str, Any]:
        """What /health says of each plugin."""
        told = self.loom.ask_admin("/health").json()["dependencies"]
        return {name[7:]: one for name, one in told.items() if name.startswith("plugin:")}

    def chat(self, provider: str) -> Response:
        """One chat completion."""
        asked = {"model": f"{provider}/one", "messages": [{"role": "user", "content": "hello"}]}
        fields = {"Content-Type": "application/json"}.items()
        body = json.dumps(asked).encode()
        return self.loom.ask("/v1/chat/completions", "POST", fields=fields, body=body)

    def until(self, name: str, status: str) -> None:
        eventually(
            lambda: self.health().get(name, {}).get("status") == status, f"{name} is {status}"
        )

    def is_ready(self) -> bool:
        return self.loom.ask_admin("/health/ready").status == 200

    def pids(self, name: str) -> list[int]:
        """The processes of a plugin: children of the node that run in its folder."""
        folder = str(self.garden.directory / name)
        return [pid for pid in processes.children(self.loom.pid) if _cwd(pid) == folder]


def _cwd(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


@pytest.fixture(scope="module")
def place(subject: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with looms(subject) as made:
        yield Place(made, tmp_path_factory.mktemp("place"))


def test_saved_file_is_followed_and_a_broken_one_is_not(place: Place) -> None:
    place.until("acme", "healthy")
    (before,) = place.pids("acme")
    place.garden.code("acme", {"version": "2.0.0", "model": "two"})
    place.loom.wait_said('event="plugin reloaded" plugin=acme generation=2')
    eventually(lambda: before not in place.pids("acme"), "the old generation gone")
    (after,) = place.pids("acme")
    place.garden.code("acme", {"version": "3.0.0", "model": "two", "type": "other"})
    place.loom.wait_said("provider_type is 'other'; expected 'acme'")
    place.loom.wait_said('event="plugin stopped" plugin=acme generation=3')
    assert place.pids("acme") == [after]
    assert place.is_ready()
    # With the files put back nothing needs to be done.
    place.garden.code("acme", {"version": "2.0.0", "model": "two"})


def test_no_request_fails_while_generations_change(place: Place) -> None:
    place.garden.plant("busy")
    place.until("busy", "healthy")
    answers: list[Response] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(place.chat("busy"))

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        for number in range(2, 6):
            place.garden.code("busy", {"version": f"{number}.0.0", "model": "one"})
            place.loom.wait_said(f'event="plugin reloaded" plugin=busy generation={number}')
        over.set()
        for each in asking:
            each.result()
    assert {answer.status for answer in answers} == {200}
    said = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    assert said >= {"1.0.0", "2.0.0", "3.0.0", "4.0.0"}
    assert place.chat("busy").json()["choices"][0]["message"]["content"] == "5.0.0"


def test_killed_process_is_started_again_and_readiness_tells(place: Place) -> None:
    place.until("acme", "healthy")
    (pid,) = place.pids("acme")
    processes.kill(pid)
    eventually(lambda: not place.is_ready(), "not ready without a required plugin")
    answer = place.chat("acme")
    assert (answer.status, b"is restarting after a crash." in answer.body) in [
        (503, True),
        (200, False),
    ]
    eventually(place.is_ready, "ready again")
    assert place.pids("acme") != [pid]


def test_folders_come_and_go(place: Place) -> None:
    place.garden.plant("new")
    place.until("new", "healthy")
    (pid,) = place.pids("new")
    shutil.rmtree(place.garden.directory / "new")
    eventually(lambda: "new" not in place.health(), "gone")
    processes.wait_gone(pid, "a plugin whose folder is gone", within_s=5.0)


def test_plugin_that_dies_five_times_is_left_alone(place: Place) -> None:
    reason = "The plugin dying failed, and waits for its operator."
    eventually(lambda: place.health()["dying"]["message"] == reason, reason, within_s=60.0)
    told = [line for line in place.loom.said().splitlines() if 'event="plugin left"' in line]
    dying = [line for line in told if "plugin=dying" in line]
    assert len(dying) == 5
    assert all("I do not like it here" in line for line in dying)


def test_nothing_of_plugins_outlives_a_killed_node(proxies: Looms, tmp_path: Path) -> None:
    place = Place(proxies, tmp_path)
    stray = place.garden.knob("strays", "stray")
    place.garden.plant(
        "strays",
        command="/bin/sh",
        args=["-c", f"setsid sleep 600 & echo $! >{stray}; exec {sys.executable} -S plugin.py"],
    )
    place.until("acme", "healthy")
    place.until("strays", "healthy")
    pids = [*place.pids("acme"), *place.pids("strays"), int(stray.read_text())]
    assert len(pids) == 3
    assert os.getsid(pids[2]) == pids[2]
    place.loom.expected_to_fail = True
    place.loom.signal(signal.SIGKILL)
    for pid in pids:
        processes.wait_gone(pid, "a plugin", within_s=5.0)

"""Plugins as operators meet them: on the command line, over the private socket, and over TCP."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.caller import ask
from tests.support.loom import Loom, Looms, looms, settings
from tests.support.places import free_port
from tests.support.waiting import eventually

ACME = Path(__file__).parents[1] / "support" / "acme.py"
KEY = "sk-geheim-0123456789"
TOKEN = "0123456789abcdef0123456789abcdef"
ROOT = "/api/v1/plugins"


def install(folder: Path, **keys: Any) -> None:
    """The plugin `acme` in a folder of its own; changed in one step, as by a careful editor."""
    folder.mkdir(exist_ok=True)
    metadata = {
        "name": "Acme",
        "version": "1.0.0",
        "plugin_api_version": "1.0.0",
        "provider_type": "acme",
        "config_schema": [
            {"name": "api_key", "type": "string", "required": True, "sensitive": True},
            {"name": "tries", "type": "int", "default": 3},
        ],
    }
    manifest = {
        "metadata": metadata,
        "command": sys.executable,
        "args": ["-I", "-S", str(ACME)],
        "drain_timeout": "1s",
        "stop_timeout": "1s",
        **keys,
    }
    staging = folder / "new"
    staging.write_text(json.dumps(manifest))
    staging.replace(folder / "plugin.json")


class Place:
    """A proxy with the plugin `acme`, and the ways to ask it."""

    def __init__(self, made: Looms, folder: Path) -> None:
        self.folder = folder / "acme"
        self.port = free_port()
        install(self.folder)
        self.loom: Loom = made.start(
            settings(
                admin={"address": f"127.0.0.1:{self.port}", "token": "${ADMIN_TOKEN}"},
                plugins={
                    "directory": str(folder),
                    "watch": False,
                    "config": {"acme": {"api_key": "${ACME_KEY}"}},
                },
                listeners=[{"name": "http", "chat": True}],
            ),
            env={"ADMIN_TOKEN": TOKEN, "ACME_KEY": KEY},
        )
        self.until(lambda one: one["state"] == "ready")

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Over the private socket, which is found."""
        return self.loom.run("plugins", *arguments)

    def done(self, *arguments: str) -> str:
        """What a command says that is done."""
        said = self.cli(*arguments)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def api(self, path: str, method: str = "GET") -> Any:
        """Over the private socket, which asks for nothing."""
        return ask(self.loom.admin, f"{ROOT}{path}", method).json()

    def status(self) -> Any:
        return self.api("/acme")

    def until(self, holds: Callable[[Any], bool]) -> Any:
        def held() -> Any:
            one = self.status()
            return one if holds(one) else None

        return eventually(held, "acme to be so")


@pytest.fixture(scope="module")
def place(subject: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One proxy for all plays of this file: each leaves the plugin as it found it, ready."""
    with looms(subject) as made:
        yield Place(made, tmp_path_factory.mktemp("plugins"))


def pid(status: Any) -> int:
    return int(status["generations"][0]["replicas"][0]["pid"])


def test_list_and_show_tell_how_it_is_and_keep_its_key(place: Place) -> None:
    one = place.status()
    line = place.done("list").splitlines()[1]
    for word in ("acme", "ready", str(pid(one)), "small, large"):
        assert word in line
    shown = place.done("show", "acme")
    for word in (
        "acme (Acme) 1.0.0",
        "small, large",
        'api_key: "***"',
        "tries: 3",
        "| initialized",
    ):
        assert word in shown
    everything = shown + json.dumps(place.api("")) + place.loom.said()
    everything += ask(place.loom.admin, "/api/v1/status").body.decode()
    assert KEY not in everything
    assert one["generations"][0]["replicas"][0]["rss_bytes"] > 1 << 20
    assert "acme" in place.loom.run("status").stdout


def test_figures_are_those_of_its_exchanges(place: Place) -> None:
    before = place.status()["requests"]
    question = {"model": "acme/small", "messages": [{"role": "user", "content": "hi"}]}
    fields = [("Content-Type", "application/json")]
    for _ in range(3):
        body = json.dumps(question).encode()
        answer = place.loom.ask("/v1/chat/completions", "POST", fields=fields, body=body)
        assert answer.status == 200, answer.body
    after = place.until(lambda one: one["requests"] == before + 3)
    assert 0 < after["latency_p50_ms"] <= after["latency_p99_ms"] < 10_000
    assert after["in_flight"] == 0


def test_logs_show_what_it_said_and_obey_nothing_of_it(place: Place) -> None:
    number = place.status()["generations"][0]["number"]
    said = place.done("logs", "acme")
    assert f"{number}.0 stdout | initialized, 3 tries\n" in said
    assert f"{number}.0 stdout | \\x1b[1mup\\x1b[0m\n" in said


def test_logs_follow(place: Place) -> None:
    last = place.api("/acme/logs")["last"]
    following = subprocess.Popen(
        (*place.loom.command, "plugins", "logs", "acme", "-f", "-n", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"RUNTIME_DIRECTORY": str(place.loom.directory), "PYTHONUNBUFFERED": "1"},
        cwd=ACME.parents[2],
        text=True,
    )
    try:
        assert following.stdout is not None
        assert following.stdout.readline(), "the last line there is: it follows from now on"
        assert place.api("/acme/reload", "POST")["ok"]
        while "initialized" not in following.stdout.readline():
            assert following.poll() is None
        assert place.api(f"/acme/logs?since={last}&wait_s=5")["last"] > last
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=10.0) == ("", "")
        assert following.returncode == 0
    finally:
        following.kill()


def test_reload_replaces_the_process_and_a_broken_one_does_not(place: Place) -> None:
    before = place.status()
    assert place.done("reload", "acme") == "acme reloaded: it is ready\n"
    after = place.status()
    assert pid(after) != pid(before)
    assert after["generations"][0]["number"] > before["generations"][0]["number"]
    assert after["reloads"] == before["reloads"] + 1
    install(place.folder, args=["-c", "raise SystemExit(3)"])
    refused = place.cli("reload", "acme")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "acme not reloaded: it is ready" in refused.stderr
    assert pid(place.status()) == pid(after)
    assert ask(place.loom.admin, f"{ROOT}/acme/reload", "POST").status == 422
    install(place.folder)
    assert place.api("/acme/reload", "POST")["ok"]


def test_stop_and_start_and_restart(place: Place) -> None:
    before = pid(place.status())
    assert place.done("stop", "acme").startswith("acme stopped: it is ")
    place.until(lambda one: one["state"] == "stopped")
    eventually(lambda: not processes.alive(before), "its process to be gone")
    refused = ask(place.loom.admin, f"{ROOT}/acme/reload", "POST")
    assert refused.status == 409
    assert "start it" in refused.body.decode().lower()
    assert place.done("start", "acme") == "acme started: it is ready\n"
    between = pid(place.status())
    assert place.done("restart", "acme") == "acme restarted: it is ready\n"
    assert pid(place.status()) != between


def test_disable_outlives_commands_until_enable(place: Place) -> None:
    assert place.done("disable", "acme").startswith("acme disabled: it is ")
    place.until(lambda one: one["state"] == "disabled")
    assert (place.folder / "disabled").exists()
    refused = place.cli("start", "acme")
    assert refused.returncode == 1
    assert "enable it" in refused.stderr.lower()
    assert ask(place.loom.admin, f"{ROOT}/acme/start", "POST").status == 409
    place.done("enable", "acme")
    place.until(lambda one: one["state"] == "ready")
    assert not (place.folder / "disabled").exists()


def test_curl_over_the_private_socket_is_enough(place: Place) -> None:
    curl = shutil.which("curl")
    assert curl is not None, "the tests need curl"

    def said(*arguments: str) -> Any:
        at = ("--unix-socket", str(place.loom.admin), "-s", "-m", "10")
        run = subprocess.run((curl, *at, *arguments), capture_output=True, check=True, timeout=20)
        return json.loads(run.stdout)

    at = f"http://localhost{ROOT}"
    assert [one["provider_type"] for one in said(at)["plugins"]] == ["acme"]
    for action, state in (("restart", "ready"), ("disable", "disabled"), ("enable", "ready")):
        report = said("-X", "POST", f"{at}/acme/{action}")
        assert report["ok"], report
        place.until(lambda one, state=state: one["state"] == state)
    problems = said("-d", '{"command": "/bin/true"}', f"{at}/acme/start")["problems"]
    assert "never accepted over the API" in problems[0]
    assert "expected one of: acme" in said(f"{at}/nobody")["problems"][0]


def test_crash_is_counted_and_said(place: Place) -> None:
    before = place.status()
    processes.kill(pid(before))
    after = place.until(
        lambda one: one["restarts"] > before["restarts"] and one["state"] == "ready"
    )
    replica = after["generations"][0]["replicas"][0]
    assert "SIGKILL" in replica["last_exit"]
    assert place.loom.metric("loomproxy_plugin_restarts_total", plugin="acme") == after["restarts"]
    assert place.loom.metric("loomproxy_plugin_ready", plugin="acme") == 1
    assert place.loom.metric("loomproxy_plugin_state", plugin="acme", state="ready") == 1
    assert place.loom.metric("loomproxy_plugin_rss_bytes", plugin="acme") > 1 << 20


def test_over_tcp_the_token_lets_in(place: Place) -> None:
    at = ("127.0.0.1", place.port)
    assert ask(at, "/health").status == 200
    assert ask(at, "/metrics").status == 200
    for target in (ROOT, "/api/v1/status"):
        refused = ask(at, target)
        assert refused.status == 401
        assert refused.head.field("www-authenticate") == 'Bearer realm="loomproxy"'
    fields = [("Authorization", f"Bearer {TOKEN}")]
    assert ask(at, ROOT, fields=fields).status == 200
    fields.append(("Origin", "http://evil.example"))
    assert ask(at, f"{ROOT}/acme/reload", "POST", fields=fields).status == 403
    where = ("--admin", f"127.0.0.1:{place.port}")
    assert "401" in place.cli("list", *where).stderr
    file = place.loom.directory / "token"
    file.write_text(TOKEN)
    assert "acme" in place.done("list", *where, "--token-file", str(file))


def test_over_tcp_without_a_token_there_are_no_plugins(proxies: Looms) -> None:
    port = free_port()
    loom = proxies.start(
        settings(
            admin={"address": f"127.0.0.1:{port}"},
            pools={"app": {"endpoints": ["http://127.0.0.1:9"]}},
            routes=[{"pool": "app"}],
        )
    )
    at = ("127.0.0.1", port)
    assert ask(at, "/api/v1/status").status == 200
    assert ask(at, ROOT).status == 403
    assert ask(at, f"{ROOT}/acme/start", "POST").status == 403
    assert ask(loom.admin, ROOT).json() == {"plugins": []}
    said = loom.run("plugins", "list", "--admin", f"127.0.0.1:{port}")
    assert said.returncode == 1
    assert "Set admin.token" in said.stderr
    assert loom.run("plugins", "list").stdout == "no plugins\n"

"""What `loomproxy plugins` prints, and with which status it leaves."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from loomproxy.cli.app import cli
from loomproxy.cli.client import plain
from loomproxy.cli.plugins import details, overview
from loomproxy.core.tally import Tally
from loomproxy.node.plugin_figures import described, plugins
from loomproxy.plugins.status import GenerationStatus, LogLine, PluginStatus, Report, State
from tests.cli.house import Served, served
from tests.node.fakes import plugin, replica
from tests.node.house import TOKEN


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as it:
        yield it


@pytest.fixture(autouse=True)
def _plugins(house: Served) -> None:
    """Each test has the same plugins, and nothing was done to them yet."""
    operator = house.operator
    bad = plugin(
        "bad", state=State.FAILED, generations=(), models=(), last_error="it left\n5 times"
    )
    operator.statuses = {one.provider_type: one for one in (plugin(), bad)}
    operator.said = {"acme": [], "bad": []}
    operator.answers.clear()
    operator.done.clear()
    operator.awaited.clear()


def loom(house: Served, *arguments: str, env: dict[str, str] | None = None) -> Result:
    """Over the private socket, unless told otherwise."""
    where = () if "--admin" in arguments else ("--admin", house.unix)
    return CliRunner().invoke(cli, ["plugins", *arguments, *where], env=env)


# ---- Words alone. ------------------------------------------------------------------------------


def entries(*statuses: PluginStatus, **figures: object) -> list[Any]:
    return [{**described(one), **figures} for one in plugins(statuses, Tally(), ())]


def test_overview_is_a_table() -> None:
    ready, failed = overview(
        entries(
            plugin(restarts=2),
            plugin("bad", state=State.FAILED, generations=(), last_error="it left\n5 times"),
            latency_p50_ms=12.345,
            latency_p99_ms=None,
        )
    ).splitlines()[1:]
    assert ready.split()[:8] == ["acme", "ready", "3", "4000", "2", "0", "24.0", "1.2"]
    assert ready.endswith(" 12.3       -  small, large")
    assert failed.split()[:8] == ["bad", "failed", "-", "-", "0", "0", "-", "-"]
    assert failed.endswith("  it left …")
    assert ready.index("small") == failed.index("it left")


def test_overview_sums_replicas_and_cuts_what_is_long() -> None:
    many = (
        GenerationStatus(2, "2.0.0", State.READY, tuple(replica(number) for number in range(3))),
        GenerationStatus(1, "1.0.0", State.DRAINING, (replica(9, rss_bytes=1 << 20),)),
    )
    line = overview(entries(plugin(generations=many, last_error="x" * 500))).splitlines()[1]
    assert "4000, 4001, 4002, …" in line
    assert " 73.0 " in line
    assert line.endswith("x…")
    assert len(line) < 200


def test_details_are_all_there_is() -> None:
    two = (
        GenerationStatus(2, "2.0.0", State.READY, (replica(message="all well"),)),
        GenerationStatus(1, "1.0.0", State.DRAINING, (replica(pid=7, last_exit="SIGSEGV"),)),
    )
    (entry,) = entries(
        plugin(
            generations=two,
            required=True,
            reloads=1,
            reloads_failed=4,
            last_error="no command\nno sense",
            reason="it is being repaired",
        )
    )
    text = details(entry, [msgspec.to_builtins(LogLine(1, 2, 0, "stderr", "hello"))])
    for words in (
        "acme (Acme models) 1.2.0",
        "ready, required",
        "/plugins/acme/plugin.yaml",
        "small, large",
        "0, 0 in flight\n",
        "1, 4 failed",
        "last error        no command\n                  no sense\n",
        "clients are told  it is being repaired",
        "unix:/run/acme.0.sock",
        "all well",
        "SIGSEGV",
        '  api_key: "***"',
        "  2.0 stderr | hello",
    ):
        assert words in text


def test_details_tell_how_long_requests_took() -> None:
    (entry,) = entries(plugin(), requests=7, latency_p50_ms=12.34, latency_p99_ms=250.0)
    assert "7, 0 in flight; p50 12.3 ms, p99 250.0 ms" in details(entry, [])


def test_details_of_what_never_ran_are_few() -> None:
    (entry,) = entries(plugin(generations=(), config={}, models=()))
    text = details(entry, [])
    for words in ("GEN", "CONFIG", "LAST LINES", "last error", "models  "):
        assert words not in text


def test_terminal_is_told_nothing_but_text() -> None:
    assert plain("ä → é\tz") == "ä → é\tz"
    assert plain("\x1b]0;title\x07\x1b[2Jred\r\n\u202e\ud800") == (
        "\\x1b]0;title\\x07\\x1b[2Jred\\r\\n\\u202e\\ud800"
    )


# ---- Asking. -----------------------------------------------------------------------------------


def test_list_shows_and_tells_programs(house: Served) -> None:
    done = loom(house, "list")
    assert done.exit_code == 0
    assert done.output.startswith("TYPE  STATE ")
    assert len(done.output.splitlines()) == 3
    found = json.loads(loom(house, "list", "--json").output)
    assert [one["provider_type"] for one in found] == ["acme", "bad"]


def test_list_of_none(house: Served) -> None:
    house.operator.statuses.clear()
    assert loom(house, "list").output == "no plugins\n"
    assert json.loads(loom(house, "list", "--json").output) == []


def test_show_has_the_last_lines(house: Served) -> None:
    for number in range(30):
        house.play(lambda number=number: house.operator.say("acme", f"line {number}"))
    done = loom(house, "show", "acme")
    assert done.exit_code == 0
    assert "3.0 stdout | line 29" in done.output
    assert "line 19" not in done.output
    assert json.loads(loom(house, "show", "acme", "--json").output)["provider_type"] == "acme"


def test_logs_are_the_last_lines(house: Served) -> None:
    for text in ("one", "two", "three\x1b[2J"):
        house.play(lambda text=text: house.operator.say("acme", text, "stderr"))
    done = loom(house, "logs", "acme", "-n", "2")
    assert done.output == "3.0 stderr | two\n3.0 stderr | three\\x1b[2J\n"
    assert loom(house, "logs", "acme", "-n", "0").output == ""
    assert loom(house, "logs", "acme", "-n", "1001").exit_code == 2


def test_logs_follow_until_the_instance_is_gone(house: Served, tmp_path: Path) -> None:
    with served(tmp_path) as other:
        other.operator.statuses = {"acme": plugin()}
        other.operator.said = {"acme": []}
        other.play(lambda: other.operator.say("acme", "before"))
        told: list[Result] = []
        following = threading.Thread(
            target=lambda: told.append(loom(other, "logs", "acme", "-f", "-n", "0"))
        )
        following.start()
        wait(other)
        other.play(lambda: other.operator.say("acme", "after"))
        wait(other)
        other.play(other.operator.statuses.clear)
        other.play(lambda: other.operator.say("acme", "the last"))
        following.join(30.0)
    (done,) = told
    assert done.exit_code == 1
    shown, _, problem = done.output.partition("there is no plugin")
    assert shown == "3.0 stdout | after\n3.0 stdout | the last\n"
    assert problem


def wait(house: Served) -> None:
    """Until a question waits for a line."""

    async def waited() -> None:
        await house.operator.awaited.wait()
        house.operator.awaited.clear()

    asyncio.run_coroutine_threadsafe(waited(), house.loop).result(30.0)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("start", "acme started: it is ready\n"),
        ("stop", "acme stopped: it is stopped\n"),
        ("restart", "acme restarted: it is ready\n"),
        ("reload", "acme reloaded: it is ready\n"),
        ("enable", "acme enabled: it is ready\n"),
        ("disable", "acme disabled: it is disabled\n"),
    ],
)
def test_command_says_in_one_line_what_became_of_it(house: Served, command: str, line: str) -> None:
    done = loom(house, command, "acme")
    assert (done.exit_code, done.output) == (0, line)
    assert house.operator.done == [(command, "acme")]


def test_command_that_fails_says_every_problem(house: Served) -> None:
    problems = ("plugin.yaml: it is bad.", "command: \x1b[1mit is absent.")
    house.operator.answers["reload"] = Report(ok=False, state=State.READY, problems=problems)
    done = loom(house, "reload", "acme")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "plugin.yaml: it is bad.\ncommand: \\x1b[1mit is absent.\nacme not reloaded: it is ready\n"
    )


@pytest.mark.parametrize("command", ["show", "logs", "start", "stop"])
def test_unknown_plugin_is_told_the_known_ones(house: Served, command: str) -> None:
    done = loom(house, command, "a?b c")
    assert done.exit_code == 1
    assert done.stderr == "there is no plugin 'a?b c'; expected one of: acme, bad.\n"
    for path in ("plugins/acme", "..", ""):
        assert "names no plugin" in loom(house, command, path).stderr


def test_commands_for_authors_are_among_the_others() -> None:
    listed = CliRunner().invoke(cli, ["plugins", "--help"]).output.partition("Commands:")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ")]
    asking = ["list", "show", "logs", "start", "stop", "restart", "reload", "enable", "disable"]
    assert [name for name in names if name in {*asking, "test", "new"}] == [*asking, "test", "new"]
    for name in ("test", "new"):
        assert CliRunner().invoke(cli, ["plugins", name, "--help"]).exit_code == 0


# ---- Being let in. -----------------------------------------------------------------------------


def test_over_tcp_the_token_is_shown(house: Served, tmp_path: Path) -> None:
    at = ("--admin", house.tcp)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for arguments, env in (
        (("list", *at), {"LOOMPROXY_ADMIN_TOKEN": TOKEN}),
        (("list", *at, "--token-file", str(file)), {}),
        (("stop", "acme", *at, "--token-file", str(file)), {"LOOMPROXY_ADMIN_TOKEN": "wrong"}),
    ):
        done = loom(house, *arguments, env=env)
        assert done.exit_code == 0, done.output
    status = CliRunner().invoke(cli, ["drain", *at, "--token-file", str(file)])
    assert status.output == "draining\n"


def test_without_the_token_is_said_what_to_do(house: Served) -> None:
    for env in ({}, {"LOOMPROXY_ADMIN_TOKEN": "not-the-token"}):
        done = loom(house, "list", "--admin", house.tcp, env=env)
        assert done.exit_code == 1
        assert "401" in done.stderr
        assert "--token-file" in done.stderr
        assert "not-the-token" not in done.stderr


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"two words", b"two\nlines", "t\u00f6ken".encode(), b"\xff"]
)
def test_file_that_holds_no_token_is_not_shown(house: Served, tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(text)
    done = loom(house, "list", "--token-file", str(file))
    assert done.exit_code == 1
    assert f"--token-file {file}: " in done.stderr
    assert "words" not in done.stderr
    done = loom(house, "list", "--token-file", str(tmp_path / "none"))
    assert "cannot be read" in done.stderr

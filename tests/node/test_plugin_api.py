"""The pages of plugins: what they tell, what they do, and what they refuse."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from loomproxy.node import plugin_api as module
from loomproxy.node.plugin_api import LINES_MAX, WAIT_S_MAX, WAITING_MAX
from loomproxy.plugins.status import Report, State
from tests.node.fakes import Plugins, plugin
from tests.node.house import House, value

ROOT = "/api/v1/plugins"


def run(play: Callable[[House, Plugins], Awaitable[None]], *plugins: Any) -> None:
    async def whole() -> None:
        operator = Plugins(*(plugins or (plugin(),)))
        await play(House(operator), operator)

    asyncio.run(whole())


def problem(reply: Any) -> str:
    (text,) = value(reply)["problems"]
    return str(text)


def test_list_and_one_tell_the_same() -> None:
    async def play(house: House, _: Plugins) -> None:
        listed: Any = value(await house.ask(ROOT))
        assert [one["provider_type"] for one in listed["plugins"]] == ["acme", "other"]
        one: Any = value(await house.ask(f"{ROOT}/acme"))
        assert one == listed["plugins"][0]
        assert one["state"] == "ready"
        assert one["config"] == {"api_key": "***", "tries": 3}
        assert one["generations"][0]["replicas"][0]["pid"] == 4000
        assert (one["requests"], one["in_flight"]) == (0, 0)
        assert (one["latency_p50_ms"], one["latency_p99_ms"]) == (None, None)

    run(play, plugin("acme"), plugin("other", state=State.FAILED))


def test_head_is_as_get() -> None:
    async def play(house: House, _: Plugins) -> None:
        for target in (ROOT, f"{ROOT}/acme", f"{ROOT}/acme/logs"):
            assert (await house.ask(target, "HEAD")).status == 200

    run(play)


def test_unknown_plugin_is_told_the_known_ones() -> None:
    async def play(house: House, operator: Plugins) -> None:
        for target, method in (("acne", "GET"), ("acne/logs", "GET"), ("acne/stop", "POST")):
            reply = await house.ask(f"{ROOT}/{target}", method)
            assert reply.status == 404
            assert problem(reply) == "there is no plugin 'acne'; expected one of: acme, other."
        assert problem(await house.ask(f"{ROOT}/%1b%5bm")).startswith(
            "there is no plugin '\\x1b[m'"
        )
        assert operator.done == []

    run(play, plugin("other"), plugin("acme"))


def test_so_many_plugins_are_not_all_named() -> None:
    async def play(house: House, _: Plugins) -> None:
        text = problem(await house.ask(f"{ROOT}/nobody"))
        assert text.endswith("p019, ….")

    run(play, *(plugin(f"p{number:03}") for number in range(300)))


def test_where_there_are_none_that_is_said() -> None:
    async def play() -> None:
        for house in (House(Plugins()), House(None)):
            assert value(await house.ask(ROOT)) == {"plugins": []}
            for target, method in (("acme", "GET"), ("acme/logs", "GET"), ("acme/stop", "POST")):
                reply = await house.ask(f"{ROOT}/{target}", method)
                assert reply.status == 404
                assert "there are no plugins" in problem(reply)

    asyncio.run(play())


def test_of_several_with_one_provider_type_the_one_that_runs_is_shown() -> None:
    async def play(house: House, operator: Plugins) -> None:
        copied = plugin(state=State.INVALID, generations=(), manifest="/copy/plugin.yaml")
        operator.status = lambda: (copied, plugin())  # type: ignore[method-assign] # two of them
        listed: Any = value(await house.ask(ROOT))
        assert [one["state"] for one in listed["plugins"]] == ["invalid", "ready"]
        one: Any = value(await house.ask(f"{ROOT}/acme"))
        assert one["state"] == "ready"

    run(play)


@pytest.mark.parametrize(
    ("target", "method", "allow"),
    [
        ("", "POST", b"GET, HEAD"),
        ("", "DELETE", b"GET, HEAD"),
        ("/acme", "PUT", b"GET, HEAD"),
        ("/acme", "DELETE", b"GET, HEAD"),
        ("/acme/logs", "POST", b"GET, HEAD"),
        ("/acme/start", "GET", b"POST"),
        ("/acme/stop", "DELETE", b"POST"),
    ],
)
def test_other_methods_say_which_one_is_meant(target: str, method: str, allow: bytes) -> None:
    async def play(house: House, operator: Plugins) -> None:
        reply = await house.ask(f"{ROOT}{target}", method)
        assert reply.status == 405
        assert reply.extra == b"Allow: %b\r\n" % allow
        assert allow.decode() in problem(reply)
        assert operator.done == []

    run(play)


@pytest.mark.parametrize(
    "path", ["/acme/explode", "/acme/start/now", "/acme/", "/acme/logs/", "//acme"]
)
def test_other_pages_are_not_there(path: str) -> None:
    async def play(house: House, operator: Plugins) -> None:
        assert (await house.ask(f"{ROOT}{path}", "POST")).status == 404
        assert operator.done == []

    run(play)


@pytest.mark.parametrize(
    "body", ['{"command": "/bin/sh"}', "command=/bin/sh", "{}", "null", "\n", "x" * 5000]
)
def test_command_line_is_never_taken(body: str) -> None:
    async def play(house: House, operator: Plugins) -> None:
        for action in ("start", "reload", "restart"):
            reply = await house.ask(f"{ROOT}/acme/{action}", "POST", "", body)
            assert reply.status == 400
            assert "a command line is never accepted over the API" in problem(reply)
        reply = await house.ask(ROOT, "POST", "", body)
        assert reply.status == 405, "there is no submission either"
        reply = await house.ask(f"{ROOT}/acme/start?command=/bin/sh", "POST")
        assert reply.status == 400
        assert operator.done == []

    run(play)


@pytest.mark.parametrize("action", ["start", "stop", "restart", "reload", "enable", "disable"])
def test_command_is_done_and_reported(action: str) -> None:
    async def play(house: House, operator: Plugins) -> None:
        reply = await house.ask(f"{ROOT}/acme/{action}", "POST")
        assert reply.status == 200
        report: Any = value(reply)
        assert report == {
            "ok": True,
            "state": operator.statuses["acme"].state.value,
            "problems": [],
        }
        assert operator.done == [(action, "acme")]

    run(play)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.DISABLED, 409),
        (State.STOPPED, 409),
        (State.DRAINING, 409),
        (State.READY, 422),
        (State.FAILED, 422),
        (State.INVALID, 422),
        (State.BACKOFF, 422),
    ],
)
def test_command_that_failed_says_why(state: State, status: int) -> None:
    async def play(house: House, operator: Plugins) -> None:
        operator.answers["reload"] = Report(ok=False, state=state, problems=("one", "another"))
        reply = await house.ask(f"{ROOT}/acme/reload", "POST")
        assert reply.status == status
        expected = {"ok": False, "state": state.value, "problems": ["one", "another"]}
        assert value(reply) == expected

    run(play)


@pytest.mark.parametrize("action", ["start", "restart", "reload"])
@pytest.mark.parametrize(
    ("state", "do"), [(State.DISABLED, "Enable it first."), (State.STOPPED, "Start it first.")]
)
def test_what_should_run_and_does_not_is_a_problem(action: str, state: State, do: str) -> None:
    async def play(house: House, operator: Plugins) -> None:
        operator.answers[action] = Report(ok=True, state=state)
        reply = await house.ask(f"{ROOT}/acme/{action}", "POST")
        assert reply.status == 409
        assert problem(reply).endswith(do)

    run(play)


def test_manifest_that_cannot_be_read_is_the_problem_of_every_command() -> None:
    async def play(house: House, operator: Plugins) -> None:
        unknown = Report(ok=False, state=State.STOPPED, problems=("there is no plugin",))
        operator.answers["reload"] = unknown
        reply = await house.ask(f"{ROOT}/acme/reload", "POST")
        assert reply.status == 422
        assert problem(reply) == "plugin.yaml: it is not a mapping."

    invalid = plugin(
        state=State.INVALID, generations=(), last_error="plugin.yaml: it is not a mapping."
    )
    run(play, invalid)


def test_command_is_told_in_the_log(said: Callable[[], str]) -> None:
    async def play(house: House, operator: Plugins) -> None:
        operator.answers["reload"] = Report(ok=False, state=State.READY, problems=("no",))
        await house.ask(f"{ROOT}/acme/stop", "POST")
        await house.ask(f"{ROOT}/acme/reload", "POST")

    run(play)
    one, other = (line for line in said().splitlines() if "plugin command" in line)
    assert "level=info" in one
    assert "plugin=acme command=stop" in one
    assert "level=warning" in other


def test_client_that_leaves_does_not_leave_a_command_half_done() -> None:
    async def play(house: House, operator: Plugins) -> None:
        operator.held = asyncio.Event()
        asking = asyncio.get_running_loop().create_task(house.ask(f"{ROOT}/acme/stop", "POST"))
        await operator.begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert operator.done == []
        operator.held.set()
        await asyncio.wait(house.group._tasks)
        assert operator.done == [("stop", "acme")]

    run(play)


def test_node_that_drains_takes_no_commands_and_still_tells() -> None:
    async def play(house: House, operator: Plugins) -> None:
        house.leaving = True
        reply = await house.ask(f"{ROOT}/acme/start", "POST")
        assert reply.status == 409
        assert "draining" in problem(reply)
        assert (await house.ask(f"{ROOT}/acme")).status == 200
        assert operator.done == []

    run(play)


async def lines(house: House, query: str = "") -> tuple[list[str], int]:
    reply: Any = value(await house.ask(f"{ROOT}/acme/logs{query}"))
    return [line["text"] for line in reply["lines"]], reply["last"]


def test_logs_go_on_where_the_last_answer_ended() -> None:
    async def play(house: House, operator: Plugins) -> None:
        assert await lines(house) == ([], 0)
        for text in ("one", "two", "three"):
            operator.say("acme", text, "stderr")
        assert await lines(house) == (["one", "two", "three"], 3)
        assert await lines(house, "?limit=1") == (["three"], 3)
        assert await lines(house, "?limit=0") == ([], 3)
        assert await lines(house, "?since=2") == (["three"], 3)
        assert await lines(house, "?since=3") == ([], 3)
        reply: Any = value(await house.ask(f"{ROOT}/acme/logs?since=2"))
        assert reply["lines"] == [
            {"number": 3, "generation": 3, "replica": 0, "stream": "stderr", "text": "three"}
        ]

    run(play)


def test_logs_wait_for_a_line() -> None:
    async def play(house: House, operator: Plugins) -> None:
        asking = asyncio.get_running_loop().create_task(lines(house, f"?wait_s={WAIT_S_MAX}"))
        await operator.awaited.wait()
        operator.say("acme", "at last")
        assert await asking == (["at last"], 1)

    run(play)


def test_logs_wait_no_longer_than_asked_for() -> None:
    async def play(house: House, _: Plugins) -> None:
        assert await lines(house, "?since=7&wait_s=0.01") == ([], 7)

    run(play)


def test_plugin_that_will_never_speak_is_not_asked_in_a_circle() -> None:
    async def play(house: House, operator: Plugins) -> None:
        async def at_once(_name: str, _since: int, _timeout_s: float) -> None:
            operator.awaited.set()

        operator.until_logged = at_once  # type: ignore[method-assign] # there is no such plugin
        asking = asyncio.get_running_loop().create_task(lines(house, "?wait_s=25"))
        await operator.awaited.wait()
        await asyncio.sleep(0)
        assert not asking.done()
        house.admin.close()
        assert await asking == ([], 0)

    run(play)


def test_nobody_waits_for_a_node_that_closes() -> None:
    async def play(house: House, operator: Plugins) -> None:
        asking = asyncio.get_running_loop().create_task(lines(house, "?wait_s=25"))
        await operator.awaited.wait()
        house.admin.close()
        assert await asking == ([], 0)

    run(play)


def test_waiting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 < WAITING_MAX < 256
    monkeypatch.setattr(module, "WAITING_MAX", 1)

    async def play(house: House, operator: Plugins) -> None:
        asking = asyncio.get_running_loop().create_task(lines(house, "?wait_s=25"))
        await operator.awaited.wait()
        assert (await house.ask(f"{ROOT}/acme/logs?wait_s=1")).status == 503
        assert await lines(house) == ([], 0)
        operator.say("acme", "done")
        await asking
        assert (await house.ask(f"{ROOT}/acme/logs?since=1&wait_s=0.01")).status == 200

    run(play)


@pytest.mark.parametrize(
    "query",
    [
        "since=-1",
        "since=nan",
        "since=x",
        "limit=1e9",
        f"limit={LINES_MAX + 1}",
        "limit=",
        "wait_s=26",
        "wait_s=inf",
        "wait_s=%D9%A3",
        "follow=1",
        "since=1&since",
        "&".join("since=1" for _ in range(20)),
    ],
)
def test_parameters_out_of_bounds_are_refused(query: str) -> None:
    async def play(house: House, _: Plugins) -> None:
        reply = await house.ask(f"{ROOT}/acme/logs?{query}")
        assert reply.status == 400
        assert problem(reply)

    run(play)


def test_other_pages_take_no_parameters() -> None:
    async def play(house: House, _: Plugins) -> None:
        for target in (f"{ROOT}?a=b", f"{ROOT}/acme?a=b"):
            assert "expected none here" in problem(await house.ask(target))

    run(play)


def test_config_that_strains_json_is_told_all_the_same() -> None:
    async def play(house: House, _: Plugins) -> None:
        one: Any = value(await house.ask(f"{ROOT}/acme"))
        assert one["config"] == {"large": 1 << 70, "odd": "\ud800"}

    run(play, plugin(config={"large": 1 << 70, "odd": "\ud800"}))

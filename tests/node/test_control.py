"""A whole node with real worker processes: what an operator does to it, and what befalls it."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loomproxy.config.model import Drain, Listener
from loomproxy.config.problem import Problem, Problems
from loomproxy.core.child import State
from loomproxy.node.control import SIGNAL_ECHO_S
from loomproxy.node.slot import exchanges
from tests.node.stage import Stage, config, run, stage


def test_node_serves_with_every_worker_and_leaves_nothing_behind(tmp_path: Path) -> None:
    listeners = (
        Listener("public", "127.0.0.1:0"),
        Listener("local", f"unix:{tmp_path}/app.sock", mode="0600"),
    )
    pids: list[int] = []

    async def play() -> None:
        async with stage(config(listeners=listeners)) as it:
            pids.extend(it.pids)
            answered = set()
            while len(answered) < 2:  # the kernel spreads connections over both
                answered.add((await it.get())["pid"])
            assert answered == set(pids)
            assert (await it.get(place=1))["pid"] in pids
            assert (tmp_path / "app.sock").stat().st_mode & 0o777 == 0o600
            it.node.drain()
            assert await it.left() == 0

    run(play)
    assert not (tmp_path / "app.sock").exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_killed_worker_is_replaced_and_its_counters_stay() -> None:
    async def play() -> None:
        async with stage(config(workers=1)) as it:
            supervisor = it.node.supervisor
            for _ in range(5):
                await it.get()
            await it.until(lambda: exchanges(supervisor.total()) == 5)
            before = it.kill(0)
            await it.until(lambda: not supervisor.all_ready)
            assert json.loads((await it.admin("/health/ready"))[1])["ready"] is False
            # A connection that comes while there is no worker waits for the next one.
            assert (await it.get())["pid"] not in (0, before)
            await it.until(lambda: supervisor.all_ready and exchanges(supervisor.total()) == 6)
            assert supervisor.restarts == 1
            assert "loomproxy_worker_restarts_total 1.0" in (await it.admin("/metrics"))[1]

    run(play)


def test_hung_worker_is_replaced() -> None:
    async def play() -> None:
        async with stage(config(workers=1, worker_ping_timeout_s=0.5)) as it:
            before = it.kill(0, signal.SIGSTOP)
            supervisor = it.node.supervisor
            await it.until(lambda: supervisor.restarts == 1 and supervisor.all_ready)
            assert it.pids != [before]

    run(play)


def test_publication_that_nobody_waits_for_any_more_is_taken_back() -> None:
    async def play() -> None:
        async with stage(config(workers=2, worker_ping_timeout_s=20.0)) as it:
            supervisor = it.node.supervisor
            it.kill(0, signal.SIGSTOP)
            try:
                publishing = asyncio.create_task(supervisor.publish(supervisor.current.dynamic))
                other = supervisor.slots[1]
                await it.until(lambda: other.worker is not None and other.worker.revision == 2)
                publishing.cancel()
                await asyncio.wait({publishing})
                assert publishing.cancelled()
            finally:
                it.kill(0, signal.SIGCONT)
            await it.until(lambda: supervisor.all_ready)
            assert supervisor.current.revision == 3

    run(play)


def test_worker_that_leaves_too_soon_is_tried_again_until_it_can(tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"

    async def play() -> None:
        async with stage(config(workers=1), "--no-start-if", str(obstacle)) as it:
            slot = it.node.supervisor.slots[0]
            obstacle.touch()
            it.kill(0)
            await it.until(lambda: slot.state is State.BACKOFF and slot.starts >= 2)
            assert 0 < slot.backoff_s <= 1.0
            worker = json.loads((await it.admin("/api/v1/status"))[1])["workers"][0]
            assert worker["state"] in {"backoff", "starting"}
            obstacle.unlink()
            await it.until(lambda: it.node.supervisor.all_ready)

    run(play)


def test_reload_reaches_every_worker() -> None:
    async def play() -> None:
        async with stage(config()) as it:
            it.next = config("new")
            status, body = await it.admin("/api/v1/reload", "POST")
            assert status == 200
            assert json.loads(body) == {"ok": True, "revision": 2, "problems": []}
            assert {slot.worker.revision for slot in it.node.supervisor.slots if slot.worker} == {2}
            assert (await it.get())["revision"] == 2
            # A worker that is started later serves it too.
            it.kill(0)
            await it.until(lambda: it.node.supervisor.restarts == 1)
            await it.until(lambda: it.node.supervisor.all_ready)
            pools = json.loads((await it.admin("/api/v1/status"))[1])["pools"]
            assert [pool["name"] for pool in pools] == ["new"]

    run(play)


def test_reloads_at_the_same_time_take_turns() -> None:
    async def play() -> None:
        async with stage(config()) as it:
            reports = await asyncio.gather(*(it.node.reload() for _ in range(3)))
            assert [(report.ok, report.revision) for report in reports] == [
                (True, 2),
                (True, 3),
                (True, 4),
            ]

    run(play)


def test_reload_that_one_worker_refuses_changes_nothing() -> None:
    async def play() -> None:
        async with stage(config("old"), "--refuse-pool", "bad") as it:
            supervisor = it.node.supervisor
            it.next = config("bad")
            report = await it.node.reload()
            assert not report.ok
            assert "refuses it: no such pool here" in report.problems[0]
            assert list(supervisor.current.dynamic.pools) == ["old"]
            await it.until(lambda: supervisor.all_ready)
            it.next = config("good")
            assert (await it.node.reload()).ok
            status = json.loads((await it.admin("/api/v1/status"))[1])["node"]
            assert (status["reloads"], status["reloads_refused"]) == (1, 1)

    run(play)


def test_reload_that_a_worker_does_not_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loomproxy.node.supervisor.PUBLISH_TIMEOUT_S", 0.2)

    async def play() -> None:
        async with stage(config("old"), "--silent-pool", "bad") as it:
            it.next = config("bad")
            report = await it.node.reload()
            assert not report.ok
            assert "no answer within" in report.problems[0]
            assert list(it.node.supervisor.current.dynamic.pools) == ["old"]
            await it.until(lambda: it.node.supervisor.all_ready)

    run(play)


def test_worker_that_dies_during_a_reload_does_not_hold_it_up() -> None:
    async def play() -> None:
        async with stage(config("old"), "--silent-pool", "new") as it:
            it.next = config("new")
            reload = asyncio.get_running_loop().create_task(it.node.reload())
            await it.until(lambda: it.node.supervisor._publication is not None)
            for slot in (0, 1):
                it.kill(slot)
            assert (await reload).ok
            await it.until(lambda: it.node.supervisor.all_ready)
            assert list(it.node.supervisor.current.dynamic.pools) == ["new"]

    run(play)


def test_reload_of_a_bad_file_reports_every_problem() -> None:
    async def play() -> None:
        async with stage(config("old")) as it:
            problem = Problem("pools.a", "it is bad", "a good one", "Mend it.")
            it.next = Problems((problem, problem))
            status, body = await it.admin("/api/v1/reload", "POST")
            assert status == 422
            assert json.loads(body)["problems"] == [str(problem)] * 2
            assert it.node.supervisor.current.revision == 1

    run(play)


def test_reload_that_needs_a_restart_says_which_keys() -> None:
    async def play() -> None:
        async with stage(config()) as it:
            it.next = config(workers=3)
            report = await it.node.reload()
            assert not report.ok
            assert len(report.problems) == 1
            assert report.problems[0].startswith("node.workers: ")

    run(play)


def test_signals_reload_and_reopen_logs(said: Callable[[], str]) -> None:
    told: list[str] = []

    def reopened() -> bool:
        told.append(said())
        return "".join(told).count("reason=reopened") == 2

    async def play() -> None:
        async with stage(config()) as it:
            it.next = config("new")
            it.node.reload_soon()
            await it.until(lambda: it.node.supervisor.current.revision == 2)
            it.node.reopen_logs()
            await it.until(reopened)

    run(play)


def test_health_says_what_it_waits_for_and_that_it_drains() -> None:
    async def play() -> None:
        async with stage(config(drain=Drain(grace_s=0.5, deadline_s=5.0))) as it:
            status, body = await it.admin("/health/ready")
            assert status == 200
            assert '"ready":true' in body
            assert (await it.admin("/health/live"))[0] == 200
            assert json.loads((await it.admin("/health"))[1])["instance_id"] == "stage"
            assert json.loads((await it.admin("/api/v1/health"))[1]) == {"status": "ok"}
            assert (await it.admin("/api/v1/drain", "POST"))[0] == 202
            # In the grace, readiness is false and requests are answered still.
            status, body = await it.admin("/health/ready")
            assert status == 503
            assert '"ready":false' in body
            assert "pid" in await it.get()
            report = await it.node.reload()
            assert "draining" in report.problems[0]
            assert await it.left() == 0

    run(play)


def test_worker_that_does_not_drain_is_killed_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loomproxy.node.control.KILL_MARGIN_S", 0.1)

    async def play() -> None:
        async with stage(config(drain=Drain(0.0, 0.2)), "--ignore-drain") as it:
            it.node.leave()
            assert await it.left() == 0

    run(play)


def test_drain_that_is_asked_for_again_does_not_force() -> None:
    async def play() -> None:
        async with stage(config(drain=Drain(0.5, 5.0))) as it:
            for _ in range(2):
                assert (await it.admin("/api/v1/drain", "POST"))[0] == 202
            it.node.leave()  # the first signal
            assert "pid" in await it.get()
            assert await it.left() == 0

    run(play)


def test_second_signal_does_not_wait() -> None:
    async def play() -> None:
        async with stage(config(drain=Drain(60.0, 600.0)), "--ignore-drain") as it:
            it.node.leave()
            it.node.leave()  # at once: an echo of the first
            assert not it.node.forced
            asyncio.get_running_loop().call_later(SIGNAL_ECHO_S, it.node.leave)
            assert await it.left() == 1

    run(play)


def test_worker_that_never_gets_ready_ends_the_start(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    obstacle = tmp_path / "obstacle"
    obstacle.touch()

    async def play() -> None:
        # Long enough that the worker comes to say why, on a machine that does other things too.
        it = Stage(config(startup_timeout_s=3.0), tmp_path, "--no-start-if", str(obstacle))
        assert await it.left() == 1

    run(play)
    text = said()
    assert "startup gate 'workers' stayed closed" in text
    assert 'line="the file is there"' in text


def test_leaving_while_starting_waits_for_nothing(tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    obstacle.touch()

    async def play() -> None:
        it = Stage(config(), tmp_path, "--no-start-if", str(obstacle))
        await it.until(lambda: it.node.supervisor.slots[0].starts > 0)
        it.node.leave()
        assert await it.left() == 0
        assert not it.greeted.is_set()

    run(play)


def test_address_that_another_process_has_ends_the_start(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    async def play() -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = f"127.0.0.1:{other.getsockname()[1]}"
            it = Stage(config(listeners=(Listener("public", address),)), tmp_path)
            assert await it.left() == 1

    run(play)
    text = said()
    assert "listeners[0].address" in text
    assert "Stop the process that listens there" in text


def test_worker_asks_for_pages_of_the_house_and_gets_no_others() -> None:
    async def play() -> None:
        async with stage(config()) as it:
            status, content_type, body = await it.get("/house/health/ready")
            assert (status, content_type) == (200, "application/json")
            assert '"ready":true' in body
            assert (await it.get("/house/metrics"))[1].startswith("text/plain")
            for path in ("/api/v1/status", "/api/v1/drain", "/nothing"):
                assert (await it.get(f"/house{path}"))[0] == 404

    run(play)


def test_admin_refuses_what_it_does_not_know() -> None:
    async def play() -> None:
        async with stage(config()) as it:
            assert (await it.admin("/nothing"))[0] == 404
            assert (await it.admin("/health", "POST"))[0] == 405
            assert (await it.admin("/api/v1/drain"))[0] == 405
            assert (await it.admin("/health", "HEAD")) == (200, "")
            assert (await it.admin("/api/v1/drain", "POST", "Origin: http://evil\r\n"))[0] == 403
            assert (await it.admin("nonsense", "GET"))[0] == 400
            assert it.node.pages.state() == "serving"

    run(play)


def test_status_tells_of_node_listeners_and_workers() -> None:
    async def play() -> None:
        async with stage(config("app")) as it:
            await it.get()
            await it.until(lambda: len(it.node.supervisor.pongs()) == 2)
            status = json.loads((await it.admin("/api/v1/status"))[1])
            assert status["node"]["state"] == "serving"
            assert status["node"]["config"] == "stage.yaml"
            assert [each["name"] for each in status["listeners"]] == ["public"]
            assert [each["pid"] for each in status["workers"]] == it.pids
            assert {each["state"] for each in status["workers"]} == {"ready"}
            assert [pool["name"] for pool in status["pools"]] == ["app"]

    run(play)


def test_demo_upstream_runs_as_long_as_the_node(said: Callable[[], str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    async def play() -> None:
        async with stage(config(demo_upstream=address)):
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            seen = await reader.readuntil(b"}\n")
            assert msgspec.json.decode(seen)["body_bytes"] == 2
            writer.close()
            await writer.wait_closed()
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection(host, int(port))

    run(play)
    assert "demo upstream left" not in said()


def test_demo_upstream_whose_address_is_taken_ends_the_start(
    tmp_path: Path, said: Callable[[], str]
) -> None:
    async def play() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = f"127.0.0.1:{other.getsockname()[1]}"
            it = Stage(config(demo_upstream=address, startup_timeout_s=20.0), tmp_path)
            assert await it.left() == 1

    run(play)
    text = said()
    assert "the demo upstream left: node.demo_upstream: " in text
    assert "Stop the process that listens there" in text
    assert "Traceback" not in text

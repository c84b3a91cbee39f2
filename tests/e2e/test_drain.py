"""Leaving: nothing that was begun is lost, balancers are told, and a second signal forces."""

import contextlib
import os
import signal
import time

import pytest

from tests.support import processes
from tests.support.caller import Ended
from tests.support.load import Load
from tests.support.loom import Loom, pool, settings, to
from tests.support.origin import Scene, chunk, head
from tests.support.waiting import eventually


def start(proxies, origin, *, grace: str = "0s", deadline: str = "10s", workers: int = 2) -> Loom:
    node = {"workers": workers, "drain": {"grace": grace, "deadline": deadline}}
    return proxies.start(settings(node=node, pools={"app": pool(origin.url)}, routes=[to("app")]))


async def hold(scene: Scene) -> None:
    """Answer only when the test says so."""
    await scene.cue("finish")
    await scene.reply(200, b"finished")


def not_ready(loom: Loom) -> bool:
    return loom.ask_admin("/health/ready").status == 503


def refuses(loom: Loom) -> bool:
    try:
        loom.caller().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "command"])
def test_leaving_under_load_fails_no_request(proxies, origin, how):
    loom = start(proxies, origin, grace="1s")
    with Load(loom.http, "/x", callers=8) as load:
        load.wait_answered(100)
        if how == "command":
            done = loom.run("drain")
            assert done.returncode == 0, done.stderr
        else:
            loom.signal(signal.Signals[how])
        eventually(lambda: not_ready(loom), "readiness is false")
        load.wait_answered(20)  # in the grace: served as ever
        load.stop_calling()  # as a balancer that saw it
        score = load.finish()
    assert loom.wait_exit() == 0
    assert (score.failed, score.raced, score.turned_away) == ([], 0, 0)


def test_callers_that_go_on_are_refused_and_never_cut(proxies, origin):
    """Without grace: what is refused may go elsewhere; what was accepted is answered.

    Linux cannot close a listening socket without resetting what entered its queue since the last
    look into it, so a new connection may be hit in that instant, one or two of thousands. The
    grace is there for this: see `test_leaving_under_load_fails_no_request`.
    """
    loom = start(proxies, origin)
    with Load(loom.http, "/x", callers=8) as load:
        load.wait_answered(100)
        loom.signal(signal.SIGTERM)
        assert loom.wait_exit() == 0
        eventually(lambda: load.score.turned_away > 0, "refused connections")
        score = load.finish()
    hit = [why for why in score.failed if "reset" in why and "reused=False" in why]
    assert len(hit) == len(score.failed) <= 2, score.failed


def test_what_was_begun_is_finished(proxies, origin):
    loom = start(proxies, origin)
    origin.on("/hold", hold)
    with loom.caller() as caller:
        caller.ask("/hold")
        origin.journal.wait("request", path="/hold")
        loom.signal(signal.SIGTERM)
        loom.wait_note("STOPPING=1")
        assert not_ready(loom)
        eventually(lambda: refuses(loom), "the workers accept no more")
        origin.give("finish")
        response = caller.response()
        assert (response.status, response.body) == (200, b"finished")
        assert response.head.field("connection") == "close"
        assert caller.rest() == (b"", "closed")
    assert loom.wait_exit() == 0


def test_a_stream_that_was_begun_is_finished(proxies, origin):
    async def stream(scene: Scene) -> None:
        await scene.send(head(200, [("Transfer-Encoding", "chunked")]) + chunk(b"one"))
        await scene.cue("finish")
        await scene.send(chunk(b"two") + b"0\r\n\r\n")

    loom = start(proxies, origin)
    origin.on("/stream", stream)
    with loom.caller() as caller:
        caller.ask("/stream")
        caller.head()
        assert caller.chunk() == b"one"
        loom.signal(signal.SIGTERM)
        eventually(lambda: not_ready(loom), "readiness is false")
        origin.give("finish")
        assert caller.chunk() == b"two"
        assert caller.chunk() == b""
    assert loom.wait_exit() == 0


def test_an_exchange_that_does_not_finish_meets_the_deadline(proxies, origin):
    loom = start(proxies, origin, deadline="500ms", workers=1)
    origin.on("/hold", hold)
    with loom.caller() as caller:
        caller.ask("/hold")
        origin.journal.wait("request", path="/hold")
        begun_at = time.monotonic()
        loom.signal(signal.SIGTERM)
        assert caller.response().status == 503
        loom.wait_exit()
    assert 0.4 < time.monotonic() - begun_at < 4
    written = loom.line("/hold")
    assert (written["termination"], written["fault"]) == ("lH", "drain_deadline")


def test_idle_connections_do_not_hold_it_up(proxies, origin):
    loom = start(proxies, origin)
    callers = [loom.caller() for _ in range(20)]
    for caller in callers[:10]:
        assert caller.get("/x").status == 200
    begun_at = time.monotonic()
    loom.signal(signal.SIGTERM)
    assert loom.wait_exit() == 0
    assert time.monotonic() - begun_at < 5
    for caller in callers:
        assert caller.rest() == (b"", "closed")
        caller.close()


def insisted(loom, which) -> int:
    """The exit code of a proxy that is signalled until it is gone, as an impatient person does."""

    def left() -> bool:
        with contextlib.suppress(ProcessLookupError):
            loom.signal(which)
        return loom.process.poll() is not None

    eventually(left, "the proxy is gone", within_s=5.0)
    return loom.wait_exit()


def test_the_same_wish_told_twice_at_once_still_drains_in_order(proxies, origin):
    loom = start(proxies, origin)
    loom.signal(signal.SIGTERM)
    loom.signal(signal.SIGTERM)  # as timeout(1) does: the process, then its group
    assert loom.wait_exit() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_forces(proxies, origin, second):
    loom = start(proxies, origin, deadline="1h")
    loom.expected_to_fail = True  # its exit status says that it was forced
    origin.on("/hold", hold)
    with loom.caller() as caller:
        caller.ask("/hold")
        origin.journal.wait("request", path="/hold")
        loom.signal(signal.SIGTERM)
        loom.wait_note("STOPPING=1")
        assert insisted(loom, second) != 0
        with contextlib.suppress(Ended):
            assert caller.response().status == 503
    assert "Traceback" not in loom.said()


def test_ctrl_c_in_a_terminal_drains_as_well(proxies, origin):
    """A terminal sends SIGINT to the whole group: workers must not leave by themselves."""
    loom = proxies.prepare(
        settings(node={"workers": 2}, pools={"app": pool(origin.url)}, routes=[to("app")])
    )
    loom.command = ("setsid", *loom.command)  # exec: the pid stays, the group is its own
    loom.start()
    origin.on("/hold", hold)
    with loom.caller() as caller:
        caller.ask("/hold")
        origin.journal.wait("request", path="/hold")
        assert os.getpgid(loom.pid) == loom.pid
        os.killpg(loom.pid, signal.SIGINT)
        loom.wait_note("STOPPING=1")
        origin.give("finish")
        assert caller.response().body == b"finished"
    assert loom.wait_exit() == 0


def test_a_tunnel_meets_the_deadline(proxies, origin):
    async def switch(scene: Scene) -> None:
        await scene.send(head(101, [("Connection", "Upgrade"), ("Upgrade", "websocket")]))
        await scene.left()
        scene.line.close()

    loom = start(proxies, origin, deadline="500ms", workers=1)
    origin.on("/tunnel", switch)
    with loom.caller() as caller:
        caller.ask("/tunnel", fields={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert caller.head().status == 101
        loom.signal(signal.SIGTERM)
        caller.rest()
        loom.wait_exit()
    assert loom.line("/tunnel")["termination"] == "lT"


def test_a_signal_while_it_starts_ends_it_in_order(proxies, origin):
    loom = proxies.prepare(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    loom.expected_to_fail = True
    loom.start(ready=False)
    eventually(lambda: processes.children(loom.pid), "a worker is being started")
    loom.signal(signal.SIGTERM)
    loom.wait_exit()
    assert "Traceback" not in loom.said()


def test_the_port_is_free_again_at_once(proxies, origin):
    loom = start(proxies, origin, workers=1)
    assert loom.ask("/x").status == 200
    loom.signal(signal.SIGTERM)
    assert loom.wait_exit() == 0
    again = proxies.prepare(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    again.addresses = loom.addresses
    again.write_config({**again.config, "listeners": loom.config["listeners"]})
    again.start()
    assert again.ask("/x").status == 200


def test_the_drain_command_may_be_given_twice(proxies, origin):
    """Only signals force: a script that drains twice must not cut anybody."""
    loom = start(proxies, origin, workers=1)
    origin.on("/hold", hold)
    with loom.caller() as caller:
        caller.ask("/hold")
        origin.journal.wait("request", path="/hold")
        for _ in range(2):
            assert loom.run("drain").returncode == 0
        origin.give("finish")
        assert caller.response().body == b"finished"
    assert loom.wait_exit() == 0

"""Processes die: what they held is lost, nothing else, and nothing is left behind."""

import signal
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.caller import Ended, ask
from tests.support.load import Load
from tests.support.loom import Loom, pool, settings, to
from tests.support.origin import Scene
from tests.support.waiting import eventually

CALLERS = 8


def start(proxies, origin, **node) -> Loom:
    return proxies.start(
        settings(node={"workers": 2, **node}, pools={"app": pool(origin.url)}, routes=[to("app")])
    )


def ready_again(loom: Loom, without: int) -> None:
    def full() -> bool:
        workers = loom.workers()
        return (
            len(workers) == 2
            and without not in workers
            and loom.ask_admin("/health/ready").status == 200
        )

    eventually(full, "two workers, and ready")


def test_killing_a_worker_under_load_fails_only_what_it_held(proxies, origin):
    loom = start(proxies, origin)
    victim = loom.workers()[0]
    with Load(loom.http, "/x", callers=CALLERS) as load:
        load.wait_answered(100)
        processes.kill(victim)
        ready_again(loom, victim)
        load.wait_answered(100)
        score = load.finish()
    assert len(score.failed) + score.raced <= CALLERS, score
    assert score.turned_away == 0, "its socket outlived it"
    # Cut before the answer or within it; never something that looks whole and is not.
    assert all("Ended" in why or "complete=False" in why for why in score.failed), score


def test_connections_that_waited_for_a_dead_worker_are_served_by_its_successor(proxies, origin):
    """The node holds the sockets, so a queue outlives the worker it belonged to."""
    loom = start(proxies, origin, worker_ping_timeout="60s", workers=1)
    (victim,) = loom.workers()
    processes.kill(victim, signal.SIGSTOP)
    callers = [loom.caller().ask("/x") for _ in range(20)]
    processes.kill(victim)
    try:
        assert [caller.response().status for caller in callers] == [200] * 20
    finally:
        for caller in callers:
            caller.close()


def test_readiness_is_false_while_a_worker_is_missing(proxies, origin):
    loom = start(proxies, origin)
    victim = loom.workers()[0]
    processes.kill(victim)
    eventually(lambda: loom.ask_admin("/health/ready").status == 503, "not ready")
    assert loom.ask_admin("/health/live").status == 200
    ready_again(loom, victim)


def test_a_worker_that_hangs_is_replaced(proxies, origin):
    loom = start(proxies, origin, worker_ping_timeout="1s")
    victim = loom.workers()[0]
    processes.kill(victim, signal.SIGSTOP)
    begun_at = time.monotonic()
    eventually(lambda: not processes.alive(victim), "the one that hangs is gone")
    assert time.monotonic() - begun_at < 6
    ready_again(loom, victim)
    with Load(loom.http, "/x", callers=4) as load:
        load.wait_answered(40)
        assert load.finish().failed == []


def test_a_worker_that_dies_again_and_again_is_started_with_patience(proxies, origin):
    loom = start(proxies, origin)
    killed = set()
    for _ in range(3):
        victim = eventually(
            lambda: [pid for pid in loom.workers() if pid not in killed][:1], "a new worker"
        )[0]
        processes.kill(victim)
        killed.add(victim)
    assert loom.ask_admin("/health/live").status == 200
    eventually(
        lambda: loom.ask_admin("/health/ready").status == 200, "ready at last", within_s=20.0
    )
    assert loom.ask("/x").status == 200


@pytest.mark.parametrize("busy", [False, True])
def test_killing_the_node_leaves_nothing_behind(proxies, origin, busy):
    loom = start(proxies, origin)
    loom.expected_to_fail = True
    workers = loom.workers()

    async def never(scene: Scene) -> None:
        await scene.cue("never")

    origin.on("/never", never)
    callers = [loom.caller().ask("/never") for _ in range(4)] if busy else []
    if busy:
        origin.journal.wait("request", path="/never", count=4)
    loom.signal(signal.SIGKILL)
    for worker in workers:
        processes.wait_gone(worker, "a worker", within_s=3.0)
    for caller in callers:
        assert caller.rest()[0] == b""
        caller.close()
    eventually(lambda: not processes.marked(loom.mark), "nothing left")


def test_killing_the_node_ends_workers_that_hang(proxies, origin):
    loom = start(proxies, origin)
    loom.expected_to_fail = True
    workers = loom.workers()
    processes.kill(workers[0], signal.SIGSTOP)
    loom.signal(signal.SIGKILL)
    for worker in workers:
        processes.wait_gone(worker, "a worker", within_s=3.0)


def test_it_starts_again_where_it_was_killed(proxies, origin):
    """The socket files of its former life are in the way, and nobody else's."""
    loom = proxies.start(
        settings(
            listeners=[{"name": "http"}, {"name": "unix", "address": "unix"}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    workers, admin = loom.workers(), loom.admin
    loom.signal(signal.SIGKILL)
    for worker in workers:
        processes.wait_gone(worker, "a worker", within_s=3.0)
    loom.wait_exit()
    assert Path(admin).exists(), "it had no time to clean up"
    loom.start()
    assert loom.ask("/x").status == 200
    assert ask(loom.addresses["unix"], "/x").status == 200
    assert loom.ask_admin("/health/ready").status == 200
    assert not Path(admin).exists()


def test_both_workers_take_their_share(proxies, origin):
    loom = start(proxies, origin)
    with Load(loom.http, "/x", callers=16) as load:
        load.wait_answered(200)
        assert load.finish().failed == []

    def shares() -> bool:
        status = loom.ask_admin("/api/v1/status").json()
        return all(worker.get("requests", 0) > 0 for worker in status["workers"])

    eventually(shares, "each worker answered something")


def test_a_caller_of_a_killed_worker_can_tell(proxies, origin):
    loom = start(proxies, origin, workers=1)

    async def never(scene: Scene) -> None:
        await scene.cue("never")

    origin.on("/never", never)
    with loom.caller() as caller:
        caller.ask("/never")
        line = origin.journal.wait("request", path="/never").line
        processes.kill(loom.workers()[0])
        with pytest.raises(Ended):
            caller.head()
    origin.journal.wait("left", line=line, within_s=1.0)

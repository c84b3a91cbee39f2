"""Ten thousand idle connections: it serves on, and each costs little."""

import contextlib
import resource
import socket

import pytest

from tests.support import processes
from tests.support.load import Load
from tests.support.loom import pool, settings, to
from tests.support.waiting import eventually

IDLE = 10_000
OURS = 512  # descriptors of this process besides

IDLE_BYTES_MAX = 12 << 10
"""Worker memory per idle connection: the budget is 8 KiB, and the allocator has its taste."""


@pytest.fixture
def room():
    """Raise this process's limit of descriptors, which the proxy inherits; skip if it cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + OURS:
        pytest.skip(f"only {hard} descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + OURS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("room")
def test_ten_thousand_idle_connections(proxies, origin, record_property):
    loom = proxies.start(
        settings(
            node={"workers": 2},
            listeners=[{"name": "http", "idle_timeout": "5m"}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    for _ in range(50):
        assert loom.ask("/x").status == 200
    workers = loom.workers()
    before = sum(processes.memory_bytes(worker) for worker in workers)
    with contextlib.ExitStack() as held:
        for number in range(IDLE):
            # Several source addresses: one alone would run short of ports in TIME_WAIT.
            source = (f"127.0.0.{2 + number % 8}", 0)
            held.enter_context(
                socket.create_connection(loom.http, timeout=10, source_address=source)
            )
        eventually(
            lambda: loom.metric("loomproxy_connections", side="downstream") >= IDLE,
            "all of them accepted",
            within_s=30.0,
        )
        after = sum(processes.memory_bytes(worker) for worker in workers)
        record_property("rss_bytes_before", before)
        record_property("rss_bytes_idle_connections", after)
        mib = 1 << 20
        print(f"RSS of 2 workers: {before / mib:.1f} MiB, {IDLE} idle: {after / mib:.1f} MiB")
        with Load(loom.http, "/x", callers=4) as load:
            load.wait_answered(100)
            score = load.finish()
        assert (score.failed, score.raced) == ([], 0)
        assert (after - before) / IDLE < IDLE_BYTES_MAX
    eventually(
        lambda: loom.metric("loomproxy_connections", side="downstream") == 0,
        "all of them gone",
        within_s=30.0,
    )
    assert loom.workers() == workers


def test_a_worker_accepts_no_more_than_its_limit_and_the_rest_waits(proxies, origin):
    loom = proxies.start(
        settings(
            listeners=[{"name": "http", "connections_max": 4}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    with contextlib.ExitStack() as held:
        callers = [held.enter_context(loom.caller()) for _ in range(4)]
        for caller in callers:
            assert caller.get("/x").status == 200
        waiting = held.enter_context(loom.caller())
        waiting.ask("/waited")
        assert loom.metric("loomproxy_connections", side="downstream") <= 5
        callers[0].close()
        assert waiting.response().status == 200

"""What the node and its workers say of themselves never holds them, whoever does not read it."""

import signal
import time

import pytest

from tests.support.loom import Loom, Looms, pool, settings, to
from tests.support.origin import Origin
from tests.support.places import free_port, full_pipe

BAD = b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n"
BAD_REQUESTS = 3000  # a line for each would fill a pipe more than five times


def ask_badly(loom: Loom) -> None:
    """One malformed request."""
    with loom.caller() as caller:
        assert caller.send(BAD).response().status == 400


@pytest.fixture
def loom(proxies: Looms, origin: Origin) -> Loom:
    """A proxy before the origin, with a way to an endpoint that is not there."""
    return proxies.prepare(
        settings(
            pools={
                "app": pool(origin.url),
                "dead": pool(f"http://127.0.0.1:{free_port()}", ejection={"failures": 0}),
            },
            routes=[to("dead", "/dead"), to("app")],
        )
    )


def test_workers_serve_on_while_their_node_is_stopped(loom: Loom):
    loom.start()
    loom.signal(signal.SIGSTOP)
    try:
        for _ in range(BAD_REQUESTS):
            ask_badly(loom)
        assert loom.ask("/good").status == 200
    finally:
        loom.signal(signal.SIGCONT)
    loom.signal(signal.SIGTERM)
    assert loom.wait_exit() == 0
    lines = [line for line in loom.said().splitlines() if ' event="request refused" ' in line]
    assert len(lines) < BAD_REQUESTS / 10
    assert "suppressed=" in loom.said()


def test_node_and_workers_live_with_a_stderr_that_nobody_reads(loom: Loom):
    with full_pipe() as stderr:
        loom.start(stderr=stderr)
        for _ in range(400):
            ask_badly(loom)
        assert loom.ask("/good").status == 200
        for _ in range(3):
            loom.reload(loom.config)
        assert loom.ask("/good").status == 200
        began_at = time.monotonic()
        loom.signal(signal.SIGTERM)
        assert loom.wait_exit() == 0
        assert time.monotonic() - began_at < 5.0


def test_lines_of_workers_come_as_they_are_and_a_dead_endpoint_does_not_flood(loom: Loom):
    loom.start()
    began_at = time.monotonic()
    for _ in range(300):
        assert loom.ask("/dead").status == 502
    took_s = time.monotonic() - began_at
    ask_badly(loom)
    loom.wait_said('event="request refused"')
    lines = loom.said().splitlines()
    (refused,) = (line for line in lines if 'event="request refused"' in line)
    who = f" slot=0 pid={loom.workers()[0]} "
    assert refused.startswith("at=")
    assert f' level=info event="request refused"{who}' in refused
    assert "worker said" not in loom.said()
    failed = [line for line in lines if ' event="connect failed"' in line]
    assert 20 <= len(failed) <= 21 + 10 * took_s
    assert all(f'event="connect failed"{who}' in line for line in failed)

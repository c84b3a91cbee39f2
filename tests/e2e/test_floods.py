"""Clients that are slow, greedy or many, and one that is none of it: that one is served all along.

The well-behaved client comes from an address of its own, with a new connection for each request.
What the others do is bounded in time and number; what the proxy holds for them is bounded, too.
"""

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.support import processes
from tests.support.caller import Caller
from tests.support.crowd import Crowd
from tests.support.loom import to
from tests.support.origin import Scene, head
from tests.support.stage import Stage
from tests.support.waiting import eventually

WELL_BEHAVED = "127.0.0.2"

ANSWER_WITHIN_S = 3.0
"""What a well-behaved client may wait for an answer that takes a millisecond without a flood: far
more than it does wait, because floods and tests share the machine's cores.
"""

PATIENCE_S = 0.5
CAP = 40
BODY_RATE, SEND_RATE = 1000, 100_000_000  # bytes a second: no crowd here is that fast

STAGE = {
    "listeners": [
        {"name": "http", "head_timeout": PATIENCE_S, "connections_per_client_max": 1000},
        {"name": "capped", "connections_per_client_max": CAP},
        {"name": "small", "connections_max": CAP},
    ],
    "timeouts": {"idle": PATIENCE_S, "send": PATIENCE_S, "body_bytes_min_per_s": BODY_RATE},
    "routes": [
        to("app", "/taken", timeouts={"send_bytes_min_per_s": SEND_RATE}),
        to("app", "/sent", timeouts={"idle": "2s"}),
    ],
}

GROWTH_BYTES_MAX = 24 << 20
"""What a worker may grow in a flood: some KiB for each connection, and the allocator's taste."""

DESCRIPTORS_LEFT_MAX = 8
"""Idle upstream connections, and what a last client has not closed yet."""

BIG_BYTES = 16 << 20
PIECE = b"p" * (1 << 20)


class Watch:
    """A worker in a flood, and the client that has nothing to do with it."""

    def __init__(self, stage: Stage) -> None:
        self.loom = stage.loom
        assert stage.ask().status == 200
        (self.worker,) = stage.loom.workers()
        processes.forget_peak(self.worker)
        self.memory_bytes = processes.memory_bytes(self.worker)
        self.descriptors = processes.descriptors(self.worker)
        self.counted = self._limits()

    def serves(
        self, times: int, *, listener: str = "http", within_s: float = ANSWER_WITHIN_S
    ) -> None:
        """The well-behaved client asks, and has each answer in time."""
        for _ in range(times):
            begun_at = time.monotonic()
            with Caller(self.loom.addresses[listener], source=WELL_BEHAVED) as caller:
                assert caller.get("/served").status == 200
            assert time.monotonic() - begun_at < within_s

    def serves_while(self, over: Callable[[], bool]) -> None:
        """The well-behaved client is served from now until `over` says yes, and once more."""

        def serve_and_look() -> bool:
            self.serves(1)
            return over()

        eventually(serve_and_look, "the flood over")
        self.serves(1)

    def met(self, listener: str, reason: str) -> float:
        """How often a limit was met since the flood began."""
        return self._limits().get((listener, reason), 0) - self.counted.get((listener, reason), 0)

    def _limits(self) -> dict[tuple[str, str], float]:
        return {
            (sample.labels["listener"], sample.labels["reason"]): sample.value
            for sample in self.loom.metrics()
            if sample.name == "loomproxy_limits_total"
        }

    def is_as_before(self) -> None:
        """Nothing of the flood is left, and it never took much."""
        most = self.descriptors + DESCRIPTORS_LEFT_MAX
        eventually(
            lambda: processes.descriptors(self.worker) <= most, "the flood's descriptors closed"
        )
        peak = processes.memory_bytes(self.worker, "VmHWM")
        assert peak - self.memory_bytes < GROWTH_BYTES_MAX
        assert self.loom.workers() == [self.worker]


@pytest.fixture
def watch(stage: Stage) -> Watch:
    return Watch(stage)


def test_hundreds_that_dribble_their_heads_are_answered_408(watch: Watch):
    with Crowd(watch.loom.http, 300) as crowd:
        crowd.send(b"GET /never HTTP/1.1\r\nHost: a.example\r\n")
        watch.serves_while(lambda: crowd.dribble(b"X-A: b\r\n").read().all_ended)
        assert crowd.statuses() == {b"408": 300}
    assert watch.met("http", "client_head_timeout") == 300
    watch.is_as_before()


def test_hundreds_from_one_address_that_say_nothing_get_no_more_than_their_share(watch: Watch):
    with Crowd(watch.loom.addresses["capped"], 400) as crowd:
        watch.serves(5, listener="capped")
        eventually(lambda: crowd.read().ended == 400 - CAP, "all but the share reset")
        assert processes.descriptors(watch.worker) <= watch.descriptors + CAP + DESCRIPTORS_LEFT_MAX
        watch.serves(5, listener="capped")
    eventually(lambda: watch.met("capped", "client_full") == 400 - CAP, "each refusal counted")
    watch.is_as_before()


def test_silent_connections_that_fill_a_listener_make_room_for_who_waits(watch: Watch):
    """From many addresses, so that no share helps; the head timeout of this listener is 10 s."""
    small = watch.loom.addresses["small"]
    with contextlib.ExitStack() as stack:
        crowds = [
            stack.enter_context(Crowd(small, 10, source=f"127.0.1.{number}"))
            for number in range(1, 7)
        ]
        watch.serves(1, listener="small", within_s=6.0)
        assert sum(crowd.read().ended for crowd in crowds) > CAP / 2
    assert watch.met("small", "listener_full") > 0
    assert watch.met("small", "client_silent") > CAP / 2
    watch.is_as_before()


def test_a_flood_of_malformed_requests_is_refused_and_does_not_flood_the_log(watch: Watch):
    before = watch.loom.said().count("request refused")
    begun_at = time.monotonic()
    for _ in range(5):
        with Crowd(watch.loom.http, 200) as crowd:
            crowd.send(b"\x16\x03\x01 what is this\r\nX: \x00\r\n\r\n")
            watch.serves_while(lambda crowd=crowd: crowd.read().all_ended)
            assert crowd.statuses() == {b"400": 200}
    assert watch.met("http", "request_malformed") == 1000
    lines = watch.loom.said().count("request refused") - before
    assert 0 < lines <= 20 + 10 * (time.monotonic() - begun_at + 1)
    watch.is_as_before()


def test_trickled_bodies_are_answered_408_and_free_their_upstreams(stage: Stage, watch: Watch):
    async def take(scene: Scene) -> None:
        await scene.body()

    stage.origin.on("/sent/slowly", take)
    with Crowd(watch.loom.http, 60) as crowd:
        crowd.send(b"POST /sent/slowly HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000\r\n\r\n")
        watch.serves_while(lambda: crowd.dribble(b"x").read().all_ended)
        assert crowd.statuses() == {b"408": 60}
    slow = watch.met("http", "client_body_slow")
    assert slow > 0
    assert slow + watch.met("http", "client_body_timeout") == 60
    eventually(lambda: watch.loom.metric("loomproxy_in_flight") == 0, "nothing in flight")
    watch.is_as_before()


@pytest.mark.parametrize("reading", [False, True])
def test_clients_that_do_not_take_their_large_answers_are_cut(
    stage: Stage, watch: Watch, reading: bool
):
    """Not at all, or a few KiB now and then: less than the lowest speed asks for."""

    async def pour(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Length", str(BIG_BYTES))]))
        for _ in range(BIG_BYTES // len(PIECE)):
            await scene.send(PIECE)

    path = stage.origin.on("/taken/slowly" if reading else stage.path, pour)

    def cut() -> float:
        if reading:
            crowd.read()
        return watch.met("http", "client_take_slow") + watch.met("http", "client_take_timeout")

    with Crowd(watch.loom.http, 20, receive_bytes=16 << 10) as crowd:
        crowd.send(b"GET %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % path.encode())
        watch.serves_while(lambda: cut() == 20)
    assert bool(watch.met("http", "client_take_slow")) is reading
    eventually(lambda: watch.loom.metric("loomproxy_in_flight") == 0, "nothing in flight")
    watch.is_as_before()

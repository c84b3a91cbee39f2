"""Every phase has its timeout: which status the client sees, and which two letters the log has."""

import time

import pytest

from tests.support.loom import Loom, Looms, pool, settings, to
from tests.support.origin import Origin, Scene, chunk, head
from tests.support.places import silent_place

SHORT = "300ms"

CHUNKED = [("Transfer-Encoding", "chunked")]


async def never(scene: Scene) -> None:
    """Say nothing."""
    await scene.cue("never")


def start(proxies: Looms, url: str, timeouts: dict, **more) -> Loom:
    """A proxy before `url` whose one route has these timeouts."""
    listener = {"name": "http", **more.pop("listener", {})}
    app = pool(url, ejection={"failures": 0}, **more.pop("pool", {}))
    return proxies.start(
        settings(
            listeners=[listener], pools={"app": app}, routes=[to("app", timeouts=timeouts, **more)]
        )
    )


def test_an_upstream_that_does_not_accept_is_a_504(proxies):
    with silent_place() as port:
        loom = start(
            proxies, f"http://127.0.0.1:{port}", {"connect": SHORT}, retry={"attempts_max": 1}
        )
        begun_at = time.monotonic()
        assert loom.ask("/x").status == 504
        assert 0.25 < time.monotonic() - begun_at < 3
        written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("uC", "connect_timeout")


def test_an_upstream_that_does_not_answer_is_a_504(proxies, origin):
    loom = start(proxies, origin.url, {"response": SHORT})
    origin.on("/x", never)
    response = loom.ask("/x")
    assert response.status == 504
    line = origin.journal.wait("request", path="/x").line
    origin.journal.wait("left", line=line, within_s=1.0)
    assert loom.line("/x")["termination"] == "uH"


def test_an_upstream_that_stops_in_its_answer_is_cut(proxies, origin):
    async def stop(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED) + chunk(b"some"))
        await scene.cue("never")

    loom = start(proxies, origin.url, {"idle": SHORT})
    origin.on("/x", stop)
    response = loom.ask("/x")
    assert (response.status, response.body, response.complete) == (200, b"some", False)
    written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("uD", "upstream_stalled")


def test_an_answer_that_keeps_coming_is_never_cut(proxies, origin):
    """Four pieces 150 ms apart: longer than the timeout in all, shorter each."""

    async def dribble(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED))
        for number in range(4):
            await scene.cue(f"piece {number}")
            await scene.send(chunk(b"x"))
        await scene.send(b"0\r\n\r\n")

    loom = start(proxies, origin.url, {"idle": SHORT, "response": SHORT})
    origin.on("/x", dribble)
    with loom.caller() as caller:
        caller.ask("/x")
        caller.head()
        for number in range(4):
            caller.socket.settimeout(0.15)  # the beat of the dribble: nothing comes until the cue
            with pytest.raises(TimeoutError):
                caller.until(b"x")
            caller.socket.settimeout(5)
            origin.give(f"piece {number}")
            assert caller.chunk() == b"x"
        assert caller.chunk() == b""


def test_a_client_that_does_not_end_its_head_is_a_408(proxies, origin):
    loom = start(proxies, origin.url, {}, listener={"head_timeout": SHORT})
    with loom.caller() as caller:
        caller.send(b"GET /x HTTP/1.1\r\nHost:")
        response = caller.response()
        assert response.status == 408
        assert caller.rest() == (b"", "closed")
    assert loom.ask("/after").status == 200


def test_a_client_that_trickles_its_head_gets_no_more_time(proxies, origin):
    loom = start(proxies, origin.url, {}, listener={"head_timeout": SHORT})
    with loom.caller() as caller:
        caller.send(b"GET /x HTTP/1.1\r\n")
        caller.socket.settimeout(0.1)
        for number in range(50):
            try:
                caller.send(b"X-%d: y\r\n" % number)
                if caller.socket.recv(12):
                    break
            except TimeoutError:
                continue
        assert number < 20, "a slow loris held its connection"


def test_a_client_that_says_nothing_is_closed_without_a_word(proxies, origin):
    loom = start(proxies, origin.url, {}, listener={"idle_timeout": SHORT, "head_timeout": SHORT})
    with loom.caller() as caller:
        assert caller.rest() == (b"", "closed")
    with loom.caller() as caller:
        assert caller.get("/x").status == 200
        assert caller.rest() == (b"", "closed")


def test_a_client_that_stops_in_its_upload_is_a_408(proxies, origin):
    loom = start(proxies, origin.url, {"idle": SHORT})
    with loom.caller() as caller:
        caller.ask("/x", "POST", {"Content-Length": "100"}).send(b"some")
        assert caller.response().status == 408
    written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("cH", "client_body_timeout")


def test_a_client_that_does_not_take_its_answer_is_cut(proxies, origin):
    async def pour(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Length", str(64 << 20))]))
        for _ in range(64):
            await scene.send(b"p" * (1 << 20))

    loom = start(proxies, origin.url, {"send": SHORT, "idle": "30s"})
    origin.on("/x", pour)
    with loom.caller(receive_bytes=32 << 10) as caller:
        caller.ask("/x")
        written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("cD", "client_take_timeout")
    line = origin.journal.wait("request", path="/x").line
    origin.journal.wait("left", line=line, within_s=1.0)


def test_a_request_that_waits_too_long_for_a_place_is_a_503(proxies, origin):
    loom = start(proxies, origin.url, {"queue": SHORT}, pool={"in_flight_max": 1})
    origin.on("/busy", never)
    with loom.caller() as holder:
        holder.ask("/busy")
        origin.journal.wait("request", path="/busy")
        assert loom.ask("/x").status == 503
    written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("rQ", "queue_timeout")


def test_a_request_waits_for_a_place_and_gets_it(proxies, origin):
    async def hold(scene: Scene) -> None:
        await scene.cue("free")
        await scene.reply(200, b"first")

    loom = start(proxies, origin.url, {}, pool={"in_flight_max": 1})
    origin.on("/busy", hold)
    with loom.caller() as first, loom.caller() as second:
        first.ask("/busy")
        origin.journal.wait("request", path="/busy")
        second.ask("/x")
        wait_queued(loom)
        origin.give("free")
        assert first.response().body == b"first"
        assert second.response().status == 200
    assert loom.line("/x")["wait_ms"] > 0


def wait_queued(loom: Loom) -> None:
    """Wait until two exchanges are in flight, of which one must be waiting."""
    from tests.support.waiting import eventually

    eventually(lambda: loom.metric("loomproxy_in_flight") >= 2, "two exchanges in flight")


def test_a_full_queue_is_a_503_at_once(proxies, origin):
    loom = start(proxies, origin.url, {"queue": "30s"}, pool={"in_flight_max": 1, "queue_max": 0})
    origin.on("/busy", never)
    with loom.caller() as holder:
        holder.ask("/busy")
        origin.journal.wait("request", path="/busy")
        response = loom.ask("/x")
    assert response.status == 503
    assert loom.line("/x")["termination"] == "RQ"


def test_a_tunnel_that_carries_nothing_is_closed(proxies, origin):
    async def switch(scene: Scene) -> None:
        await scene.send(head(101, [("Connection", "Upgrade"), ("Upgrade", "websocket")]))
        await scene.left()
        scene.line.close()

    loom = start(proxies, origin.url, {"tunnel_idle": SHORT})
    origin.on("/x", switch)
    with loom.caller() as caller:
        caller.ask("/x", fields={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert caller.head().status == 101
        caller.rest()
    assert loom.line("/x")["termination"] == "lT"


def test_a_dribbling_head_from_upstream_gets_no_more_time(proxies, origin: Origin):
    async def dribble(scene: Scene) -> None:
        await scene.send(b"HTTP/1.1 200 OK\r\n")
        await scene.cue("never")

    loom = start(proxies, origin.url, {"response": SHORT})
    origin.on("/x", dribble)
    assert loom.ask("/x").status == 504

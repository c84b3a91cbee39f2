"""Upstream connections are reused, and a race lost on a reused one is not the client's trouble."""

import pytest

from tests.support.loom import Loom, Looms, pool, settings, to
from tests.support.origin import Origin, Scene, echo
from tests.support.waiting import eventually


def start(proxies: Looms, origin: Origin, **keepalive) -> Loom:
    """A proxy before `origin` with these keep-alive settings."""
    return proxies.start(
        settings(
            pools={"app": pool(origin.url, keepalive=keepalive, ejection={"failures": 0})},
            routes=[to("app")],
        )
    )


def test_one_upstream_connection_serves_many_clients_in_turn(proxies, origin):
    loom = start(proxies, origin)
    lines = {loom.ask("/x").json()["line"] for _ in range(10)}
    assert len(lines) == 1
    assert loom.line("/x", count=10)["reused"] is True


def test_clients_at_the_same_time_have_connections_of_their_own(proxies, origin):
    async def wait(scene: Scene) -> None:
        await scene.cue("both")
        await echo(scene)

    loom = start(proxies, origin)
    origin.on("/x", wait)
    with loom.caller() as one, loom.caller() as two:
        one.ask("/x")
        two.ask("/x")
        origin.journal.wait("request", path="/x", count=2)
        origin.give("both")
        assert one.response().json()["line"] != two.response().json()["line"]


def test_no_idle_connection_is_kept_where_none_is_wanted(proxies, origin):
    loom = start(proxies, origin, idle_max=0)
    assert len({loom.ask("/x").json()["line"] for _ in range(3)}) == 3


def test_an_idle_connection_is_closed_after_its_time(proxies, origin):
    loom = start(proxies, origin, idle_timeout="300ms")
    line = loom.ask("/x").json()["line"]
    origin.journal.wait("left", line=line, within_s=5.0)
    assert loom.ask("/x").json()["line"] != line


def test_a_connection_is_given_up_after_its_number_of_requests(proxies, origin):
    loom = start(proxies, origin, requests_max=3)
    lines = [loom.ask("/x").json()["line"] for _ in range(7)]
    assert [lines.count(line) for line in dict.fromkeys(lines)] == [3, 3, 1]


def test_an_upstream_that_says_close_is_believed(proxies, origin):
    async def close(scene: Scene) -> None:
        await scene.reply(200, b"x", [("Connection", "close")])
        await scene.left()
        scene.line.close()

    loom = start(proxies, origin)
    origin.on("/close", close)
    assert loom.ask("/close").body == b"x"
    line = origin.journal.wait("request", path="/close").line
    origin.journal.wait("left", line=line, within_s=1.0)
    assert loom.ask("/x").json()["line"] != line


def test_idle_connections_that_the_upstream_closed_are_not_used(proxies, origin):
    loom = start(proxies, origin, idle_timeout="60s")
    for number in range(5):
        line = loom.ask("/x", "POST", body=b"b").json()["line"]
        origin.drop_idle()
        origin.journal.wait("left", line=line)
        assert number == 0 or line > 1
    assert [line["status"] for line in loom.lines()] == [200] * len(loom.lines())


def racing(origin: Origin) -> None:
    """From now on a reused line is closed without a byte of an answer, whatever the path."""
    served: set[int] = set()

    async def race(scene: Scene) -> None:
        if scene.line.number in served:
            scene.note("raced")
            scene.line.close()
            return
        served.add(scene.line.number)
        await echo(scene)

    origin.on("/race", race)
    origin.act = race  # whatever path: the first request of a line is answered, the second is not


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_that_lost_the_race_goes_again(proxies, origin, method):
    loom = start(proxies, origin)
    racing(origin)
    assert loom.ask("/first").status == 200
    assert loom.ask("/race", method, body=b"b" if method == "PUT" else None).status == 200
    origin.journal.wait("raced")
    written = loom.line("/race")
    assert (written["attempts"], written["termination"]) == (2, "--")


def test_a_post_that_lost_the_race_does_not_go_again(proxies, origin):
    loom = start(proxies, origin)
    racing(origin)
    assert loom.ask("/first").status == 200
    assert loom.ask("/race", "POST", body=b"order one").status == 502
    assert len(origin.journal.all("request", path="/race")) == 1
    written = loom.line("/race")
    assert (written["attempts"], written["termination"], written["reused"]) == (1, "UH", True)


def test_a_get_that_failed_on_a_fresh_connection_does_not_go_again(proxies, origin):
    async def close(scene: Scene) -> None:
        scene.line.close()

    loom = start(proxies, origin)
    origin.on("/x", close)
    assert loom.ask("/x").status == 502
    assert len(origin.journal.all("request", path="/x")) == 1


def test_a_body_too_large_to_keep_is_not_sent_again(proxies, origin):
    loom = proxies.start(
        settings(
            pools={"app": pool(origin.url)}, routes=[to("app")], limits={"replay_bytes_max": "1KiB"}
        )
    )
    racing(origin)
    assert loom.ask("/first").status == 200
    assert loom.ask("/race", "PUT", body=b"x" * 5000).status == 502
    assert len(origin.journal.all("request", path="/race")) == 1


def test_an_answer_with_bytes_behind_it_does_not_poison_the_next(proxies, origin):
    """An upstream that says more than its framing allows: its connection is not used again."""

    async def overflow(scene: Scene) -> None:
        await scene.reply(200, b"right")
        await scene.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    loom = start(proxies, origin)
    origin.on("/overflow", overflow)
    assert loom.ask("/overflow").body == b"right"
    for _ in range(3):
        assert b"poison" not in loom.ask("/x").body


def test_a_client_connection_ends_after_its_number_of_requests(proxies, origin):
    loom = proxies.start(
        settings(
            listeners=[{"name": "http", "keepalive_requests_max": 2}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    with loom.caller() as caller:
        assert caller.get("/x").head.field("connection") is None
        assert caller.get("/x").head.field("connection") == "close"
        assert caller.rest() == (b"", "closed")


def test_idle_upstream_connections_do_not_pile_up(proxies, origin):
    async def wait(scene: Scene) -> None:
        await scene.cue("all")
        await echo(scene)

    loom = start(proxies, origin, idle_max=2)
    origin.on("/x", wait)
    callers = [loom.caller() for _ in range(6)]
    for caller in callers:
        caller.ask("/x")
    origin.journal.wait("request", path="/x", count=6)
    origin.give("all")
    for caller in callers:
        assert caller.response().status == 200
        caller.close()
    eventually(lambda: len(origin.lines) == 2, "two idle connections left")

"""Which endpoint gets the traffic: weights, the least busy, and those that are found to be ill."""

import collections
import contextlib

import pytest

from tests.support.loom import Loom, pool, settings, to
from tests.support.origin import Origin, Scene, echo
from tests.support.places import free_port
from tests.support.waiting import eventually


@pytest.fixture
def origins():
    with contextlib.ExitStack() as open_ones:
        made = [open_ones.enter_context(Origin(name)) for name in ("a", "b", "c")]
        yield made
        for origin in made:
            assert not origin.failures, origin.failures


def start(proxies, *endpoints, **more) -> Loom:
    return proxies.start(settings(pools={"app": pool(*endpoints, **more)}, routes=[to("app")]))


def who(loom: Loom, count: int) -> collections.Counter:
    """How often each origin answered."""
    with loom.caller() as caller:
        return collections.Counter(caller.get("/x").json()["origin"] for _ in range(count))


def endpoint(loom: Loom, url: str) -> dict:
    """What the status says of an endpoint."""
    status = loom.ask_admin("/api/v1/status").json()
    pools = status["pools"]
    found = next(pool for pool in pools if pool["name"] == "app")
    return next(each for each in found["endpoints"] if each["address"] == url)


def test_endpoints_take_turns(proxies, origins):
    loom = start(proxies, *[origin.url for origin in origins])
    assert who(loom, 30) == {"a": 10, "b": 10, "c": 10}


def test_weights_are_shares(proxies, origins):
    a, b, c = origins
    loom = start(
        proxies,
        {"address": a.url, "weight": 3},
        {"address": b.url, "weight": 2},
        {"address": c.url, "weight": 1},
    )
    assert who(loom, 60) == {"a": 30, "b": 20, "c": 10}


def test_a_disabled_endpoint_gets_nothing(proxies, origins):
    a, b, _ = origins
    loom = start(proxies, a.url, {"address": b.url, "enabled": False})
    assert who(loom, 10) == {"a": 10}


def test_a_pool_with_nothing_enabled_is_a_503(proxies, origins):
    loom = start(proxies, {"address": origins[0].url, "enabled": False})
    assert loom.ask("/x").status == 503
    written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("RQ", "pool_unavailable")


def test_the_least_busy_endpoint_is_preferred(proxies, origins):
    a, b, _ = origins

    async def hold(scene: Scene) -> None:
        await scene.cue("let go")
        await echo(scene)

    loom = start(proxies, a.url, b.url, balance="least_in_flight")
    for origin in (a, b):
        origin.on("/hold", hold)
    with loom.caller() as holder:
        holder.ask("/hold")
        eventually(lambda: a.journal.all("request") or b.journal.all("request"), "somebody holds")
        busy = a if a.journal.all("request") else b
        idle = b if busy is a else a
        assert who(loom, 10) == {idle.name: 10}
        busy.give("let go")
        assert holder.response().status == 200


def test_an_endpoint_that_refuses_is_ejected_and_comes_back(proxies, origins):
    a, b, _ = origins
    loom = start(proxies, a.url, b.url, ejection={"failures": 2, "time": "700ms"})
    b.close()
    assert who(loom, 20) == {"a": 20}, "no client noticed"
    ill = endpoint(loom, b.url)
    assert ill["ejected_for_s"] > 0
    b.open()
    eventually(
        lambda: b.journal.all("request") or (who(loom, 2) and None), "the endpoint is used again"
    )
    assert who(loom, 10) == {"a": 5, "b": 5}


def test_an_endpoint_that_never_answers_is_ejected(proxies, origins):
    a, b, _ = origins

    async def never(scene: Scene) -> None:
        await scene.cue("never")

    b.act = never
    loom = proxies.start(
        settings(
            pools={"app": pool(a.url, b.url, ejection={"failures": 2, "time": "60s"})},
            routes=[to("app", timeouts={"response": "150ms"})],
        )
    )
    answers = collections.Counter(loom.ask("/x").status for _ in range(10))
    assert answers == {504: 2, 200: 8}


def test_when_every_endpoint_is_ejected_all_are_tried(proxies, origins):
    """Panic: a broken measurement must not refuse everybody."""
    (a, _, _) = origins
    loom = start(proxies, a.url, ejection={"failures": 1, "time": "60s"})
    a.close()
    assert loom.ask("/x").status == 502
    assert endpoint(loom, a.url)["ejected_for_s"] > 0
    a.open()
    assert loom.ask("/x").status == 200


def healthy(loom: Loom, url: str) -> bool:
    return endpoint(loom, url)["workers_healthy"] == 1


def test_a_probe_takes_an_endpoint_out_and_brings_it_back(proxies, origins):
    a, b, _ = origins
    well = True

    async def health(scene: Scene) -> None:
        await scene.reply(200 if well else 503)

    b.on("/health", health)
    loom = start(
        proxies,
        a.url,
        b.url,
        probe={"path": "/health", "interval": "150ms", "rise": 2, "fall": 2, "timeout": "100ms"},
    )
    assert who(loom, 10) == {"a": 5, "b": 5}
    well = False
    eventually(lambda: not healthy(loom, b.url), "the probe finds it ill")
    assert who(loom, 10) == {"a": 10}
    well = True
    eventually(lambda: healthy(loom, b.url), "the probe finds it well")
    assert who(loom, 10) == {"a": 5, "b": 5}


@pytest.mark.parametrize("how", ["close", "reset", "silence", "nonsense"])
def test_a_probe_without_a_proper_answer_is_a_bad_one(proxies, origins, how):
    a, b, _ = origins

    async def health(scene: Scene) -> None:
        if how == "silence":
            await scene.cue("never")
        elif how == "nonsense":
            await scene.send(b"what?\r\n\r\n")
            await scene.left()
        else:
            getattr(scene.line, how)()

    b.on("/health", health)
    loom = start(
        proxies,
        a.url,
        b.url,
        probe={"path": "/health", "interval": "150ms", "fall": 1, "timeout": "100ms"},
    )
    eventually(lambda: not healthy(loom, b.url), "the probe finds it ill")
    assert who(loom, 6) == {"a": 6}


def test_probes_do_not_wait_for_traffic_and_say_who_they_are(proxies, origin):
    loom = start(
        proxies,
        origin.url,
        probe={"path": "/up", "interval": "150ms", "timeout": "100ms", "host": "health.example"},
    )
    head = origin.journal.wait("request", path="/up", count=3)["head"]
    assert b"Host: health.example\r\n" in head
    assert loom.lines() == [], "probes are no exchanges"


def test_retries_cannot_become_the_outage(proxies):
    """One retry a second and no share of traffic, over ten seconds: most requests go once."""
    dead = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
    loom = start(
        proxies,
        *dead,
        ejection={"failures": 0},
        retry_budget={"ratio": 0, "retries_min_per_s": 1},
    )
    assert [loom.ask("/x").status for _ in range(40)] == [502] * 40
    loom.line("/x", count=40)
    attempts = [line["attempts"] for line in loom.lines()]
    assert max(attempts) == 3, "at first they are affordable"
    assert sum(attempts) - 40 <= 12, attempts

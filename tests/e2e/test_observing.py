"""Probes of balancers and Prometheus: shapes, status codes, and sums that never go backwards."""

import datetime
import json

from tests.support import processes
from tests.support.caller import ask
from tests.support.load import Load
from tests.support.loom import Loom, pool, settings, to
from tests.support.places import free_port
from tests.support.stage import Stage
from tests.support.waiting import eventually, steady

STAGE = {
    "listeners": [{"name": "http"}, {"name": "public", "health": True, "metrics": True}],
    "node": {"instance_id": "test-1"},
}


def both(stage: Stage, target: str):
    """The answers of the admin and of the public listener."""
    return stage.loom.ask_admin(target), ask(stage.loom.addresses["public"], target)


def test_live_says_alive(stage: Stage):
    for response in both(stage, "/health/live"):
        assert response.status == 200
        assert response.head.field("content-type") == "application/json"
        body = response.json()
        assert body["status"] == "alive"
        assert list(body) == ["status", "timestamp"]
        moment = datetime.datetime.fromisoformat(body["timestamp"])
        assert moment.tzinfo is not None
        assert moment.microsecond == 0


def test_ready_says_true_without_a_space(stage: Stage):
    for response in both(stage, "/health/ready"):
        assert response.status == 200
        assert b'"ready":true' in response.body
        assert response.body.endswith(b"\n")
        body = response.json()
        assert list(body) == ["dependencies", "ready", "timestamp"]
        assert all(
            entry["status"] in {"healthy", "unknown"} for entry in body["dependencies"].values()
        )


def test_health_tells_the_details(stage: Stage):
    for response in both(stage, "/health"):
        assert response.status == 200
        body = response.json()
        assert body["status"] == "healthy"
        assert body["instance_id"] == "test-1"
        assert isinstance(body["uptime_seconds"], int)
        assert body["version"]
        assert {"dependencies", "metrics", "timestamp"} <= set(body)
        assert list(body) == sorted(body)
        assert response.body == json.dumps(body, separators=(",", ":")).encode() + b"\n", "compact"


def test_health_shows_a_pool_without_an_endpoint_and_goes_on(proxies):
    dead = pool(f"http://127.0.0.1:{free_port()}", ejection={"failures": 1, "time": "1m"})
    loom = proxies.start(settings(pools={"app": dead}, routes=[to("app")]))
    assert loom.ask("/x").status == 502
    response = loom.ask_admin("/health")
    assert response.status == 200
    body = response.json()
    assert body["status"] == "degraded"
    entry = {"message": "0 of 1 have an endpoint", "status": "degraded"}
    assert body["dependencies"]["pools"] == entry
    assert loom.ask_admin("/health/ready").status == 200, "another instance has the same upstream"


def test_health_is_for_get_only(stage: Stage):
    assert ask(stage.loom.admin, "/health", "POST", body=b"").status == 405


def test_what_is_not_asked_for_is_not_public(stage: Stage):
    """The listener `http` answers no health page: the path belongs to the app there."""
    assert stage.loom.ask("/health").json()["target"] == "/health"
    assert (
        ask(stage.loom.addresses["public"], "/api/v1/status").json()["target"] == "/api/v1/status"
    )


def test_metrics_are_what_prometheus_reads(stage: Stage):
    stage.ask()
    samples = stage.loom.metrics()
    names = {sample.name for sample in samples}
    for wanted in (
        "loomproxy_requests_total",
        "loomproxy_request_duration_seconds_bucket",
        "loomproxy_in_flight",
        "loomproxy_worker_restarts_total",
    ):
        assert wanted in names, sorted(names)
    response = ask(stage.loom.addresses["public"], "/metrics")
    assert response.head.field("content-type").startswith("text/plain")
    assert b"# TYPE loomproxy_requests_total counter" in response.body


def test_requests_are_counted_by_route_pool_and_class(stage: Stage):
    def count() -> float:
        return stage.loom.metric("loomproxy_requests_total", route="app", pool="app", code="2xx")

    before = steady(count, for_s=0.3)
    for _ in range(5):
        stage.ask()
    eventually(lambda: count() == before + 5, "five more requests")


def test_sums_are_over_all_workers_and_survive_the_end_of_one(proxies, origin):
    loom = proxies.start(
        settings(node={"workers": 2}, pools={"app": pool(origin.url)}, routes=[to("app")])
    )
    for _ in range(30):
        assert loom.ask("/x").status == 200
    eventually(lambda: total(loom) == 30, "thirty requests counted, whichever worker had them")
    victim, _ = loom.workers()
    processes.kill(victim)
    seen = []

    def back() -> bool:
        seen.append(total(loom))
        return len([pid for pid in loom.workers() if pid != victim]) == 2 and ready(loom)

    eventually(back, "two workers again")
    assert min(seen) == 30, "a sum went backwards"
    for _ in range(10):
        assert loom.ask("/x").status == 200
    eventually(lambda: total(loom) == 40, "ten more requests counted")
    assert loom.metric("loomproxy_worker_restarts_total") == 1


def total(loom: Loom) -> float:
    return loom.metric("loomproxy_requests_total")


def ready(loom: Loom) -> bool:
    return loom.ask_admin("/health/ready").status == 200


def test_bytes_and_connections_are_counted(stage: Stage):
    def sent() -> float:
        return stage.loom.metric("loomproxy_bytes_total", route="app", direction="response")

    before = steady(sent, for_s=0.3)
    with stage.caller() as caller:
        body = caller.get(stage.path, "POST", body=b"x" * 1000).body
        eventually(lambda: sent() == before + len(body), "the bytes of one answer")
        eventually(
            lambda: stage.loom.metric("loomproxy_connections", side="downstream") >= 1,
            "a connection",
        )
    eventually(lambda: stage.loom.metric("loomproxy_in_flight") == 0, "nothing in flight")


def test_the_status_page_shows_workers_and_pools(stage: Stage):
    stage.ask()
    status = stage.loom.ask_admin("/api/v1/status").json()
    assert {pool["name"] for pool in status["pools"]} == {"app"}
    assert [worker["pid"] for worker in status["workers"]] == stage.loom.workers()
    done = stage.loom.run("status")
    assert done.returncode == 0, done.stderr
    assert stage.origin.url in done.stdout


def test_scraping_under_load_disturbs_nobody(stage: Stage):
    with Load(stage.loom.http, stage.path, callers=4) as load:
        for _ in range(10):
            load.wait_answered(5)
            assert stage.loom.metrics()
        score = load.finish()
    assert (score.failed, score.raced) == ([], 0)

"""The metrics page, read back as Prometheus would read it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from loomproxy.channel import EndpointStatus, PoolStatus
from loomproxy.core.outcome import ESTIMATED, Outcome, Spent
from loomproxy.core.tally import BUCKETS_S, Tally
from loomproxy.core.units import Instant
from loomproxy.node.exposition import CONTENT_TYPE, Reading, WorkerReading, render


def outcome(**changes: object) -> Outcome:
    told: dict[str, object] = {
        "route": "web",
        "pool": "app",
        "status": 200,
        "attempts": 1,
        "request_bytes": 5,
        "response_bytes": 700,
        "begun_at": Instant(128.0),
        "connecting_at": Instant(128.0),
        "opened_at": Instant(128.0 + 1 / 64),
        "answered_at": Instant(128.0 + 3 / 64),
        "ended_at": Instant(128.125),
    }
    return Outcome(b"id", b"192.0.2.1", None, **(told | changes))  # type: ignore[arg-type] # any of them


def endpoint(**changes: object) -> EndpointStatus:
    told: dict[str, object] = {
        "address": "http://app:1",
        "weight": 1,
        "enabled": True,
        "healthy": True,
        "ejected_for_s": 0.0,
        "in_flight": 2,
        "keepalive": 3,
    }
    return EndpointStatus(**(told | changes))  # type: ignore[arg-type] # any of them


def worker(slot: int, *endpoints: EndpointStatus) -> WorkerReading:
    pools = (PoolStatus("app", 4, endpoints),) if endpoints else ()
    return WorkerReading(slot, connections=10, in_flight=6, loop_lag_s=0.25, pools=pools)


def reading(tally: Tally | None = None, *workers: WorkerReading) -> Reading:
    return Reading(
        version="1.2.3",
        revision=7,
        ready=True,
        tally=Tally() if tally is None else tally,
        workers=workers,
        worker_restarts=5,
        reloads={"published": 2, "refused": 1},
        node_loop_lag_s=0.5,
    )


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and sorted labels; none may be there twice."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def value(page: bytes, name: str, **labels: str) -> float:
    return samples(page)[f"loomproxy_{name}", tuple(sorted(labels.items()))]


def names(page: bytes) -> set[str]:
    return {name for name, _ in samples(page)}


def test_every_promised_metric_is_described_and_typed() -> None:
    tally = Tally()
    tally.count(outcome(termination="UD"))
    page = render(reading(tally, worker(0, endpoint())))
    types = {
        family.name: (family.type, family.documentation)
        for family in text_string_to_metric_families(page.decode())
    }
    promised = {
        "loomproxy_requests": "counter",
        "loomproxy_retries": "counter",
        "loomproxy_bytes": "counter",
        "loomproxy_terminations": "counter",
        "loomproxy_limits": "counter",
        "loomproxy_reloads": "counter",
        "loomproxy_worker_restarts": "counter",
        "loomproxy_access_log_dropped": "counter",
        "loomproxy_chats": "counter",
        "loomproxy_chats_estimated": "counter",
        "loomproxy_chat_tokens": "counter",
        "loomproxy_request_duration_seconds": "histogram",
        "loomproxy_upstream_connect_seconds": "histogram",
        "loomproxy_upstream_first_byte_seconds": "histogram",
        "loomproxy_in_flight": "gauge",
        "loomproxy_connections": "gauge",
        "loomproxy_endpoint_healthy": "gauge",
        "loomproxy_endpoint_in_flight": "gauge",
        "loomproxy_pool_waiting": "gauge",
        "loomproxy_event_loop_lag_seconds": "gauge",
        "loomproxy_build_info": "gauge",
        "loomproxy_config_revision": "gauge",
        "loomproxy_ready": "gauge",
    }
    assert {name: kind for name, (kind, _) in types.items()} == promised
    assert all(text.endswith(".") for _, text in types.values())
    assert CONTENT_TYPE.startswith(b"text/plain; version=0.0.4")


def test_requests_by_route_pool_and_class() -> None:
    tally = Tally()
    for status in (200, 204, 502, 0):
        tally.count(outcome(status=status))
    tally.count(outcome(route="api", attempts=3))
    page = render(reading(tally))
    assert value(page, "requests_total", route="web", pool="app", code="2xx") == 2
    assert value(page, "requests_total", route="web", pool="app", code="5xx") == 1
    assert value(page, "requests_total", route="web", pool="app", code="none") == 1
    assert value(page, "requests_total", route="api", pool="app", code="2xx") == 1
    assert value(page, "retries_total", route="api", pool="app") == 2
    assert value(page, "retries_total", route="web", pool="app") == 0
    assert value(page, "bytes_total", route="web", pool="app", direction="request") == 20
    assert value(page, "bytes_total", route="web", pool="app", direction="response") == 2800


def test_chats_by_provider_and_model() -> None:
    tally = Tally()
    spent = Spent("acme", "m1", 5, 3, ESTIMATED, stream=True)
    tally.count(outcome(chat=spent))
    tally.count(outcome(chat=spent, fault="stream_truncated", termination="UD"))
    page = render(reading(tally))
    model = {"provider": "acme", "model": "m1"}
    assert value(page, "chats_total", result="ok", **model) == 1
    assert value(page, "chats_total", result="stream_truncated", **model) == 1
    assert value(page, "chat_tokens_total", kind="prompt", **model) == 10
    assert value(page, "chat_tokens_total", kind="completion", **model) == 6
    assert value(page, "chats_estimated_total", **model) == 2


def test_limits_by_listener_and_reason() -> None:
    tally = Tally()
    tally.note_limit("public", "client_idle")
    tally.note_limit("public", "client_idle")
    tally.note_limit("private", "client_idle")
    page = render(reading(tally))
    assert value(page, "limits_total", listener="public", reason="client_idle") == 2
    assert value(page, "limits_total", listener="private", reason="client_idle") == 1


def test_class_that_never_was_has_no_line() -> None:
    tally = Tally()
    tally.count(outcome())
    page = render(reading(tally))
    codes = {
        dict(labels)["code"] for name, labels in samples(page) if name.endswith("requests_total")
    }
    assert codes == {"2xx"}


def test_histogram_buckets_add_up() -> None:
    tally = Tally()
    tally.count(outcome())
    tally.count(outcome(ended_at=Instant(128.0 + 7)))
    tally.count(outcome(ended_at=Instant(128.0 + 100)))
    page = render(reading(tally))
    of = {"route": "web", "pool": "app"}
    counts = [
        value(page, "request_duration_seconds_bucket", le=str(bound), **of) for bound in BUCKETS_S
    ]
    assert counts == sorted(counts)
    assert dict(zip(BUCKETS_S, counts, strict=True)) == {
        bound: (bound >= 0.125) + (bound >= 7) for bound in BUCKETS_S
    }
    assert value(page, "request_duration_seconds_bucket", le="+Inf", **of) == 3
    assert value(page, "request_duration_seconds_count", **of) == 3
    assert value(page, "request_duration_seconds_sum", **of) == 107.125
    assert value(page, "upstream_connect_seconds_sum", **of) == 3 / 64
    assert value(page, "upstream_first_byte_seconds_sum", **of) == 3 / 32


def test_route_without_a_pool_has_no_upstream_histograms() -> None:
    tally = Tally()
    tally.count(outcome(pool="-", attempts=0, opened_at=Instant(0.0)))
    page = render(reading(tally))
    assert value(page, "request_duration_seconds_count", route="web", pool="-") == 1
    assert "loomproxy_upstream_connect_seconds_count" not in names(page)
    assert "loomproxy_upstream_first_byte_seconds_count" not in names(page)


def test_terminations_by_their_letters() -> None:
    tally = Tally()
    for letters in ("uH", "uH", "CD", "--"):
        tally.count(outcome(termination=letters))
    page = render(reading(tally))
    assert value(page, "terminations_total", code="uH") == 2
    assert value(page, "terminations_total", code="CD") == 1
    assert ("loomproxy_terminations_total", (("code", "--"),)) not in samples(page)


def test_lost_access_log_lines() -> None:
    tally = Tally(access_log_dropped=9)
    assert value(render(reading(tally)), "access_log_dropped_total") == 9


def test_gauges_are_summed_over_workers() -> None:
    page = render(reading(None, worker(0, endpoint()), worker(1, endpoint(in_flight=1))))
    assert value(page, "in_flight") == 12
    assert value(page, "connections", side="downstream") == 20
    assert value(page, "connections", side="upstream") == 3 + 6
    assert value(page, "endpoint_in_flight", pool="app", endpoint="http://app:1") == 3
    assert value(page, "pool_waiting", pool="app") == 8


@pytest.mark.parametrize(
    ("changes", "healthy"), [({}, 1), ({"healthy": False}, 0), ({"ejected_for_s": 0.1}, 0)]
)
def test_endpoint_is_healthy_when_every_worker_finds_so(
    changes: dict[str, object], healthy: int
) -> None:
    other = endpoint(address="http://app:2")
    page = render(reading(None, worker(0, endpoint(), other), worker(1, endpoint(**changes))))
    assert value(page, "endpoint_healthy", pool="app", endpoint="http://app:1") == healthy
    assert value(page, "endpoint_healthy", pool="app", endpoint="http://app:2") == 1


def test_house_itself() -> None:
    page = render(reading(None, worker(0), worker(3)))
    assert value(page, "reloads_total", result="published") == 2
    assert value(page, "reloads_total", result="refused") == 1
    assert value(page, "worker_restarts_total") == 5
    assert value(page, "event_loop_lag_seconds", process="node") == 0.5
    assert value(page, "event_loop_lag_seconds", process="worker-0") == 0.25
    assert value(page, "event_loop_lag_seconds", process="worker-3") == 0.25
    assert value(page, "build_info", version="1.2.3") == 1
    assert value(page, "config_revision") == 7
    assert value(page, "ready") == 1


def test_house_without_workers_has_a_page_too() -> None:
    page = render(reading())
    assert value(page, "in_flight") == 0
    assert value(page, "connections", side="upstream") == 0


@settings(max_examples=50)
@given(st.text(), st.text())
def test_any_name_survives_the_journey(route: str, pool: str) -> None:
    tally = Tally()
    tally.count(outcome(route=route, pool=pool))
    text = render(reading(tally)).decode()
    found = [
        sample.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "loomproxy_requests_total"
    ]
    assert found == [{"route": route, "pool": pool, "code": "2xx"}]


def test_names_are_escaped() -> None:
    tally = Tally()
    tally.count(outcome(route='a"b\\c\nd'))
    page = render(reading(tally))
    assert rb'route="a\"b\\c\nd"' in page
    assert value(page, "requests_total", route='a"b\\c\nd', pool="app", code="2xx") == 1

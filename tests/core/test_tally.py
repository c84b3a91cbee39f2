"""What is counted of an exchange, and sums that never go backwards."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.core import tally as module
from loomproxy.core.outcome import COUNTED, ESTIMATED, Outcome, Spent
from loomproxy.core.tally import (
    BUCKETS_S,
    CODE_CLASSES,
    OVERFLOW,
    SERIES_MAX,
    ChatSeries,
    Histogram,
    Series,
    Tally,
    Totals,
    merge,
)
from loomproxy.core.units import Instant


def outcome(**changes: object) -> Outcome:
    """A proxied exchange: 16 ms to connect, 31 ms to the head, 125 ms in all; exact in binary."""
    told: dict[str, object] = {
        "route": "web",
        "pool": "app",
        "endpoint": "http://app:9000",
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


def counted(*outcomes: Outcome) -> Tally:
    tally = Tally()
    for each in outcomes:
        tally.count(each)
    return tally


def web(tally: Tally) -> Series:
    return tally.series["web", "app"]


def seen(histogram: Histogram) -> int:
    return sum(histogram.counts)


def bucket_of(histogram: Histogram) -> float:
    """The upper bound of the only observation's bucket."""
    assert seen(histogram) == 1
    return (*BUCKETS_S, float("inf"))[histogram.counts.index(1)]


def test_buckets_go_from_half_a_millisecond_to_a_minute() -> None:
    assert BUCKETS_S[0] == 0.0005
    assert BUCKETS_S[-1] == 60.0
    assert list(BUCKETS_S) == sorted(set(BUCKETS_S))


def test_good_exchange_is_counted_whole() -> None:
    tally = counted(outcome())
    series = web(tally)
    assert dict(zip(CODE_CLASSES, series.requests, strict=True))["2xx"] == 1
    assert sum(series.requests) == 1
    assert (series.request_bytes, series.response_bytes) == (5, 700)
    assert series.retries == 0
    assert bucket_of(series.duration) == 0.25
    assert series.duration.sum_s == 1 / 8
    assert bucket_of(series.connect) == 0.025
    assert series.connect.sum_s == 1 / 64
    assert bucket_of(series.first_byte) == 0.05
    assert series.first_byte.sum_s == 1 / 32
    assert tally.terminations == {}


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, "none"), (101, "1xx"), (204, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx")],
)
def test_each_status_has_its_class(status: int, code: str) -> None:
    requests = web(counted(outcome(status=status))).requests
    assert [name for name, times in zip(CODE_CLASSES, requests, strict=True) if times] == [code]


def test_routes_and_pools_are_counted_apart() -> None:
    tally = counted(outcome(), outcome(route="api"), outcome(pool="other"), outcome())
    assert set(tally.series) == {("web", "app"), ("api", "app"), ("web", "other")}
    assert sum(web(tally).requests) == 2


@pytest.mark.parametrize(
    ("took_s", "bound_s"), [(0.0, 0.0005), (0.0005, 0.0005), (60.0, 60.0), (60.1, float("inf"))]
)
def test_bound_belongs_to_its_bucket(took_s: float, bound_s: float) -> None:
    histogram = Histogram()
    histogram.observe(took_s)
    assert bucket_of(histogram) == bound_s


def test_reused_connection_took_no_time_to_open() -> None:
    series = web(counted(outcome(reused=True)))
    assert seen(series.connect) == 0
    assert seen(series.first_byte) == 1


def test_further_attempts_are_retries() -> None:
    assert web(counted(outcome(attempts=3, reused=True))).retries == 2
    assert web(counted(outcome(attempts=3))).retries == 2


def test_route_that_answers_itself_has_no_upstream_times() -> None:
    zero = Instant(0.0)
    tally = counted(outcome(pool="-", attempts=0, connecting_at=zero, opened_at=zero))
    series = tally.series["web", "-"]
    assert (seen(series.connect), seen(series.first_byte)) == (0, 0)
    assert seen(series.duration) == 1
    assert series.retries == 0


def test_tunnel_does_not_spoil_the_durations() -> None:
    series = web(counted(outcome(status=101, ended_at=Instant(9999.0))))
    assert sum(series.requests) == 1
    assert seen(series.duration) == 0


def test_upstream_that_was_never_reached_has_no_times() -> None:
    failed = outcome(status=502, fault="connect_failed", termination="UC", opened_at=Instant(0.0))
    tally = counted(failed)
    assert (seen(web(tally).connect), seen(web(tally).first_byte)) == (0, 0)
    assert tally.terminations == {"UC": 1}


def test_answer_of_ours_is_not_the_first_byte_of_the_upstream() -> None:
    late = outcome(status=504, fault="upstream_timeout", termination="uH")
    tally = counted(late, late)
    assert seen(web(tally).first_byte) == 0
    assert seen(web(tally).connect) == 2
    assert tally.terminations == {"uH": 2}


@pytest.mark.parametrize("letters", ["UD", "cL", "LT"])
def test_trouble_after_the_head_does_not_hide_when_it_came(letters: str) -> None:
    tally = counted(outcome(fault="x", termination=letters))
    assert seen(web(tally).first_byte) == 1
    assert tally.terminations == {letters: 1}


def test_open_moment_of_an_earlier_attempt_is_not_taken_for_the_last_one() -> None:
    series = web(counted(outcome(attempts=2, connecting_at=Instant(128.02), termination="UC")))
    assert seen(series.connect) == 0
    assert series.connect.sum_s == 0.0


def test_names_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERIES_MAX >= 1000
    monkeypatch.setattr(module, "SERIES_MAX", 3)
    tally = counted(*(outcome(route=f"route-{number}") for number in range(10)))
    assert len(tally.series) == 3 + 1
    assert sum(tally.series[OVERFLOW].requests) == 7
    total = merge([counted(outcome(route="a"), outcome(route="b")), tally])
    assert len(total.series) == 3 + 1
    assert sum(sum(each.requests) for each in total.series.values()) == 12


def test_tally_survives_its_journey() -> None:
    tally = counted(outcome(), outcome(status=502, termination="UC"))
    tally.access_log_dropped = 7
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally) == tally


def test_merging_shares_nothing() -> None:
    one = counted(outcome())
    total = merge([one])
    assert total == one
    total.count(outcome(status=500, termination="UH"))
    assert sum(web(one).requests) == 1
    assert one.terminations == {}


@pytest.mark.parametrize(
    ("fault", "termination", "counted_as"),
    [
        ("client_body_slow", "cH", {("public", "client_body_slow"): 1}),
        ("request_malformed", "LR", {("public", "request_malformed"): 1}),
        ("no_route", "LP", {}),
        ("method_not_allowed", "LP", {}),
        ("client_left", "CD", {}),
        ("upstream_timeout", "uH", {}),
        ("tunnel_idle", "lT", {}),
        ("queue_timeout", "rQ", {}),
    ],
)
def test_faults_that_are_limits_on_clients_are_counted_by_listener(
    fault: str, termination: str, counted_as: dict[tuple[str, str], int]
) -> None:
    one = counted(outcome(fault=fault, termination=termination, listener="public"))
    assert one.limits == counted_as
    assert one.terminations == {termination: 1}


def test_all_counters_are_summed() -> None:
    one = counted(outcome(attempts=2), outcome(route="api", termination="--"))
    other = counted(outcome(termination="UD"), outcome(termination="UD", attempts=3))
    one.access_log_dropped, other.access_log_dropped = 2, 3
    for each in (one, one, other):
        each.note_limit("public", "client_idle")
    other.note_limit("private", "client_idle")
    total = merge([one, other])
    series = web(total)
    assert sum(series.requests) == 3
    assert series.retries == 3
    assert (series.request_bytes, series.response_bytes) == (15, 2100)
    assert [seen(each) for each in (series.duration, series.connect, series.first_byte)] == [3] * 3
    assert series.duration.sum_s == 3 / 8
    assert total.terminations == {"UD": 2}
    assert total.limits == {("public", "client_idle"): 3, ("private", "client_idle"): 1}
    assert total.access_log_dropped == 5
    assert set(total.series) == {("web", "app"), ("api", "app")}


def test_worker_that_is_gone_leaves_what_it_counted() -> None:
    totals = Totals()
    totals.heard("first", counted(outcome()))
    totals.heard("first", counted(outcome(), outcome()))
    totals.lost("first")
    totals.lost("first")
    totals.lost("never heard of")
    totals.heard("second", counted(outcome()))
    assert sum(web(totals.total()).requests) == 3


def test_nothing_heard_is_nothing_counted() -> None:
    assert Totals().total() == Tally()


OUTCOMES = st.builds(
    outcome,
    route=st.sampled_from(["a", "b"]),
    status=st.sampled_from([0, 101, 200, 404, 502]),
    termination=st.sampled_from(["--", "UD", "uH", "UC"]),
    reused=st.booleans(),
    attempts=st.integers(0, 3),
    request_bytes=st.integers(0, 10),
    ended_at=st.floats(128.1, 500.0).map(Instant),
)


def counters(tally: Tally) -> dict[str, float]:
    """Every single number of a tally, by its place."""
    flat: dict[str, float] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(f"{path}.{key}", each)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                walk(f"{path}.{index}", each)
        elif isinstance(value, int | float):
            flat[path] = value

    walk("", msgspec.to_builtins(tally, str_keys=False))
    return flat


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["count", "tell", "die"]), OUTCOMES)))
def test_sums_never_go_backwards(story: list[tuple[int, str, Outcome]]) -> None:
    totals = Totals()
    workers = {slot: Tally() for slot in range(3)}
    starts = dict.fromkeys(range(3), 0)
    before: dict[str, float] = {}
    told = 0
    for slot, what, one in story:
        key = (slot, starts[slot])
        if what == "count":
            workers[slot].count(one)
        elif what == "tell":
            copy = msgspec.msgpack.decode(msgspec.msgpack.encode(workers[slot]), type=Tally)
            totals.heard(key, copy)
        else:
            totals.lost(key)
            starts[slot] += 1
            workers[slot] = Tally()
        after = counters(totals.total())
        for place, value in before.items():
            assert after[place] >= value - 1e-9
        before = after
        told = max(told, sum(sum(each.requests) for each in totals.total().series.values()))
    assert told <= sum(what == "count" for _, what, _ in story)


def durations(*seconds: float) -> Histogram:
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    return histogram


def test_quantile_is_read_off_a_line_through_its_bucket() -> None:
    four = durations(0.06, 0.06, 0.06, 0.06)  # all in the bucket from 0.05 to 0.1
    assert four.quantile(0.5) == pytest.approx(0.075)
    assert four.quantile(1.0) == pytest.approx(0.1)
    assert durations(0.0001).quantile(0.5) == pytest.approx(0.00025)  # the first begins at 0


def test_quantile_passes_empty_buckets_by() -> None:
    mixed = durations(*([0.002] * 98), 7.0, 7.0)
    assert mixed.quantile(0.5) == pytest.approx(0.001 + 0.0015 * 50 / 98)
    assert mixed.quantile(0.98) == pytest.approx(0.0025)
    assert mixed.quantile(0.99) == pytest.approx(7.5)


def test_quantile_of_nothing_and_beyond_all_bounds() -> None:
    assert Histogram().quantile(0.5) is None
    assert durations(0.2, 3600.0).quantile(0.99) == BUCKETS_S[-1]


@given(st.lists(st.floats(0.0, 60.0), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    found = durations(*seconds).quantile(share)
    assert found is not None
    bounds = (0.0, *BUCKETS_S)
    enough = [high for high in BUCKETS_S if sum(s <= high for s in seconds) >= share * len(seconds)]
    high = min(enough)
    assert bounds[bounds.index(high) - 1] <= found <= high * (1 + 1e-9)


def chat(
    provider: str = "acme", usage_from: str = COUNTED, refused: str = "", **changes: object
) -> Outcome:
    spent = Spent(provider, "m", 5, 3, usage_from, stream=True, provider_error=refused)
    return outcome(chat=spent, **changes)


def test_chats_are_counted_by_provider_and_model() -> None:
    tally = counted(
        chat(),
        chat(usage_from=ESTIMATED, fault="stream_truncated", termination="UD"),
        chat(status=429, refused="rate_limit_exceeded"),
        chat("other"),
        outcome(),
    )
    assert tally.chats == {
        ("acme", "m"): ChatSeries(
            15, 9, 1, {"ok": 1, "stream_truncated": 1, "rate_limit_exceeded": 1}
        ),
        ("other", "m"): ChatSeries(5, 3, 0, {"ok": 1}),
    }
    total = merge([tally, counted(chat())])
    assert total.chats["acme", "m"] == ChatSeries(
        20, 12, 1, {"ok": 2, "stream_truncated": 1, "rate_limit_exceeded": 1}
    )
    assert tally.chats["acme", "m"].prompt_tokens == 15, "nothing is shared"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally) == tally


def test_providers_without_end_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHAT_SERIES_MAX", 1)
    tally = counted(chat(), chat("b"), chat("c"), chat())
    assert tally.chats["acme", "m"].results == {"ok": 2}
    assert tally.chats[OVERFLOW].results == {"ok": 2}
    assert len(tally.chats) == 2

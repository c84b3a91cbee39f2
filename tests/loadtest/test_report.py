"""Medians over rounds, ratios to nginx, and tables that Markdown and a terminal both read."""

import pytest

from loadtest.accounting import CpuTime
from loadtest.load import Load, Unit
from loadtest.report import (
    Figures,
    Measurement,
    added_ms,
    figures,
    headings,
    ratio_to_reference,
    row,
    table,
)

REQUEST = Unit("request", "requests")
CHUNK = Unit("chunk", "chunks", timed="first byte", paced=True)


def measured(proxy: str, user_s: float, kernel_s: float, *, failed: int = 0) -> Measurement:
    load = Load(
        done=10_000,
        duration_us=1_000_000,
        p50_us=1500 if proxy == "direct" else 1750,
        p99_us=4000,
        failures={"read_failed": failed},
    )
    return Measurement("small", proxy, CpuTime(user_s, kernel_s), load, foreign=0.0)


def test_cpu_is_divided_by_requests_and_by_time() -> None:
    one = measured("nginx", 0.1, 0.4)
    assert one.cpu_us == pytest.approx(50.0)
    assert one.busy == pytest.approx(0.5)


def test_an_outlier_does_not_move_the_median_but_shows_in_the_range() -> None:
    rounds = [measured("nginx", 0.1, used) for used in (0.1, 0.8, 0.12)]
    found = figures(rounds)
    assert found.cpu_us == pytest.approx(22.0)
    assert (found.cpu_us_min, found.cpu_us_max) == pytest.approx((20.0, 90.0))
    assert found.kernel_us == pytest.approx(12.0)
    assert found.user_us == pytest.approx(10.0)
    assert (found.rounds, found.done) == (3, 30_000)
    assert found.per_s == pytest.approx(10_000)
    assert (found.p50_ms, found.p99_ms) == pytest.approx((1.75, 4.0))


def test_failures_of_all_rounds_are_added_up() -> None:
    rounds = [measured("nginx", 0.1, 0.1, failed=count) for count in (0, 3, 0)]
    assert figures(rounds).failed == 3


def test_rounds_of_two_proxies_are_never_mixed() -> None:
    with pytest.raises(AssertionError, match="different things"):
        figures([measured("nginx", 0.1, 0.1), measured("envoy", 0.1, 0.1)])


def all_figures() -> list[Figures]:
    return [
        figures([measured(name, cost, cost)])
        for name, cost in (("direct", 0.05), ("nginx", 0.1), ("loomproxy", 0.15))
    ]


def test_the_ratio_is_to_nginx_of_the_same_run() -> None:
    direct, nginx, ours = beside = all_figures()
    assert ratio_to_reference(nginx, beside) == pytest.approx(1.0)
    assert ratio_to_reference(ours, beside) == pytest.approx(1.5)
    assert ratio_to_reference(direct, beside) is None


def test_without_nginx_there_is_no_ratio() -> None:
    _, _, ours = all_figures()
    assert ratio_to_reference(ours, [ours]) is None


def test_what_a_proxy_adds_is_to_no_proxy_of_the_same_run() -> None:
    direct, nginx, _ = beside = all_figures()
    assert added_ms(nginx, beside) == pytest.approx((0.25, 0.0))
    assert added_ms(direct, beside) is None
    assert added_ms(nginx, [nginx]) is None


def cells(one: Figures, beside: list[Figures], unit: Unit) -> dict[str, str]:
    return dict(zip(headings(unit), row(one, beside, unit), strict=True))


def test_a_row_has_a_cell_for_every_heading() -> None:
    beside = all_figures()
    found = cells(beside[2], beside, REQUEST)
    assert found["proxy"] == "loomproxy"
    assert found["CPU µs / request"] == "30.0"
    assert found["of nginx"] == "1.50 x"
    assert found["requests / s"] == "10000"
    assert found["per CPU second"] == "33333"
    assert found["p50 ms"] == "1.75"
    assert found["core busy"] == "30%"
    assert found["failed"] == "0"


def test_the_table_speaks_of_what_its_workload_counts_and_times() -> None:
    beside = all_figures()
    found = cells(beside[2], beside, CHUNK)
    assert found["CPU µs / chunk"] == "30.0"
    assert found["chunks / s"] == "10000"
    assert found["first byte p50 ms"] == "1.75"
    assert (found["added p50 ms"], found["added p99 ms"]) == ("+0.25", "+0.00")
    assert cells(beside[0], beside, CHUNK)["added p50 ms"] == ""


def test_a_table_is_aligned_and_is_markdown() -> None:
    assert table(("name", "µs"), [("a", "1.5"), ("longer", "10.25")]) == [
        "| name   |    µs |",
        "| ------ | ----: |",
        "| a      |   1.5 |",
        "| longer | 10.25 |",
    ]


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table(("name",), [("a", "1.5")])

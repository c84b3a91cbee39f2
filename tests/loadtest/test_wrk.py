"""What wrk is told, and what it says."""

from dataclasses import replace

import pytest

from loadtest.trouble import Trouble
from loadtest.workloads import BY_NAME, WORKLOADS
from loadtest.wrk import MARK, Load, parse, script

OUTPUT = """Running 2s test @ http://127.0.0.1:8080/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  310.00us   9.10ms   84.15%
  90210 requests in 2.00s, 15.40MB read
Requests/sec:  45105.00
measured requests=90210 duration_us=2000500 bytes_read=16148000 connect_failed=1 read_failed=2 \
write_failed=3 status_failed=4 timed_out=5 p50_us=1050 p99_us=2290
"""
LOAD = Load(
    requests=90210,
    duration_us=2_000_500,
    bytes_read=16_148_000,
    connect_failed=1,
    read_failed=2,
    write_failed=3,
    status_failed=4,
    timed_out=5,
    p50_us=1050,
    p99_us=2290,
)


def test_the_exact_figures_are_taken_and_the_rounded_ones_are_not() -> None:
    assert parse(OUTPUT) == LOAD


def test_every_kind_of_failure_counts() -> None:
    assert LOAD.failed == 15
    assert replace(LOAD, status_failed=0).failed == 11


def test_throughput_is_over_the_measured_duration() -> None:
    assert replace(LOAD, requests=1000, duration_us=500_000).requests_per_s == 2000.0


@pytest.mark.parametrize(
    "output",
    [
        "",
        "unable to connect to 127.0.0.1:1 Connection refused\n",
        f"{MARK}requests=1 duration_us=2\n",
        OUTPUT.replace("p99_us=2290", "p99_us=nan"),
        OUTPUT.replace("requests=90210", "requests"),
    ],
)
def test_output_without_the_whole_line_is_trouble(output: str) -> None:
    with pytest.raises(Trouble, match="wrk: "):
        parse(output)


def test_the_body_of_a_post_is_exactly_1_kib_of_json() -> None:
    text = script(BY_NAME["post"])
    assert 'wrk.method = "POST"' in text
    body = text.partition("[==[")[2].partition("]==]")[0]
    assert len(body) == 1024
    assert body.startswith('{"note":"')
    assert body.endswith('"}')


def test_a_get_has_no_body() -> None:
    assert "wrk.body" not in script(BY_NAME["small"])


def test_the_small_get_carries_three_fields_with_host() -> None:
    assert len(BY_NAME["small"].fields) == 2


def test_every_workload_keeps_its_connection_but_one() -> None:
    closing = [one.name for one in WORKLOADS if "Connection: close" in one.fields]
    assert closing == ["connect"]

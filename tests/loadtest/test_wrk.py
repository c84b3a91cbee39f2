"""What wrk is told, and what it says."""

import pytest

from loadtest.load import Load
from loadtest.trouble import Trouble
from loadtest.workloads import CONNECT, MUCH_UP, POST, SMALL, WORKLOADS
from loadtest.wrk import MARK, Requests, parse, script

OUTPUT = """Running 2s test @ http://127.0.0.1:8080/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  310.00us   9.10ms   84.15%
  90210 requests in 2.00s, 15.40MB read
Requests/sec:  45105.00
measured requests=90210 duration_us=2000500 connect_failed=1 read_failed=2 \
write_failed=3 status_failed=4 timed_out=5 p50_us=1050 p99_us=2290
"""
LOAD = Load(
    done=90210,
    duration_us=2_000_500,
    p50_us=1050,
    p99_us=2290,
    failures={
        "connect_failed": 1,
        "read_failed": 2,
        "write_failed": 3,
        "status_failed": 4,
        "timed_out": 5,
    },
)


def test_the_exact_figures_are_taken_and_the_rounded_ones_are_not() -> None:
    assert parse(OUTPUT) == LOAD


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


def body_of(requests: Requests) -> str:
    return script(requests).partition("[==[")[2].partition("]==]")[0]


def test_the_body_of_a_post_is_exactly_1_kib_of_json() -> None:
    assert 'wrk.method = "POST"' in script(POST)
    body = body_of(POST)
    assert len(body) == 1024
    assert body.startswith('{"note":"')
    assert body.endswith('"}')


def test_what_goes_up_is_exactly_1_mib() -> None:
    assert len(body_of(MUCH_UP)) == 1 << 20


def test_a_get_has_no_body() -> None:
    assert "wrk.body" not in script(SMALL)


def test_the_small_get_carries_three_fields_with_host() -> None:
    assert len(SMALL.fields) == 2


def test_every_request_keeps_its_connection_but_one() -> None:
    clients = [one.client for one in WORKLOADS if isinstance(one.client, Requests)]
    assert [one for one in clients if "Connection: close" in one.fields] == [CONNECT]

"""What a request costs with 1, 2, 3 … instances: if it costs the same, they scale linearly.

The offered load is the same for each instance, and far from what it could carry. What is measured
is CPU time of all processes of all instances, agreement included, for each request that HAProxy
sent to them; not what a machine reaches that client, balancer and instances share.
"""

import argparse
import time

import msgspec

from loadtest.accounting import CpuTime
from loadtest.together import behind_balancers, cpu_of, markdown
from tests.support.pace import pace

WARM_UP_S = 3.0
US_PER_S = 1_000_000


class Figures(msgspec.Struct, frozen=True):
    """What so many instances used."""

    instances: int
    requests: int
    failed: int
    took_s: float
    cpu: CpuTime
    idle_cpu: float  # cores, of all instances without a request
    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU time for each request, what an idle instance uses included."""
        return self.cpu.total_s * US_PER_S / self.requests


def run(options: argparse.Namespace) -> int:
    """Measure each number of instances, and print a table."""
    found = [_measured(count, options.rate, options.seconds) for count in options.instances]
    heads = (
        *("instances", "requests/s", "failed", "CPU µs/request", "of it agreeing and idling"),
        *("p50, ms", "p99, ms"),
    )
    rows = [
        (
            one.instances,
            f"{one.requests / one.took_s:.0f}",
            one.failed,
            f"{one.cpu_us:.0f}",
            f"{one.idle_cpu * one.took_s * US_PER_S / one.requests:.0f}",
            f"{one.p50_ms:.1f}",
            f"{one.p99_ms:.1f}",
        )
        for one in found
    ]
    print(markdown(heads, rows))
    return 0


def _measured(count: int, rate: float, seconds: float) -> Figures:
    with behind_balancers(count) as play:
        instances = list(play.looms.values())
        idle_before, idle_at = cpu_of(instances), time.monotonic()
        time.sleep(seconds / 2)
        idle_s = (cpu_of(instances) - idle_before).total_s
        idle_cpu = idle_s / (time.monotonic() - idle_at)
        with pace(play.sticky, rate * count, "/hello") as client:
            time.sleep(WARM_UP_S)
            before, began = cpu_of(instances), time.monotonic()
            time.sleep(seconds)
            cpu, ended = cpu_of(instances) - before, time.monotonic()
        asked = [one for one in client.asked if began <= one.at < ended]
        times = sorted(one.took_s for one in asked)
        return Figures(
            instances=count,
            requests=len(asked),
            failed=sum(one.status != 200 for one in asked),
            took_s=ended - began,
            cpu=cpu,
            idle_cpu=idle_cpu,
            p50_ms=times[len(times) // 2] * 1000,
            p99_ms=times[len(times) * 99 // 100] * 1000,
        )

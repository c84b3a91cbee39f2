"""What a request costs with 1, 2, 3 … instances: if it costs the same, they scale linearly.

The offered load is the same for each instance, and far from what it could carry. What is measured
is CPU time of all processes of all instances, agreement included, for each request that HAProxy
sent to them. Client, balancer, upstream, database and instances share one machine, whose cores
do less for each the more of them there are; so as many instances that know nothing of one another
are measured beside them: what these cost more with their number is the machine's doing.
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
    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU time for each request, what an idle instance uses included."""
        return self.cpu.total_s * US_PER_S / self.requests


def run(options: argparse.Namespace) -> int:
    """Measure each number of instances, together and alone, and print a table."""
    heads = (
        *("instances", "requests/s", "failed", "CPU µs/request, together", "alone", "ratio"),
        *("p50, ms", "p99, ms"),
    )
    rows = []
    for count in options.instances:
        one = _measured(count, options.rate, options.seconds, alone=False)
        other = _measured(count, options.rate, options.seconds, alone=True)
        rows.append(
            (
                count,
                f"{one.requests / one.took_s:.0f}",
                one.failed + other.failed,
                f"{one.cpu_us:.0f}",
                f"{other.cpu_us:.0f}",
                f"{one.cpu_us / other.cpu_us:.2f}",
                f"{one.p50_ms:.1f}",
                f"{one.p99_ms:.1f}",
            )
        )
    print(markdown(heads, rows))
    return 0


def _measured(count: int, rate: float, seconds: float, *, alone: bool) -> Figures:
    with behind_balancers(count, alone=alone) as play:
        instances = list(play.looms.values())
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
            p50_ms=times[len(times) // 2] * 1000,
            p99_ms=times[len(times) * 99 // 100] * 1000,
        )

"""Figures from measurements, and tables from figures. Pure: no file, no clock, no process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from loadtest.accounting import CpuTime
from loadtest.wrk import Load

US_PER_S = 1_000_000
US_PER_MS = 1_000
REFERENCE = "nginx"  # What ratios are taken against: everybody knows what it is.
DIRECT = "direct"  # No proxy: the upstream itself, the ceiling of what can be measured here.

HEADINGS = (
    "proxy",
    "CPU µs / request",
    "user",
    "kernel",
    "range",
    "of nginx",
    "requests / s",
    "per CPU second",
    "p50 ms",
    "p99 ms",
    "core busy",
    "failed",
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One proxy under one workload for one round."""

    workload: str
    proxy: str
    cpu: CpuTime
    load: Load
    foreign: float  # Cores' worth of work that was none of ours: 0 on a machine that is all ours.

    @property
    def cpu_us(self) -> float:
        """CPU time of the whole process tree for each request, in µs."""
        return self.cpu.total_s * US_PER_S / self.load.requests

    @property
    def busy(self) -> float:
        """The share of its core that the proxy used: near 1 when it was the bottleneck."""
        return self.cpu.total_s * US_PER_S / self.load.duration_us


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians over all rounds of one proxy under one workload; `failed` is their sum."""

    workload: str
    proxy: str
    rounds: int
    requests: int
    cpu_us: float
    cpu_us_min: float
    cpu_us_max: float
    user_us: float
    kernel_us: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    busy: float
    failed: int


def figures(measured: Sequence[Measurement]) -> Figures:
    """Reduce the rounds of one proxy under one workload; there must be one at least."""
    assert measured, "no rounds: nothing to reduce"
    assert len({(one.workload, one.proxy) for one in measured}) == 1, "rounds of different things"
    costs = [one.cpu_us for one in measured]
    return Figures(
        workload=measured[0].workload,
        proxy=measured[0].proxy,
        rounds=len(measured),
        requests=sum(one.load.requests for one in measured),
        cpu_us=median(costs),
        cpu_us_min=min(costs),
        cpu_us_max=max(costs),
        user_us=median(one.cpu.user_s * US_PER_S / one.load.requests for one in measured),
        kernel_us=median(one.cpu.kernel_s * US_PER_S / one.load.requests for one in measured),
        requests_per_s=median(one.load.requests_per_s for one in measured),
        p50_ms=median(one.load.p50_us for one in measured) / US_PER_MS,
        p99_ms=median(one.load.p99_us for one in measured) / US_PER_MS,
        busy=median(one.busy for one in measured),
        failed=sum(one.load.failed for one in measured),
    )


def ratio_to_reference(one: Figures, beside: Iterable[Figures]) -> float | None:
    """Return how many times the reference's CPU per request this is; None without a reference."""
    for other in beside:
        if other.proxy == REFERENCE and other.workload == one.workload and one.proxy != DIRECT:
            return one.cpu_us / other.cpu_us
    return None


def row(one: Figures, beside: Sequence[Figures]) -> tuple[str, ...]:
    """Return one line of the table, cell by cell, under `HEADINGS`."""
    ratio = ratio_to_reference(one, beside)
    return (
        one.proxy,
        f"{one.cpu_us:.1f}",
        f"{one.user_us:.1f}",
        f"{one.kernel_us:.1f}",
        f"{one.cpu_us_min:.1f}-{one.cpu_us_max:.1f}",
        "" if ratio is None else f"{ratio:.2f} x",
        f"{one.requests_per_s:.0f}",
        f"{US_PER_S / one.cpu_us:.0f}",
        f"{one.p50_ms:.2f}",
        f"{one.p99_ms:.2f}",
        f"{one.busy:.0%}",
        str(one.failed),
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table: the first column to the left, all others to the right."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]

    def one_line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    ruler = [f"{'-' * (width - 1)}:" if i else "-" * width for i, width in enumerate(widths)]
    return [one_line(headings), one_line(ruler), *(one_line(line) for line in rows)]

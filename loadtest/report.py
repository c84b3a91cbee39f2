"""Figures from measurements, and tables from figures. Pure: no file, no clock, no process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from loadtest.accounting import CpuTime
from loadtest.load import US_PER_S, Load, Unit

US_PER_MS = 1_000
REFERENCE = "nginx"  # What ratios are taken against: everybody knows what it is.
DIRECT = "direct"  # No proxy: the upstream itself, the ceiling of what can be measured here.


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
        """CPU time of the whole process tree for each unit, in µs."""
        return self.cpu.total_s * US_PER_S / self.load.done

    @property
    def busy(self) -> float:
        """The share of its core that the proxy used: near 1 when it was the bottleneck."""
        return self.cpu.total_s * US_PER_S / self.load.duration_us


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians over all rounds of one proxy under one workload; `done` and `failed` are sums."""

    workload: str
    proxy: str
    rounds: int
    done: int
    cpu_us: float
    cpu_us_min: float
    cpu_us_max: float
    user_us: float
    kernel_us: float
    per_s: float
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
        done=sum(one.load.done for one in measured),
        cpu_us=median(costs),
        cpu_us_min=min(costs),
        cpu_us_max=max(costs),
        user_us=median(one.cpu.user_s * US_PER_S / one.load.done for one in measured),
        kernel_us=median(one.cpu.kernel_s * US_PER_S / one.load.done for one in measured),
        per_s=median(one.load.per_s for one in measured),
        p50_ms=median(one.load.p50_us for one in measured) / US_PER_MS,
        p99_ms=median(one.load.p99_us for one in measured) / US_PER_MS,
        busy=median(one.busy for one in measured),
        failed=sum(one.load.failed for one in measured),
    )


def _beside(one: Figures, beside: Iterable[Figures], proxy: str) -> Figures | None:
    """Return the figures of `proxy` under the same workload; None where it was not measured."""
    for other in beside:
        if (other.proxy, other.workload) == (proxy, one.workload):
            return other
    return None


def ratio_to_reference(one: Figures, beside: Iterable[Figures]) -> float | None:
    """Return how many times the reference's CPU per unit this is; None without a reference."""
    reference = _beside(one, beside, REFERENCE)
    return one.cpu_us / reference.cpu_us if reference and one.proxy != DIRECT else None


def added_ms(one: Figures, beside: Iterable[Figures]) -> tuple[float, float] | None:
    """Return what a proxy adds to the p50 and p99 of no proxy, in ms; None without a comparison."""
    direct = _beside(one, beside, DIRECT)
    if direct is None or one.proxy == DIRECT:
        return None
    return one.p50_ms - direct.p50_ms, one.p99_ms - direct.p99_ms


def headings(unit: Unit) -> tuple[str, ...]:
    """Return the first line of the table of a workload that counts `unit`."""
    timed = f"{unit.timed} " if unit.timed else ""
    return (
        "proxy",
        f"CPU µs / {unit.one}",
        "user",
        "kernel",
        "range",
        "of nginx",
        f"{unit.many} / s",
        "per CPU second",
        f"{timed}p50 ms",
        f"{timed}p99 ms",
        *(("added p50 ms", "added p99 ms") if unit.paced else ()),
        "core busy",
        "failed",
    )


def row(one: Figures, beside: Sequence[Figures], unit: Unit) -> tuple[str, ...]:
    """Return one line of the table, cell by cell, under the `headings` of `unit`."""
    ratio, added = ratio_to_reference(one, beside), added_ms(one, beside)
    added_cells = ("", "") if added is None else tuple(f"{more:+.2f}" for more in added)
    return (
        one.proxy,
        f"{one.cpu_us:.1f}",
        f"{one.user_us:.1f}",
        f"{one.kernel_us:.1f}",
        f"{one.cpu_us_min:.1f}-{one.cpu_us_max:.1f}",
        "" if ratio is None else f"{ratio:.2f} x",
        f"{one.per_s:.0f}",
        f"{US_PER_S / one.cpu_us:.0f}",
        f"{one.p50_ms:.2f}",
        f"{one.p99_ms:.2f}",
        *(added_cells if unit.paced else ()),
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

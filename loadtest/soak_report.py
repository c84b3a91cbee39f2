"""What a soak found, judged and in words. Pure: no file, no clock, no process."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from loadtest.report import table
from loadtest.soak_clients import DOING, LEAVING, Account
from loadtest.soak_watch import Look, differences, growth_per_million, kib

WARM_UP_RATIO = (
    0.2  # Of the time: caches, buffers and allocator pools fill; growth counts after it.
)
HEADINGS = ("process", "before", "warm", "at the end", "most", "growth per million requests")


@dataclass
class Soaked:
    """What one soak found."""

    account: Account
    looks: list[Look] = field(default_factory=list)
    before: Look | None = None
    after: Look | None = None
    reloads: int = 0
    took_s: float = 0.0
    lines: int = 0  # of the access log
    interpreter: str = ""  # the Python it ran on

    @property
    def wrong(self) -> list[str]:
        """All that must not be, in words."""
        assert self.before is not None
        assert self.after is not None
        failed = [f"{kind}: {count} failed" for kind, count in self.account.failed.items()]
        return [*failed, *self._unrecorded(), *differences(self.before, self.after)]

    def _unrecorded(self) -> Iterator[str]:
        """One line for each request; whoever leaves at once may have none."""
        most = self.account.requests
        least = most - self.account.asked[LEAVING]
        if not least <= self.lines <= most:
            yield f"{self.lines} access log lines, expected {least} to {most}"

    def figures(self) -> dict[str, object]:
        """Return all that was found as plain values."""
        account = self.account
        return {
            "asked": dict(account.asked),
            "failed": dict(account.failed),
            "troubled": dict(account.troubled),
            "looks": [asdict(look) for look in (self.before, *self.looks, self.after) if look],
            "took_s": self.took_s,
            "reloads": self.reloads,
            "lines": self.lines,
            "wrong": self.wrong,
        }


def render(found: Soaked, facts: Sequence[str]) -> str:
    """Return the report as Markdown."""
    account, before, after = found.account, found.before, found.after
    assert before is not None
    assert after is not None
    kinds = [(kind, str(account.asked[kind]), str(account.failed[kind])) for kind in DOING]
    text = [
        *(f"* {fact}" for fact in facts),
        f"* {_amount(found)}",
        f"* of the troubled upstream: {_counted(account.troubled)}",
        "",
        *table(("kind", "asked", "failed"), kinds),
        "",
        *_memory(found, before, after),
        "",
        *_held(before, after, [before, *found.looks, after]),
    ]
    text += ["", *(f"* {example}" for example in account.examples)] if account.examples else []
    verdict = "; ".join(found.wrong) or "nothing failed, and everything is back where it began"
    return "\n".join([*text, "", f"Verdict: {verdict}."]) + "\n"


def _amount(found: Soaked) -> str:
    requests = found.account.requests
    return (
        f"{requests} requests in {found.took_s:.0f} s, {requests / found.took_s:.0f}/s;"
        f" {found.reloads} reloads; {found.lines} access log lines"
    )


def _counted(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _memory(found: Soaked, before: Look, after: Look) -> list[str]:
    """Resident memory of each process over time."""
    looks = [before, *found.looks, after]
    warm = [look for look in found.looks if look.at_s >= found.took_s * WARM_UP_RATIO] or looks
    rows = []
    for pid in sorted(before.rss_bytes):
        most = max(look.rss_bytes.get(pid, 0) for look in looks)
        name = f"{'worker' if pid in before.tasks else 'node'} ({pid})"
        sizes = [look.rss_bytes.get(pid, 0) for look in (before, warm[0], after)]
        rows.append((name, *map(kib, (*sizes, most, growth_per_million(warm, pid)))))
    return table(HEADINGS, rows)


def _held(before: Look, after: Look, looks: Sequence[Look]) -> list[str]:
    """Descriptors and tasks of each process, connections and exchanges of all together."""
    rows = []
    for pid in sorted(before.descriptors):
        for what in ("descriptors", "tasks"):
            moments = [getattr(look, what).get(pid) for look in (before, after)]
            most = max(getattr(look, what).get(pid, 0) for look in looks)
            if moments[0] is not None:
                rows.append((f"{what} of {pid}", str(moments[0]), str(most), str(moments[1])))
    for name in before.held:
        most = max(look.held[name] for look in looks)
        rows.append((name, str(before.held[name]), str(most), str(after.held[name])))
    return table(("held", "before", "most", "after"), rows)

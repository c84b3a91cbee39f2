"""What was counted: one worker's counters, how they travel, and sums that never go backwards.

Each worker counts into a `Tally` of its own, which starts at zero with the worker, and tells it to
the node with every pong. The node keeps the last tally of each worker in `Totals`. When a worker is
gone, its last tally is folded into a base that stays; so a sum over all workers, those that left
included, only grows, and what Prometheus sees is a counter without resets.

    total = base (workers that left) + last tally of each worker that lives

Gauges, what is so *now*, are not in here: they leave with their worker.

Histograms hold plain counts per bucket, not the cumulative ones of the exposition format: one
increment per observation; whoever renders adds up. Times are counted per route and pool, not per
status: the product would be most of the lines of the page, and nearly all of them zero.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable
from typing import Final

import msgspec

from loomproxy.core import fault as faults
from loomproxy.core.outcome import ESTIMATED, Outcome, Spent

BUCKETS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the histogram buckets in seconds, 0.5 ms to 60 s; one more bucket is beyond.

About 1, 2.5 and 5 per decade, as in the clients of Prometheus, but from half a millisecond, because
a proxy adds less than that; 30 s and 60 s are what timeouts are set to.
"""

CODE_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
"""The label of each status class; "none": no final response head was sent."""

SERIES_MAX: Final = 10_000
"""Pairs of route and pool that are counted apart, about 1 KiB each. Configurations have dozens;
only years of reloads with ever new names come here. Beyond it, all is counted as `OVERFLOW`."""

OVERFLOW: Final = ("(other)", "(other)")
"""The route and pool of whatever came after `SERIES_MAX`."""

ALL_WELL: Final = "--"
"""The termination letters of an exchange that ended as it should."""

LISTENER_FULL: Final = "listener_full"
"""A limit: accepting was paused, the listener has as many connections as it may."""

WORKER_FULL: Final = "worker_full"
"""A limit: accepting was paused, the worker has as many connections as it may."""

CLIENT_FULL: Final = "client_full"
"""A limit: a connection was refused, its client has as many as it may."""

CLIENT_SILENT: Final = "client_silent"
"""A limit: a new connection that said nothing was closed."""

CLIENT_IDLE: Final = "client_idle"
"""A limit: a connection that brought no further request was closed."""

CHAT_SERIES_MAX: Final = 1000
"""Pairs of provider and model that are counted apart; operators choose their names. Beyond it, all
is counted as `OVERFLOW`."""

_LIMITED: Final = frozenset("cL")
"""First termination letters: a client that was too slow, and what our rules refuse of one."""

_ROUTED: Final = frozenset(
    (faults.NO_ROUTE.name, faults.METHOD_NOT_ALLOWED.name, faults.MODEL_NOT_FOUND.name)
)
"""Refused only because nothing is there."""

_SWITCHED: Final = 101
_ANSWERED_PHASES: Final = frozenset("DLT")
"""Phases, by termination letter, which an exchange can only reach after a final response head."""


class Histogram(msgspec.Struct, gc=False):
    """Durations by bucket."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, took_s: float) -> None:
        """Count one duration; bounds belong to their bucket, as Prometheus has it ("le")."""
        self.counts[bisect_left(BUCKETS_S, took_s)] += 1
        self.sum_s += took_s

    def add(self, other: "Histogram") -> None:
        """Add all that `other` counted."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.sum_s += other.sum_s

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that `share` (above 0, up to 1) of all observed did not exceed.

        Read off a straight line through its bucket, as Prometheus does; what lies beyond the last
        bound counts as that bound. None when nothing was observed.
        """
        rank = share * sum(self.counts)
        if not rank:
            return None
        below = 0
        low = 0.0
        for high, count in zip(BUCKETS_S, self.counts, strict=False):
            if below + count >= rank:
                return low + (high - low) * (rank - below) / count
            below += count
            low = high
        return BUCKETS_S[-1]


class Series(msgspec.Struct, gc=False):
    """What was counted for one route and pool."""

    requests: list[int] = msgspec.field(default_factory=lambda: [0] * len(CODE_CLASSES))
    retries: int = 0  # attempts beyond the first
    request_bytes: int = 0  # body bytes from clients
    response_bytes: int = 0  # body bytes to clients
    duration: Histogram = msgspec.field(default_factory=Histogram)  # whole exchanges but tunnels
    connect: Histogram = msgspec.field(default_factory=Histogram)  # fresh upstream connections
    first_byte: Histogram = msgspec.field(
        default_factory=Histogram
    )  # connection there to final head

    def add(self, other: "Series") -> None:
        """Add all that `other` counted."""
        self.requests = [a + b for a, b in zip(self.requests, other.requests, strict=True)]
        self.retries += other.retries
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        self.duration.add(other.duration)
        self.connect.add(other.connect)
        self.first_byte.add(other.first_byte)


class ChatSeries(msgspec.Struct, gc=False):
    """What was counted of the chats with one model of a provider."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0  # chats whose tokens nobody counted
    results: dict[str, int] = msgspec.field(default_factory=dict)
    """Chats by the name of their fault; without one by the code of a refusal, or `ok`."""

    def count(self, spent: Spent, outcome: Outcome) -> None:
        """Count one chat that came to its provider."""
        self.prompt_tokens += spent.prompt_tokens
        self.completion_tokens += spent.completion_tokens
        self.estimated += spent.usage_from == ESTIMATED
        result = outcome.fault or spent.provider_error or "ok"
        self.results[result] = self.results.get(result, 0) + 1

    def add(self, other: "ChatSeries") -> None:
        """Add all that `other` counted."""
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated += other.estimated
        for result, times in other.results.items():
            self.results[result] = self.results.get(result, 0) + times


class Tally(msgspec.Struct):
    """Everything that one worker, or all of them, counted."""

    series: dict[tuple[str, str], Series] = msgspec.field(default_factory=dict)  # by (route, pool)
    terminations: dict[str, int] = msgspec.field(default_factory=dict)  # by the two letters
    limits: dict[tuple[str, str], int] = msgspec.field(
        default_factory=dict
    )  # by (listener, reason)
    chats: dict[tuple[str, str], ChatSeries] = msgspec.field(
        default_factory=dict
    )  # by (provider, model)
    access_log_dropped: int = 0  # lines; the worker sets it before it tells its tally

    def count(self, outcome: Outcome) -> None:
        """Count one finished exchange. On the road of each request: every line here is paid for."""
        series = self.series.get((outcome.route, outcome.pool))
        if series is None:
            series = self._series(outcome.route, outcome.pool)
        status = outcome.status
        series.requests[status // 100] += 1
        if outcome.request_bytes:
            series.request_bytes += outcome.request_bytes
        series.response_bytes += outcome.response_bytes
        if status != _SWITCHED:
            # Hours of a WebSocket would make the mean of all other exchanges meaningless.
            series.duration.observe(outcome.ended_at - outcome.begun_at)
        if outcome.termination != ALL_WELL:
            self._count_trouble(series, outcome)
        elif outcome.opened_at:
            series.first_byte.observe(outcome.answered_at - outcome.opened_at)
        if outcome.attempts > 1 or not outcome.reused:
            _count_attempts(series, outcome)
        if outcome.chat is not None:
            self._chat_series(outcome.chat.provider, outcome.chat.model).count(
                outcome.chat, outcome
            )

    def _count_trouble(self, series: Series, outcome: Outcome) -> None:
        """Count an exchange that did not end as it should."""
        letters = outcome.termination
        self.terminations[letters] = self.terminations.get(letters, 0) + 1
        if letters[0] in _LIMITED and outcome.fault not in _ROUTED:
            self.note_limit(outcome.listener, outcome.fault)
        if outcome.opened_at and letters[1] in _ANSWERED_PHASES:
            # In an earlier phase the answer, if any, was ours: the upstream said nothing.
            series.first_byte.observe(outcome.answered_at - outcome.opened_at)

    def note_limit(self, listener: str, reason: str) -> None:
        """A limit on the clients of `listener` was met: a fault's name, or one of those above."""
        key = (listener, reason)
        self.limits[key] = self.limits.get(key, 0) + 1

    def _series(self, route: str, pool: str) -> Series:
        key = (route, pool) if len(self.series) < SERIES_MAX else OVERFLOW
        return self.series.setdefault(key, Series())

    def _chat_series(self, provider: str, model: str) -> ChatSeries:
        key = (provider, model)
        if key not in self.chats and len(self.chats) >= CHAT_SERIES_MAX:
            key = OVERFLOW
        return self.chats.setdefault(key, ChatSeries())

    def fold(self, other: "Tally") -> None:
        """Add all that `other` counted. `other` stays as it is, and nothing of it is shared."""
        for key, theirs in other.series.items():
            mine = self.series.get(key)
            (self._series(*key) if mine is None else mine).add(theirs)
        for chat, counted in other.chats.items():
            self._chat_series(*chat).add(counted)
        for letters, times in other.terminations.items():
            self.terminations[letters] = self.terminations.get(letters, 0) + times
        for reason, times in other.limits.items():
            self.limits[reason] = self.limits.get(reason, 0) + times
        self.access_log_dropped += other.access_log_dropped


def _count_attempts(series: Series, outcome: Outcome) -> None:
    """Count further attempts, and how long a fresh connection took."""
    series.retries += max(outcome.attempts - 1, 0)
    connect_s = outcome.opened_at - outcome.connecting_at
    # Otherwise no attempt came that far, or only an earlier one did, over an idle connection.
    if outcome.opened_at and not outcome.reused and connect_s >= 0.0:
        series.connect.observe(connect_s)


def merge(tallies: Iterable[Tally]) -> Tally:
    """The sum of `tallies`, as a tally of its own."""
    total = Tally()
    for tally in tallies:
        total.fold(tally)
    return total


class Totals:
    """The tallies of all workers that ever were; sums over them never go backwards.

    Workers are told apart by any key that no second worker ever has, such as a number that grows
    with each start.
    """

    __slots__ = ("_base", "_living")

    def __init__(self) -> None:
        self._base = Tally()
        self._living: dict[Hashable, Tally] = {}

    def heard(self, worker: Hashable, tally: Tally) -> None:
        """Keep what `worker` says that it counted since its start; replaces what it said before."""
        self._living[worker] = tally

    def lost(self, worker: Hashable) -> None:
        """`worker` is gone: keep what it counted. Nothing if it never said a word."""
        tally = self._living.pop(worker, None)
        if tally is not None:
            self._base.fold(tally)

    def total(self) -> Tally:
        """All together, as a tally of its own."""
        return merge((self._base, *self._living.values()))

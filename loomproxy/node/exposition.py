"""The metrics page: what was counted and what is so now, in the format that Prometheus reads.

Names and units are what its users expect: base units, `_total` on counters, `le` buckets that add
up. Labels hold only names from the configuration, status classes and the termination letters, so
the number of lines is bounded by the configuration and not by what clients send.

The page is made anew at each scrape from a `Reading`; nothing is registered anywhere, and the
process-wide registry of the library is left alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loomproxy.channel import EndpointStatus, PoolStatus
from loomproxy.core.tally import BUCKETS_S, CODE_CLASSES, Histogram, Series, Tally
from loomproxy.node import cluster_metrics
from loomproxy.node.cluster import ClusterReading
from loomproxy.node.plugin_figures import Plugin
from loomproxy.node.plugin_metrics import families

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Of the page; the text format that every version of Prometheus and its relatives reads."""

_BOUNDS: Final = (*map(str, BUCKETS_S), "+Inf")
_OF_ROUTE: Final = ("route", "pool")
_OF_MODEL: Final = ("provider", "model")
_OF_ENDPOINT: Final = ("pool", "endpoint")


class WorkerReading(msgspec.Struct, frozen=True):
    """What one worker says of now."""

    slot: int
    connections: int  # from downstream
    in_flight: int  # exchanges
    loop_lag_s: float  # the worst delay of its event loop lately
    pools: tuple[PoolStatus, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """All that the page is made from."""

    version: str
    revision: int  # of the current configuration
    ready: bool
    tally: Tally  # of all workers that ever were
    workers: tuple[WorkerReading, ...]  # those that live
    worker_restarts: int  # starts beyond the first of each slot
    reloads: Mapping[str, int]  # by result
    node_loop_lag_s: float = 0.0
    plugins: tuple[Plugin, ...] = ()
    cluster: ClusterReading | None = None  # None: the node is alone


def render(reading: Reading) -> bytes:
    """The page for `reading`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(reading))
    return generate_latest(registry)


class _Collector(Collector):
    """What the library asks for metrics."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        """All metrics, traffic first."""
        reading = self._reading
        yield from _traffic(reading.tally)
        yield from _times(reading.tally)
        yield from _chats(reading.tally)
        yield from _now(reading.workers)
        yield from _endpoints(reading.workers)
        yield from families(reading.plugins)
        yield from cluster_metrics.families(reading.cluster)
        yield from _house(reading)


def _traffic(tally: Tally) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "loomproxy_requests",
        "Finished exchanges by class of the status sent; none: no response was sent.",
        labels=(*_OF_ROUTE, "code"),
    )
    retries = CounterMetricFamily(
        "loomproxy_retries", "Attempts beyond the first of an exchange.", labels=_OF_ROUTE
    )
    sizes = CounterMetricFamily(
        "loomproxy_bytes", "Body bytes passed on, by direction.", labels=(*_OF_ROUTE, "direction")
    )
    for labels, series in tally.series.items():
        for code, times in zip(CODE_CLASSES, series.requests, strict=True):
            if times:
                requests.add_metric((*labels, code), times)
        retries.add_metric(labels, series.retries)
        sizes.add_metric((*labels, "request"), series.request_bytes)
        sizes.add_metric((*labels, "response"), series.response_bytes)
    terminations = CounterMetricFamily(
        "loomproxy_terminations",
        "Exchanges that did not end as they should: who ended them, in which phase.",
        labels=("code",),
    )
    for letters, times in tally.terminations.items():
        terminations.add_metric((letters,), times)
    limits = CounterMetricFamily(
        "loomproxy_limits",
        "Times that a limit on clients was met: a fault's name, or what happened to a connection.",
        labels=("listener", "reason"),
    )
    for reason, times in tally.limits.items():
        limits.add_metric(reason, times)
    yield from (requests, retries, sizes, terminations, limits)
    yield CounterMetricFamily(
        "loomproxy_access_log_dropped",
        "Access log lines lost because they could not be written in time.",
        value=tally.access_log_dropped,
    )


def _times(tally: Tally) -> Iterator[Metric]:
    yield _histograms(
        "loomproxy_request_duration_seconds",
        "From the request head to the end of the exchange; without upgraded connections.",
        ((labels, series.duration) for labels, series in tally.series.items()),
    )
    # Routes that answer by themselves have no upstream, and no empty histograms of it.
    upstream: list[tuple[tuple[str, str], Series]] = [
        (labels, series) for labels, series in tally.series.items() if labels[1] != "-"
    ]
    yield _histograms(
        "loomproxy_upstream_connect_seconds",
        "To open a new connection to an endpoint; reused connections are not counted.",
        ((labels, series.connect) for labels, series in upstream),
    )
    yield _histograms(
        "loomproxy_upstream_first_byte_seconds",
        "From an open upstream connection to the final response head.",
        ((labels, series.first_byte) for labels, series in upstream),
    )


def _chats(tally: Tally) -> Iterator[Metric]:
    chats = CounterMetricFamily(
        "loomproxy_chats",
        "Chats that came to a provider: ok, the code of its refusal, or the fault that ended them.",
        labels=(*_OF_MODEL, "result"),
    )
    tokens = CounterMetricFamily(
        "loomproxy_chat_tokens", "Tokens of chats, by kind.", labels=(*_OF_MODEL, "kind")
    )
    estimated = CounterMetricFamily(
        "loomproxy_chats_estimated",
        "Chats whose provider told no usage, so that their tokens are an estimate.",
        labels=_OF_MODEL,
    )
    for labels, series in tally.chats.items():
        for result, times in series.results.items():
            chats.add_metric((*labels, result), times)
        tokens.add_metric((*labels, "prompt"), series.prompt_tokens)
        tokens.add_metric((*labels, "completion"), series.completion_tokens)
        estimated.add_metric(labels, series.estimated)
    yield from (chats, tokens, estimated)


def _histograms(
    name: str, text: str, series: Iterable[tuple[tuple[str, str], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=_OF_ROUTE)
    for labels, histogram in series:
        buckets = list(zip(_BOUNDS, accumulate(histogram.counts), strict=True))
        family.add_metric(labels, buckets, histogram.sum_s)
    return family


def _now(workers: tuple[WorkerReading, ...]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "loomproxy_in_flight",
        "Exchanges begun and not finished.",
        value=sum(worker.in_flight for worker in workers),
    )
    connections = GaugeMetricFamily(
        "loomproxy_connections",
        "Open connections; upstream ones are those in use and those held for reuse.",
        labels=("side",),
    )
    endpoints = [each for worker in workers for pool in worker.pools for each in pool.endpoints]
    connections.add_metric(("downstream",), sum(worker.connections for worker in workers))
    connections.add_metric(("upstream",), sum(e.in_flight + e.keepalive for e in endpoints))
    yield connections


def _endpoints(workers: tuple[WorkerReading, ...]) -> Iterator[Metric]:
    healthy = GaugeMetricFamily(
        "loomproxy_endpoint_healthy",
        "1 when every worker finds the endpoint healthy and has not ejected it, else 0.",
        labels=_OF_ENDPOINT,
    )
    in_flight = GaugeMetricFamily(
        "loomproxy_endpoint_in_flight", "Attempts in flight at the endpoint.", labels=_OF_ENDPOINT
    )
    for labels, seen in _by_endpoint(workers).items():
        good = all(each.healthy and not each.ejected_for_s for each in seen)
        healthy.add_metric(labels, int(good))
        in_flight.add_metric(labels, sum(each.in_flight for each in seen))
    waiting = GaugeMetricFamily(
        "loomproxy_pool_waiting", "Exchanges that wait for a place in the pool.", labels=("pool",)
    )
    queues: dict[str, int] = {}
    for worker in workers:
        for pool in worker.pools:
            queues[pool.name] = queues.get(pool.name, 0) + pool.waiting
    for name, length in queues.items():
        waiting.add_metric((name,), length)
    yield from (healthy, in_flight, waiting)


def _by_endpoint(
    workers: tuple[WorkerReading, ...],
) -> dict[tuple[str, str], list[EndpointStatus]]:
    """What the workers see, by pool and address."""
    seen: dict[tuple[str, str], list[EndpointStatus]] = {}
    for worker in workers:
        for pool in worker.pools:
            for endpoint in pool.endpoints:
                seen.setdefault((pool.name, endpoint.address), []).append(endpoint)
    return seen


def _house(reading: Reading) -> Iterator[Metric]:
    reloads = CounterMetricFamily(
        "loomproxy_reloads", "Configurations asked to be published, by result.", labels=("result",)
    )
    for result, times in reading.reloads.items():
        reloads.add_metric((result,), times)
    lag = GaugeMetricFamily(
        "loomproxy_event_loop_lag_seconds",
        "The worst delay of a process's event loop lately.",
        labels=("process",),
    )
    lag.add_metric(("node",), reading.node_loop_lag_s)
    for worker in reading.workers:
        lag.add_metric((f"worker-{worker.slot}",), worker.loop_lag_s)
    build = GaugeMetricFamily(
        "loomproxy_build_info", "Always 1; the version is in the label.", labels=("version",)
    )
    build.add_metric((reading.version,), 1)
    yield from (reloads, lag, build)
    yield CounterMetricFamily(
        "loomproxy_worker_restarts",
        "Workers started beyond the first of each slot.",
        value=reading.worker_restarts,
    )
    yield GaugeMetricFamily(
        "loomproxy_ready", "1 when balancers should send traffic.", value=int(reading.ready)
    )
    yield GaugeMetricFamily(
        "loomproxy_config_revision", "Of the current configuration.", value=reading.revision
    )

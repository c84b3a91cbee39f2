"""What a node measures of its part in the cluster, as metric families; nothing is asked for it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from loomproxy.node.cluster import ClusterReading


def families(reading: ClusterReading | None) -> Iterator[Metric]:
    """All of them; none of a node that is alone."""
    if reading is None:
        return
    gauges: tuple[tuple[str, str, float], ...] = (
        ("up", "Whether the store answered the last beat.", reading.up),
        ("leader", "Whether this instance leads.", reading.leads),
        ("revision_newest", "The newest published revision that was heard of.", reading.newest),
        ("revision_running", "The published revision that runs; 0: its own file.", reading.running),
        ("revision_refused", "Whether the newest revision cannot be run here.", reading.refused),
        ("beat_latency_seconds", "How long the store took for the last beat.", reading.latency_s),
    )
    for name, told, value in gauges:
        yield GaugeMetricFamily(f"loomproxy_cluster_{name}", told, value=float(value))
    beats = CounterMetricFamily(
        "loomproxy_cluster_beats", "Heartbeats by what became of them.", labels=("result",)
    )
    beats.add_metric(("ok",), reading.beats)
    beats.add_metric(("missed",), reading.missed)
    yield beats
    yield CounterMetricFamily(
        "loomproxy_cluster_leases_lost",
        "Leases that were lost while something was done under them.",
        value=reading.leases_lost,
    )

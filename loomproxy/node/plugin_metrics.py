"""The metrics of plugins; nothing at all where there are none.

What is counted of their exchanges stands among the pools, under `plugin:TYPE`: requests, times,
endpoints. Here is what only the keeper of their processes knows. Labels hold what manifests say and
the words of `State`, so the number of lines is bounded by the folders on disk; the generation and
version of a plugin are labels of one line alone, which is gone with them.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from loomproxy.node.plugin_figures import Plugin, chosen, serving
from loomproxy.plugins.status import PluginStatus, ReplicaStatus, State

_OF_PLUGIN: Final = ("plugin",)
_STATES: Final = tuple(State)


def families(plugins: tuple[Plugin, ...]) -> Iterator[Metric]:
    """All metrics of these plugins."""
    if plugins:
        # Several folders may claim one provider_type; no sample may be there twice.
        statuses = list(chosen(plugin.status for plugin in plugins).values())
        plugins = tuple(plugin for plugin in plugins if plugin.status in statuses)
        yield from _life(statuses)
        yield from _processes(statuses)
        yield _gauge(
            "in_flight",
            "Exchanges that are at the plugin.",
            {plugin.status.provider_type: plugin.figures.in_flight for plugin in plugins},
        )


def _life(statuses: list[PluginStatus]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "loomproxy_plugin_info",
        "Always 1; what serves, or would, is in the labels.",
        labels=("plugin", "version", "generation"),
    )
    state = GaugeMetricFamily(
        "loomproxy_plugin_state",
        "1 for the state that the plugin is in, 0 for the others.",
        labels=("plugin", "state"),
    )
    reloads = CounterMetricFamily(
        "loomproxy_plugin_reloads", "Reloads of the plugin, by result.", labels=("plugin", "result")
    )
    for status in statuses:
        name, generation = status.provider_type, serving(status)
        info.add_metric((name, generation.version, str(generation.number)), 1)
        for each in _STATES:
            state.add_metric((name, each.value), int(status.state is each))
        reloads.add_metric((name, "ok"), status.reloads)
        reloads.add_metric((name, "refused"), status.reloads_failed)
    restarts = CounterMetricFamily(
        "loomproxy_plugin_restarts", "Processes started anew after they left.", labels=_OF_PLUGIN
    )
    for status in statuses:
        restarts.add_metric((status.provider_type,), status.restarts)
    yield from (info, state, reloads, restarts)
    yield _gauge(
        "ready",
        "1 when requests are sent to the plugin.",
        {status.provider_type: int(status.state is State.READY) for status in statuses},
    )


def _processes(statuses: list[PluginStatus]) -> Iterator[Metric]:
    replicas = GaugeMetricFamily(
        "loomproxy_plugin_replicas",
        "Replicas of all generations of the plugin, by state.",
        labels=("plugin", "state"),
    )
    # Of one process at a time: its end is a reset, which every reader of counters expects.
    cpu = CounterMetricFamily(
        "loomproxy_plugin_cpu_seconds",
        "CPU time of each replica of the serving generation, since its process began.",
        labels=("plugin", "replica"),
    )
    for status in statuses:
        name = status.provider_type
        states = [each.state for each in _replicas(status)]
        for one in _STATES:
            replicas.add_metric((name, one.value), states.count(one))
        for replica in serving(status).replicas:
            if replica.pid:
                cpu.add_metric((name, str(replica.number)), replica.cpu_s)
    yield from (replicas, cpu)
    yield _gauge(
        "rss_bytes",
        "Resident memory of all processes of the plugin.",
        {
            status.provider_type: sum(each.rss_bytes for each in _replicas(status))
            for status in statuses
        },
    )


def _replicas(status: PluginStatus) -> list[ReplicaStatus]:
    return [replica for generation in status.generations for replica in generation.replicas]


def _gauge(name: str, text: str, values: dict[str, int]) -> Metric:
    gauge = GaugeMetricFamily(f"loomproxy_plugin_{name}", text, labels=_OF_PLUGIN)
    for plugin, value in values.items():
        gauge.add_metric((plugin,), value)
    return gauge

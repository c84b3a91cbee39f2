"""The metrics of plugins, read back as Prometheus would read them."""

from loomproxy.channel import EndpointStatus, PoolStatus, Stats
from loomproxy.core.tally import Tally
from loomproxy.node.exposition import Reading, render
from loomproxy.node.plugin_figures import plugins
from loomproxy.plugins.status import GenerationStatus, PluginStatus, State
from tests.node.fakes import plugin, replica
from tests.node.test_exposition import samples


def page(*statuses: PluginStatus, stats: tuple[Stats, ...] = ()) -> bytes:
    reading = Reading(
        version="1.2.3",
        revision=7,
        ready=True,
        tally=Tally(),
        workers=(),
        worker_restarts=0,
        reloads={},
        plugins=plugins(statuses, Tally(), stats),
    )
    return render(reading)


def found(page: bytes, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric of plugins, by the values of their labels in order of their names."""
    return {
        tuple(text for _, text in labels): value
        for (key, labels), value in samples(page).items()
        if key == f"loomproxy_plugin_{name}"
    }


def test_node_without_plugins_has_no_word_of_them() -> None:
    assert b"plugin" not in page()


def test_state_is_one_of_all() -> None:
    states = found(page(plugin(state=State.BACKOFF), plugin("b")), "state")
    assert len(states) == 2 * len(State)
    assert [labels for labels, value in states.items() if value] == [
        ("acme", "backoff"),
        ("b", "ready"),
    ]
    ready = found(page(plugin(state=State.BACKOFF), plugin("b")), "ready")
    assert ready == {("acme",): 0, ("b",): 1}


def test_info_tells_what_serves() -> None:
    two = (GenerationStatus(7, "2.0.0", State.READY), GenerationStatus(6, "1.0.0", State.DRAINING))
    text = page(plugin(generations=two), plugin("none", generations=()))
    assert found(text, "info") == {("7", "acme", "2.0.0"): 1, ("0", "none", "1.2.0"): 1}


def test_what_befell_it_is_counted() -> None:
    text = page(plugin(restarts=3, reloads=5, reloads_failed=2))
    assert found(text, "restarts_total") == {("acme",): 3}
    assert found(text, "reloads_total") == {("acme", "ok"): 5, ("acme", "refused"): 2}


def test_processes_of_both_generations_are_measured_and_cpu_of_what_serves() -> None:
    old = replica(0, state=State.DRAINING, pid=1, cpu_s=100.0, rss_bytes=5)
    gone = replica(1, state=State.BACKOFF, pid=0, cpu_s=0.0, rss_bytes=0)
    new = GenerationStatus(2, "2.0.0", State.READY, (replica(0, rss_bytes=7, cpu_s=0.5), gone))
    both = (new, GenerationStatus(1, "1.0.0", State.DRAINING, (old,)))
    text = page(plugin(generations=both))
    assert found(text, "rss_bytes") == {("acme",): 12}
    assert found(text, "cpu_seconds_total") == {("acme", "0"): 0.5}
    replicas = found(text, "replicas")
    assert {labels[1]: value for labels, value in replicas.items() if value} == {
        "ready": 1,
        "backoff": 1,
        "draining": 1,
    }


def test_in_flight_is_what_workers_see() -> None:
    endpoint = EndpointStatus(replica().address, 1, True, True, 0.0, 4, 0)
    seen = Stats(1, 1, (PoolStatus("plugin:acme", 0, (endpoint,)),))
    assert found(page(plugin(), stats=(seen, seen)), "in_flight") == {("acme",): 8}


def test_plugin_that_is_there_twice_has_each_sample_once() -> None:
    copied = plugin(state=State.INVALID, generations=(), manifest="/a/plugin.yaml")
    text = page(copied, plugin())
    assert found(text, "ready") == {("acme",): 1}
    assert found(text, "in_flight") == {("acme",): 0}

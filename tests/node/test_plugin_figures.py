"""What workers counted of plugins, beside what is known of them."""

from loomproxy.channel import EndpointStatus, PoolStatus, Stats
from loomproxy.core.tally import Series, Tally
from loomproxy.node.plugin_figures import chosen, described, plugins, serving, summary
from loomproxy.plugins.status import GenerationStatus, State
from tests.node.fakes import plugin, replica


def stats(pool: str, *in_flight: int) -> Stats:
    """One worker's view: replicas 0, 1, … of a pool, with this much in flight."""
    endpoints = tuple(
        EndpointStatus(replica(number).address, 1, True, True, 0.0, flying, 5)
        for number, flying in enumerate(in_flight)
    )
    return Stats(1, 1, (PoolStatus(pool, 0, endpoints),))


def tally(**pools: list[float]) -> Tally:
    """Durations of successes, by pool; over two routes."""
    made = Tally()
    for pool, durations in pools.items():
        for place, seconds in enumerate(durations):
            key = (f"route-{place % 2}", f"plugin:{pool}")
            series = made.series.setdefault(key, Series())
            series.requests[2] += 1
            series.duration.observe(seconds)
    return made


def test_each_plugin_has_its_own_figures_over_routes_and_workers() -> None:
    two = (GenerationStatus(1, "1.0.0", State.READY, (replica(0), replica(1))),)
    acme, other, idle = plugins(
        (plugin("acme", generations=two), plugin("other"), plugin("idle")),
        tally(acme=[0.002] * 99 + [4.0], other=[0.2]),
        (stats("plugin:acme", 2, 1), stats("plugin:acme", 3, 0), stats("acme", 9, 9)),
    )
    assert (acme.figures.requests, acme.figures.in_flight) == (100, 6)
    assert acme.figures.latency_p50_ms is not None
    assert 1.0 < acme.figures.latency_p50_ms < 2.5
    assert acme.figures.latency_p99_ms == 2.5
    assert [each.in_flight for each in acme.status.generations[0].replicas] == [5, 1]
    assert (other.figures.requests, other.figures.in_flight) == (1, 0)
    assert (idle.figures.requests, idle.figures.latency_p50_ms) == (0, None)


def test_what_is_described_is_the_status_and_the_figures() -> None:
    (one,) = plugins((plugin(),), tally(acme=[0.02] * 4), (stats("plugin:acme", 1),))
    entry = described(one)
    assert entry["provider_type"] == "acme"
    assert entry["state"] == "ready"
    assert entry["requests"] == 4
    assert entry["in_flight"] == 1
    assert entry["latency_p50_ms"] == 17.5
    assert entry["latency_p99_ms"] == 24.85


def test_summary_tells_nothing_that_is_the_operator_s() -> None:
    (one,) = plugins((plugin(last_error="exit status 1: key sk-123"),), Tally(), ())
    assert summary(one) == {
        "provider_type": "acme",
        "state": "ready",
        "generation": 3,
        "models": 2,
        "restarts": 0,
        "requests": 0,
        "in_flight": 0,
    }


def test_plugin_that_never_ran_has_generation_nought() -> None:
    generation = serving(plugin(generations=(), state=State.INVALID))
    assert (generation.number, generation.version) == (0, "1.2.0")
    assert generation.state is State.INVALID
    assert generation.replicas == ()


def test_of_several_with_one_provider_type_the_one_that_runs_is_meant() -> None:
    running = plugin(manifest="/z/plugin.yaml")
    stopped = plugin(state=State.STOPPED, generations=(), manifest="/b/plugin.yaml")
    copied = plugin(state=State.INVALID, generations=(), manifest="/a/plugin.yaml")
    assert chosen((copied, running, stopped)) == {"acme": running}
    assert chosen((copied, stopped)) == {"acme": stopped}
    assert chosen((copied,)) == {"acme": copied}
    counted = plugins((copied, running), tally(acme=[0.02] * 4), (stats("plugin:acme", 1),))
    assert [one.figures.requests for one in counted] == [0, 4]
    assert [one.figures.in_flight for one in counted] == [0, 1]

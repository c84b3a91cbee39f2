"""Plugins in figures: what workers counted and see of each, beside what is known of its processes.

A plugin's exchanges are counted as those of any pool, under `plugin:TYPE`; nothing is counted
twice for it. Latency is of whole exchanges since the node began: for a stream, to its end.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec
from msgspec import structs

from loomproxy.channel import Stats
from loomproxy.core.chat.provider import Provider
from loomproxy.core.tally import Histogram, Tally
from loomproxy.node.supervisor import Supervisor
from loomproxy.plugins.status import GenerationStatus, PluginStatus, State

_DIGITS: Final = 3  # of a millisecond: the smallest bucket is half of one


class Figures(msgspec.Struct, frozen=True):
    """What workers say of one plugin."""

    requests: int = 0  # finished, since the node began
    in_flight: int = 0  # over all workers
    latency_p50_ms: float | None = None  # None: there was no request
    latency_p99_ms: float | None = None
    at: Mapping[str, int] = {}  # what is in flight at each of its addresses


class Plugin(msgspec.Struct, frozen=True):
    """One plugin, with its figures."""

    status: PluginStatus
    figures: Figures


class Keeper(Protocol):
    """Who knows the plugins."""

    def status(self) -> tuple[PluginStatus, ...]:
        """All of them, as they are now."""


class Plugins:
    """All plugins of a node; `keeper` gives who knows them, or None while there are none."""

    def __init__(self, supervisor: Supervisor, keeper: Callable[[], Keeper | None]) -> None:
        self._supervisor = supervisor
        self._keeper = keeper

    async def now(self) -> tuple[Plugin, ...]:
        """All of them, with what workers say when they are asked."""
        return self.beside(await self._supervisor.stats())

    def beside(self, stats: Mapping[int, Stats]) -> tuple[Plugin, ...]:
        """All of them, with what workers have just said."""
        keeper = self._keeper()
        statuses = keeper.status() if keeper is not None else ()
        return plugins(statuses, self._supervisor.total(), stats.values())


def plugins(
    statuses: Iterable[PluginStatus], tally: Tally, stats: Iterable[Stats]
) -> tuple[Plugin, ...]:
    """Each plugin with what was counted of it, and with what its replicas have in flight.

    Of several that claim one provider_type, all that was counted is the one's that `chosen` finds.
    """
    requests, durations = _counted(tally)
    flying = flying_at(stats)
    found = []
    every = tuple(statuses)
    counted = chosen(every)
    for status in every:
        if status is not counted[status.provider_type]:
            found.append(Plugin(status, Figures()))
            continue
        pool = Provider(status.provider_type).pool
        duration = durations.get(pool, Histogram())
        at = flying.get(pool, {})
        figures = Figures(
            requests=requests.get(pool, 0),
            in_flight=sum(at.values()),
            latency_p50_ms=_ms(duration.quantile(0.5)),
            latency_p99_ms=_ms(duration.quantile(0.99)),
            at=at,
        )
        found.append(Plugin(_with_flights(status, at), figures))
    return tuple(found)


def described(plugin: Plugin) -> dict[str, object]:
    """All of one plugin, for the API."""
    entry: dict[str, object] = msgspec.to_builtins(plugin.status)
    figures = plugin.figures
    return {
        **entry,
        "requests": figures.requests,
        "in_flight": figures.in_flight,
        "latency_p50_ms": figures.latency_p50_ms,
        "latency_p99_ms": figures.latency_p99_ms,
    }


def summary(plugin: Plugin) -> dict[str, object]:
    """What a page may tell that is not the operator's alone: no paths, no errors, no config."""
    status = plugin.status
    return {
        "provider_type": status.provider_type,
        "state": status.state.value,
        "generation": serving(status).number,
        "models": len(status.models),
        "restarts": status.restarts,
        "requests": plugin.figures.requests,
        "in_flight": plugin.figures.in_flight,
    }


def chosen(statuses: Iterable[PluginStatus]) -> dict[str, PluginStatus]:
    """The one of each provider_type: what runs, else what can, before those that are refused."""
    found: dict[str, PluginStatus] = {}
    for status in statuses:
        before = found.get(status.provider_type)
        if before is None or _standing(status) < _standing(before):
            found[status.provider_type] = status
    return found


def _standing(status: PluginStatus) -> tuple[bool, bool]:
    return not status.generations, status.state is State.INVALID


def serving(status: PluginStatus) -> GenerationStatus:
    """The generation that serves, or would; number 0 when there is none."""
    nothing = GenerationStatus(0, status.version, status.state)
    return status.generations[0] if status.generations else nothing


def _counted(tally: Tally) -> tuple[dict[str, int], dict[str, Histogram]]:
    """Requests and durations by pool, over all routes."""
    requests: dict[str, int] = {}
    durations: dict[str, Histogram] = {}
    for (_route, pool), series in tally.series.items():
        requests[pool] = requests.get(pool, 0) + sum(series.requests)
        durations.setdefault(pool, Histogram()).add(series.duration)
    return requests, durations


def flying_at(stats: Iterable[Stats]) -> dict[str, dict[str, int]]:
    """What is in flight, by pool and address, over all workers."""
    flying: dict[str, dict[str, int]] = {}
    for answer in stats:
        for pool in answer.pools:
            at = flying.setdefault(pool.name, {})
            for endpoint in pool.endpoints:
                at[endpoint.address] = at.get(endpoint.address, 0) + endpoint.in_flight
    return flying


def _with_flights(status: PluginStatus, at: Mapping[str, int]) -> PluginStatus:
    """The status, with what each replica has in flight."""
    generations = tuple(
        structs.replace(
            generation,
            replicas=tuple(
                structs.replace(replica, in_flight=at.get(replica.address, replica.in_flight))
                for replica in generation.replicas
            ),
        )
        for generation in status.generations
    )
    return structs.replace(status, generations=generations)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0, _DIGITS)

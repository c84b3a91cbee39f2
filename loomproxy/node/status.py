"""What `loomproxy status` shows: node, listeners, workers, pools and endpoints, as plain values.

Each worker has its own view of a pool, because each probes and observes for itself. They are
summed; where they differ (an endpoint that only some find unhealthy) the number of workers is said.
"""

from collections.abc import Iterable

from loomproxy.channel import EndpointStatus, Stats
from loomproxy.node.slot import Slot, exchanges
from loomproxy.node.sockets import Sockets


def workers(slots: Iterable[Slot]) -> list[dict[str, object]]:
    """One entry per slot."""
    return [_worker(slot) for slot in slots]


def _worker(slot: Slot) -> dict[str, object]:
    worker = slot.worker
    entry: dict[str, object] = {
        "slot": slot.number,
        "state": slot.state.value,
        "pid": worker.pid if worker is not None else 0,
        "starts": slot.starts,
        "revision": worker.revision if worker is not None else 0,
    }
    if slot.backoff_s:
        entry["backoff_s"] = round(slot.backoff_s, 1)
    pong = worker.pong if worker is not None else None
    if worker is not None and pong is not None:
        entry["connections"] = pong.connections
        entry["in_flight"] = pong.in_flight
        entry["tasks"] = pong.tasks
        entry["requests"] = exchanges(pong.tally)
        entry["requests_per_s"] = round(worker.requests_per_s, 1)
        entry["loop_lag_s"] = round(pong.loop_lag_s, 4)
    return entry


def listeners(sockets: Sockets) -> list[dict[str, str]]:
    """One entry per bound address."""
    return [{"name": one.name, "address": one.address} for one in sockets.listening]


def pools(stats: dict[int, Stats]) -> list[dict[str, object]]:
    """One entry per pool, over all workers that answered."""
    views: dict[str, list[EndpointStatus]] = {}
    waiting: dict[str, int] = {}
    for answer in stats.values():
        for pool in answer.pools:
            views.setdefault(pool.name, []).extend(pool.endpoints)
            waiting[pool.name] = waiting.get(pool.name, 0) + pool.waiting
    return [
        {"name": name, "waiting": waiting[name], "endpoints": _endpoints(views[name])}
        for name in sorted(views)
    ]


def available(stats: dict[int, Stats]) -> dict[str, int]:
    """How many endpoints of each pool get traffic from some worker, by the pool's name."""
    good: dict[str, set[str]] = {}
    for answer in stats.values():
        for pool in answer.pools:
            good.setdefault(pool.name, set()).update(
                each.address
                for each in pool.endpoints
                if each.enabled and each.healthy and not each.ejected_for_s
            )
    return {name: len(addresses) for name, addresses in good.items()}


def _endpoints(views: list[EndpointStatus]) -> list[dict[str, object]]:
    """One entry per address, in the order of the configuration."""
    by_address: dict[str, list[EndpointStatus]] = {}
    for view in views:
        by_address.setdefault(view.address, []).append(view)
    return [_endpoint(address, same) for address, same in by_address.items()]


def _endpoint(address: str, views: list[EndpointStatus]) -> dict[str, object]:
    return {
        "address": address,
        "weight": views[-1].weight,
        "enabled": views[-1].enabled,
        "workers": len(views),
        "workers_healthy": sum(view.healthy for view in views),
        "workers_ejecting": sum(view.ejected_for_s > 0 for view in views),
        "ejected_for_s": round(max(view.ejected_for_s for view in views), 1),
        "in_flight": sum(view.in_flight for view in views),
        "keepalive": sum(view.keepalive for view in views),
    }

"""How the pools of this worker are, for the operator."""

from loomproxy.channel import EndpointStatus, PoolStatus
from loomproxy.core.pool import Pool
from loomproxy.core.units import Instant
from loomproxy.worker.services import Services


def pool_statuses(services: Services, now: Instant) -> tuple[PoolStatus, ...]:
    """Every pool of the current snapshot, as this worker sees it at `now`."""
    return tuple(_pool_status(services, pool, now) for pool in services.world.pools.values())


def _pool_status(services: Services, pool: Pool, now: Instant) -> PoolStatus:
    endpoints = tuple(
        EndpointStatus(
            address=endpoint.name,
            weight=endpoint.spec.weight,
            enabled=endpoint.spec.enabled,
            healthy=endpoint.healthy,
            ejected_for_s=max(0.0, endpoint.ejected_until - now),
            in_flight=endpoint.in_flight,
            keepalive=services.keepalive.count(endpoint),
        )
        for endpoint in pool.endpoints
    )
    return PoolStatus(pool.spec.name, pool.waiting, endpoints)

"""Active health checks: one task for each endpoint of a pool that asks for it.

A probe is one `GET` on a fresh connection, closed afterwards. It counts as good when a response
head with an expected status arrives within the timeout. What that means for the endpoint is core's
to decide (`Endpoint.probed`).
"""

import asyncio
from typing import Any, Final

from loomproxy.config.trust import reason_of
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.http1.wire import Limits, Refusal, ResponseWire
from loomproxy.core.message import Response, ResponseHead
from loomproxy.core.pool import ProbeSpec
from loomproxy.core.world import World
from loomproxy.log import log
from loomproxy.worker.secure import Secure
from loomproxy.worker.services import Services

_REQUEST: Final = (
    b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: loomproxy-probe\r\nConnection: close\r\n\r\n"
)

READ_BYTES_MAX: Final = 64 << 10
"""How much of an answer is read at a time."""


class Probes:
    """The probes of a worker."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._running: dict[tuple[Endpoint, ProbeSpec], asyncio.Task[None]] = {}

    def follow(self, world: World) -> None:
        """Probe what the current pools ask for, and nothing else."""
        wanted = {
            (endpoint, pool.spec.probe)
            for pool in world.pools.values()
            if pool.spec.probe is not None
            for endpoint in pool.endpoints
            if endpoint.spec.enabled
        }
        for key in self._running.keys() - wanted:
            self._running.pop(key).cancel()
        for endpoint, spec in wanted - self._running.keys():
            task = self._services.spawn(self._watch(endpoint, spec))
            self._running[endpoint, spec] = task

    def stop(self) -> None:
        """Probe no more."""
        for task in self._running.values():
            task.cancel()
        self._running.clear()

    async def _watch(self, endpoint: Endpoint, spec: ProbeSpec) -> None:
        while True:
            trouble = await _probe(endpoint, spec, self._services.secure)
            if endpoint.probed(not trouble, rise=spec.rise, fall=spec.fall):
                event = "endpoint healthy" if endpoint.healthy else "endpoint unhealthy"
                log(event, level="warning", endpoint=endpoint.name, reason=trouble)
            await asyncio.sleep(spec.interval_s)  # noqa: TID251 - a cadence of its own


async def _probe(endpoint: Endpoint, spec: ProbeSpec, secure: Secure) -> str:
    """Ask once; return what was wrong, or ""."""
    try:
        async with asyncio.timeout(spec.timeout_s):
            status = await _ask(endpoint, spec, secure.towards(endpoint))
    except TimeoutError:
        return f"no answer within {spec.timeout_s:g} s"
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name can be.
        return reason_of(error)
    if spec.status_min <= status <= spec.status_max:
        return ""
    return f"status {status}"


async def _ask(endpoint: Endpoint, spec: ProbeSpec, secured: dict[str, Any]) -> int:
    address = endpoint.spec.address
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port, **secured)
    try:
        writer.write(_REQUEST % (spec.path, spec.host or endpoint.authority))
        wire = ResponseWire(Limits())
        wire.expect(b"GET")
        while True:
            thing = wire.poll()
            if isinstance(thing, Response):
                return thing.head.status
            if isinstance(thing, ResponseHead) and not thing.is_interim:
                return thing.status
            if isinstance(thing, Refusal):
                raise ConnectionError(thing.detail)
            if thing is None:
                wire.receive(await reader.read(READ_BYTES_MAX))
    finally:
        writer.transport.abort()

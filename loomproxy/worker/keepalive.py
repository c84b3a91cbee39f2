"""Idle upstream connections, held for reuse.

For each endpoint a stack: the one that was used last is taken first, so that the others can grow
old and leave. An idle connection that says anything, or ends, is thrown away where it stands.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from loomproxy.core.endpoint import Endpoint, KeepaliveSpec
from loomproxy.core.units import Instant
from loomproxy.core.wheel import Wheel
from loomproxy.worker.ports import Idle, Waiting

Kept = TypeVar("Kept", bound=Idle)


class Keepalive(Generic[Kept]):
    """The idle connections of a worker, by endpoint."""

    def __init__(self, wheel: Wheel[Waiting]) -> None:
        self._wheel = wheel
        self._idle: dict[Endpoint, list[Kept]] = {}

    def take(self, endpoint: Endpoint) -> "Kept | None":
        """The youngest idle connection to `endpoint`, or None."""
        stack = self._idle.get(endpoint)
        return stack.pop() if stack else None

    def put(self, upstream: Kept, spec: KeepaliveSpec, now: Instant) -> bool:
        """Hold `upstream` for reuse; False when there are enough, or it has served long enough."""
        stack = self._idle.setdefault(upstream.endpoint, [])
        if len(stack) >= spec.idle_max or upstream.exchanges >= spec.requests_max:
            return False
        stack.append(upstream)
        upstream.deadline_at = now + spec.idle_timeout_s
        self._wheel.schedule(upstream)
        return True

    def remove(self, upstream: Kept) -> None:
        """`upstream` is of no use any more."""
        stack = self._idle.get(upstream.endpoint)
        if stack and upstream in stack:
            stack.remove(upstream)

    def lost(self, upstream: Kept) -> None:
        """`upstream` is closed, idle or not."""
        self.remove(upstream)
        self._wheel.forget(upstream)

    def count(self, endpoint: Endpoint) -> int:
        """How many idle connections `endpoint` has."""
        return len(self._idle.get(endpoint, ()))

    def close(self, endpoints: Iterable[Endpoint] | None = None) -> None:
        """Close the idle connections of `endpoints`, or all of them."""
        for endpoint in list(self._idle) if endpoints is None else endpoints:
            for upstream in self._idle.pop(endpoint, ()):
                upstream.close()

"""What workers know of all plugins: one tuple of providers, changed for one plugin at a time.

A change that workers refuse is taken back and hurts nobody else: the next one is made from what
they took last.
"""

import asyncio
from collections.abc import Awaitable, Callable

from loomproxy.core.chat.provider import Provider

Publish = Callable[[tuple[Provider, ...]], Awaitable[tuple[str, ...]]]
"""Makes the providers current in every worker; returns what stood against it."""


class Publisher:
    """The providers that workers have, by provider_type."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._current: dict[str, Provider] = {}
        self._lock = asyncio.Lock()

    async def put(self, provider_type: str, make: Callable[[], Provider | None]) -> tuple[str, ...]:
        """Publish what `make` returns when it is this plugin's turn; None: it is gone.

        Returns what stood against it, once all workers acknowledged or one refused.
        """
        async with self._lock:
            provider = make()
            if provider == self._current.get(provider_type):
                return ()
            wanted = {**self._current}
            if provider is None:
                del wanted[provider_type]
            else:
                wanted[provider_type] = provider
            problems = await self._publish(tuple(wanted[name] for name in sorted(wanted)))
            if not problems:
                self._current = wanted
            return problems

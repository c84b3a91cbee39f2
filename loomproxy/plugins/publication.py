"""What workers know of one plugin: told when it changes, and again until they took it."""

import asyncio
from collections.abc import Callable
from typing import Final

from loomproxy.core.chat.provider import Provider
from loomproxy.log import log
from loomproxy.plugins.setting import Setting

PUBLISH_AGAIN_S: Final = 1.0
"""How soon what workers did not take is offered again."""


class Publication:
    """Publishes what `make` returns at that moment, until it is `over`."""

    def __init__(
        self,
        provider_type: str,
        setting: Setting,
        make: Callable[[], Provider | None],
        *,
        over: asyncio.Event,
    ) -> None:
        self._provider_type = provider_type
        self._setting = setting
        self._make = make
        self._over = over
        self._coming = False

    async def now(self) -> tuple[str, ...]:
        """Publish; return what stood against it, once all workers acknowledged or one refused."""
        return await self._setting.publisher.put(self._provider_type, self._made)

    def soon(self) -> None:
        """Have it published without waiting; often at once is as good as once."""
        if not self._coming:
            self._coming = True
            self._setting.background(self.until_taken(), "publication of a plugin")

    async def until_taken(self) -> None:
        """Publish how it is; again after a while when workers did not take it."""
        problems = await self.now()
        while problems and not self._over.is_set():
            log(
                "plugin not published",
                level="error",
                plugin=self._provider_type,
                reason="; ".join(problems),
            )
            await asyncio.sleep(PUBLISH_AGAIN_S)  # noqa: TID251 # the cadence of offering it again
            problems = await self.now()

    def _made(self) -> Provider | None:
        self._coming = False
        return self._make()

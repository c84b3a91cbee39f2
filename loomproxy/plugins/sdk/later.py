"""What Python 3.11 has, for a python3 of the system that is older than the proxy's: 3.9 or 3.10."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

if sys.version_info >= (3, 11):  # noqa: UP036 - the SDK runs where the proxy does not
    from asyncio import timeout
    from contextlib import aclosing
else:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def aclosing(thing: Any) -> AsyncIterator[Any]:
        """End with `aclose()`."""
        try:
            yield thing
        finally:
            await thing.aclose()

    class timeout:  # noqa: N801 - asyncio's name
        """Cancel what runs in the block after so many seconds, and raise TimeoutError."""

        def __init__(self, seconds: float) -> None:
            self._seconds = seconds
            self._expired = False

        async def __aenter__(self) -> None:
            """Begin to count."""
            loop = asyncio.get_running_loop()
            self._task = asyncio.current_task()
            self._handle = loop.call_later(self._seconds, self._expire)

        def _expire(self) -> None:
            self._expired = True
            self._task.cancel()

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            _error: BaseException | None,
            _trace: TracebackType | None,
        ) -> None:
            """Tell our cancellation from another one."""
            self._handle.cancel()
            if self._expired and kind is asyncio.CancelledError:
                raise TimeoutError


__all__ = ["aclosing", "timeout"]

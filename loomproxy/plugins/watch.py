"""Tells when something changes among the plugins' files, by the kernel's own means.

What changes within `DEBOUNCE_MS` is told at once together, so that a save of many files is one
change. The directory may be absent, and may be removed and made again: then it is looked for
again. Folders that are linked in are watched where they really are. Where the kernel refuses (its
limits of inotify are used up), that is said, and nothing is watched; commands reload all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from loomproxy.log import log
from loomproxy.plugins.digest import counts

DEBOUNCE_MS: Final = 100
"""How long changes are gathered after the first one."""

STEP_MS: Final = 50
"""A pause as long as this ends the gathering sooner."""

LOOK_AGAIN_S: Final = 1.0
"""How often it is asked whether the directory is (still) there."""


class Watch:
    """Watches `directory`, and what `also` returns.

    `changed` is awaited with the paths that changed; None: anything may have.
    """

    def __init__(
        self,
        directory: Path,
        *,
        also: Callable[[], frozenset[Path]],
        changed: Callable[[frozenset[Path] | None], Awaitable[None]],
    ) -> None:
        self._directory = directory
        self._also = also
        self._changed = changed

    async def live(self) -> None:
        """Watch, for ever; return only when the kernel refuses."""
        absent = False
        while True:
            if _inode(self._directory) is None:
                if not absent:
                    absent = True
                    log("plugin directory is absent", level="warning", path=self._directory)
                    await self._changed(None)
                await asyncio.sleep(LOOK_AGAIN_S)  # noqa: TID251 # the cadence of looking for it
                continue
            absent = False
            try:
                await self._watch()
            except (OSError, RuntimeError) as error:  # The latter is what its Rust side raises.
                if _inode(self._directory) is None:
                    continue
                log(
                    "plugins are not watched",
                    level="error",
                    path=self._directory,
                    reason=f"{error}; raise fs.inotify.max_user_watches and max_user_instances, "
                    "or reload by command",
                )
                return

    async def _watch(self) -> None:
        """Watch what is there now, until it is other folders that must be watched."""
        # Not before it is needed: it is no small import, and most nodes have no plugins.
        from watchfiles import awatch  # noqa: PLC0415 - see above

        roots = self._roots()
        inode = _inode(self._directory)
        first = True
        changes = awatch(
            *sorted(roots),
            watch_filter=lambda _change, path: any(counts(Path(path), root) for root in roots),
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=int(LOOK_AGAIN_S * 1000),
            yield_on_timeout=True,
            force_polling=False,
            ignore_permission_denied=True,
        )
        async for found in changes:
            if found or first:  # What changed before the kernel listened is not told.
                paths = frozenset(Path(path) for _change, path in found)
                await self._changed(None if first else paths)
                first = False
            if _inode(self._directory) != inode or self._roots() != roots:
                await self._changed(None)
                return

    def _roots(self) -> frozenset[Path]:
        directory = self._directory.resolve()
        also = {path for path in self._also() if not path.is_relative_to(directory)}
        return frozenset({directory, *(path for path in also if path.is_dir())})


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino if path.is_dir() else None
    except OSError:
        return None

"""A new configuration, or the old one and why: load, check, publish, all acknowledge.

Nothing is half changed. A configuration that cannot be read or compiled, one that would change what
a running node cannot change, or one that a worker refuses, leaves everything as it was; every
reason is reported at once.

What plugins are configured with is checked before, and handed to them after, workers took their
part: each plugin that it concerns then starts a new generation, or keeps the old one and says why.
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec

from loomproxy.config.key import Base
from loomproxy.config.kinds import KINDS
from loomproxy.config.model import Config, Static
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.shape import Group, Leaf, Maybe, Shape
from loomproxy.log import log
from loomproxy.node.guests import Guests
from loomproxy.node.supervisor import Supervisor

Source = Callable[[], Config | Problems]
"""Reads the configuration anew, and compiles it to see whether that can be done."""


class Report(msgspec.Struct, frozen=True):
    """What became of a reload."""

    ok: bool
    revision: int  # what is current now
    problems: tuple[str, ...] = ()  # why it was kept; none when all went well


def refusal(revision: int, problem: str) -> Report:
    """Nothing was done, and why."""
    return Report(ok=False, revision=revision, problems=(problem,))


class Reloader:
    """Reloads, one at a time; a reload that is asked for meanwhile waits its turn.

    `began` and `ended` are called around each (for systemd).
    """

    def __init__(
        self,
        source: Source,
        supervisor: Supervisor,
        guests: Guests,
        *,
        began: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._source = source
        self._supervisor = supervisor
        self._guests = guests
        self._began = began
        self._ended = ended
        self._lock = asyncio.Lock()
        self.succeeded = 0
        self.failed = 0
        self.last: Report | None = None

    async def reload(self, source: Source | None = None) -> Report:
        """Publish what the file says now, or what `source` does; or report why not."""
        async with self._lock:
            self._began()
            try:
                problems = await self._attempt(source or self._source)
            finally:
                self._ended()
            report = Report(not problems, self._supervisor.current.revision, problems)
            self.last = report
            if report.ok:
                self.succeeded += 1
                log("reloaded", revision=report.revision)
            else:
                self.failed += 1
                for problem in problems:
                    log("reload refused", level="error", revision=report.revision, reason=problem)
            return report

    async def _attempt(self, source: Source) -> tuple[str, ...]:
        config = source()
        if isinstance(config, Problems):
            return tuple(str(problem) for problem in config.items)
        problems = static_changes(self._supervisor.static, config.static)
        if problems:
            return tuple(str(problem) for problem in problems)
        refused = await self._guests.problems(config.plugins)
        if not refused:
            refused = await self._supervisor.publish(config.dynamic)
        if not refused:
            await self._guests.configure(config.plugins)
        return refused


def static_changes(before: Static, after: Static) -> list[Problem]:
    """What a reload would have to change and cannot, key by key."""
    return [
        Problem(
            path,
            "the new value differs, and a running node cannot change it",
            f"what it was started with, {was}",
            "Put the old value back, or restart the node.",
        )
        for path, was in _differences(before, after)
    ]


def _differences(before: object, after: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The keys whose values differ, as deep as they can be named, with what was before."""
    if isinstance(before, Base) and isinstance(after, type(before)):
        yield from _differences_of_keys(before, after, path)
    elif isinstance(before, tuple) and isinstance(after, tuple) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{path}[{place}]")
    elif isinstance(before, tuple) and before != after:
        yield path, f"{len(before)} of them"
    elif before != after:
        yield path, before


def _differences_of_keys(before: Base, after: Base, path: str) -> Iterator[tuple[str, object]]:
    """Those of each key; of a secret, only that it differs."""
    for key in Group(type(before)).keys:
        below = f"{path}.{key.name}" if path else key.name
        was, becomes = getattr(before, key.attribute), getattr(after, key.attribute)
        if not _is_private(key.shape):
            yield from _differences(was, becomes, below)
        elif was != becomes:
            yield below, "which is not shown"


def _is_private(shape: Shape) -> bool:
    """Whether a value of this shape may be a secret."""
    leaf = shape.item if isinstance(shape, Maybe) else shape
    return isinstance(leaf, Leaf) and leaf.kind in KINDS and KINDS[leaf.kind].private

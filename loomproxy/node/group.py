"""Actors that live and end together: the first to return stops all.

After oklog/run: each long-running part of the node has a function that runs it and one that
interrupts it. When any of them returns, for whatever reason, the others are interrupted and
awaited, and the group has ended. So nothing goes on running beside a part that has silently
stopped.

The group is also where short tasks are spawned (a reload, an answer): it keeps them alive, and says
so when one of them fails.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loomproxy.log import log


class Group:
    """A set of actors, and the short tasks they spawn."""

    def __init__(self) -> None:
        self._actors: list[
            tuple[str, Callable[[], Coroutine[Any, Any, None]], Callable[[], None] | None]
        ] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(
        self,
        name: str,
        run: Callable[[], Coroutine[Any, Any, None]],
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """Add an actor before `run`. Without `interrupt` it is cancelled."""
        self._actors.append((name, run, interrupt))

    async def run(self) -> str:
        """Run all until one returns; stop the others; return the first one's name.

        Raises what the first one raised, once all have ended.
        """
        interrupts: dict[asyncio.Task[None], Callable[[], None]] = {}
        for name, run, interrupt in self._actors:
            task = _task(run(), name)
            interrupts[task] = interrupt if interrupt is not None else _canceller(task)
        try:
            done, _ = await asyncio.wait(interrupts, return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in interrupts if task in done)
            for task, interrupt in interrupts.items():
                if not task.done():
                    interrupt()
            await asyncio.wait(interrupts)
        finally:
            await _ended({*interrupts, *self._tasks})
        for task in interrupts:
            _report(task, expected=task is first)
        await first
        return first.get_name()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin a short task; its failure is logged, and ends nothing else."""
        task = _task(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """As `spawn`, for work that nobody waits for."""
        task = self.spawn(work, name)
        assert not task.done()

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        _report(task, expected=False)


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one returns, cancel the others; raise what the first one raised."""
    tasks = [_task(work, "first of") for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task.done())
    finally:
        await _ended(set(tasks))
    await first


def _task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    loop = asyncio.get_running_loop()
    return loop.create_task(work, name=name)


def _canceller(task: asyncio.Task[None]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and wait for it."""
    left = {task for task in tasks if not task.done()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


def _report(task: asyncio.Task[None], *, expected: bool) -> None:
    """Log the error of a task that nobody will await."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not expected:
        log("a task failed", level="error", task=task.get_name(), error=repr(error))

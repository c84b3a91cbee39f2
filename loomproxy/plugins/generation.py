"""One run of a plugin's version: its processes, and what they are together.

It is made for one goal and never changes it. It serves as soon as one of its processes is READY; it
takes over from another when all are.
"""

import asyncio
from collections.abc import Callable, Mapping

from msgspec import structs

from loomproxy.core.endpoint import EndpointSpec
from loomproxy.plugins.contract import ModelInfo
from loomproxy.plugins.remote import Remote
from loomproxy.plugins.replica import CLEANUP_TIMEOUT_S, Replica
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import GenerationStatus, ReplicaStatus, State
from loomproxy.plugins.usage import Usage
from loomproxy.plugins.wish import Goal

_BEST_FIRST = (State.READY, State.UNHEALTHY, State.STARTING, State.BACKOFF, State.FAILED)


class Generation:
    """The processes of one wish. `changed` is called when one of them did."""

    def __init__(
        self,
        number: int,
        goal: Goal,
        setting: Setting,
        *,
        interval_s: Callable[[], float],
        changed: Callable[[], None],
        said: Callable[[int, int, str, str], None],
    ) -> None:
        self.number = number
        self.goal = goal
        self.was_ready = False
        self.on_trial = False  # it starts beside another, which serves until this one can
        self.draining = False  # it gets nothing new
        self.silent = False  # workers know nothing of it
        self.ended = asyncio.Event()
        self._changed = changed
        self.replicas: tuple[Replica | Remote, ...]
        wish = goal.wish
        if wish.manifest.command:
            self.replicas = tuple(
                Replica(
                    place,
                    wish,
                    setting,
                    interval_s=interval_s,
                    changed=self._heard,
                    said=lambda replica, stream, line: said(number, replica, stream, line),
                )
                for place in range(wish.manifest.replicas)
            )
        else:
            self.replicas = (Remote(wish, setting, interval_s=interval_s, changed=self._heard),)

    @property
    def state(self) -> State:
        """The best of its processes."""
        if self.draining:
            return State.STOPPED if self.ended.is_set() else State.DRAINING
        states = {replica.state for replica in self.replicas}
        return next((state for state in _BEST_FIRST if state in states), State.STOPPED)

    @property
    def all_ready(self) -> bool:
        """Whether it may take over."""
        return all(replica.state is State.READY for replica in self.replicas)

    @property
    def any_failed(self) -> bool:
        """Whether one of its processes is given up, though others may serve."""
        return any(replica.state is State.FAILED for replica in self.replicas)

    @property
    def trouble(self) -> str:
        """Why not all of it is READY, in words for operators; "" when nothing went wrong."""
        return next((replica.trouble for replica in self.replicas if replica.trouble), "")

    @property
    def worth_keeping(self) -> bool:
        """Whether it served, and will again: what replaces it must prove itself first."""
        return self.was_ready and self.state is not State.FAILED

    @property
    def gone_within_s(self) -> float:
        """How long it takes to drain and to leave, where nothing is held up but the plugin."""
        manifest = self.goal.wish.manifest
        return manifest.drain_timeout_s + CLEANUP_TIMEOUT_S + manifest.stop_timeout_s

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """What it serves, as the first of its processes that is READY said."""
        ready = (one for one in self.replicas if one.state in (State.READY, State.UNHEALTHY))
        return next((replica.models for replica in ready), ())

    @property
    def crashes(self) -> int:
        """How often one of its processes left unasked; on trial that is a reload that failed."""
        return 0 if self.on_trial else sum(replica.crashes for replica in self.replicas)

    @property
    def addresses(self) -> set[str]:
        """Where its processes answer, as text."""
        return {str(endpoint.address) for endpoint in self.endpoints()}

    def endpoints(self) -> tuple[EndpointSpec, ...]:
        """Where its processes answer; those that should get nothing new are not enabled."""
        specs = (replica.endpoint(enabled=not self.draining) for replica in self.replicas)
        return tuple(spec for spec in specs if spec is not None)

    def start(self) -> None:
        """Start all of it."""
        for replica in self.replicas:
            replica.start()

    def retire(self) -> None:
        """Nothing new for it, and no new process: what serves may finish what it has."""
        self.draining = True
        for replica in self.replicas:
            replica.retire()

    async def stop(self) -> None:
        """End all of it, at the same time; return when nothing is left."""
        self.draining = True
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(replica.stop()) for replica in self.replicas]
        assert all(task.done() for task in tasks)
        self.ended.set()
        self._changed()

    def kill(self) -> None:
        """End all of it at once."""
        for replica in self.replicas:
            replica.kill()

    def status(self, usages: Mapping[int, Usage]) -> GenerationStatus:
        """What operators are told."""
        return GenerationStatus(
            number=self.number,
            version=self.goal.wish.manifest.metadata.version,
            state=self.state,
            replicas=tuple(self._replica(replica.status(usages)) for replica in self.replicas),
        )

    def _replica(self, status: ReplicaStatus) -> ReplicaStatus:
        """One of its processes, which gets nothing new where all of it gets nothing new."""
        served = status.state in (State.READY, State.UNHEALTHY)
        return structs.replace(status, state=State.DRAINING) if self.draining and served else status

    def _heard(self) -> None:
        self.was_ready = self.was_ready or self.state is State.READY
        self._changed()

"""This node among others: how it joins, follows what is published, leads if it must, and leaves.

The store may be away at any moment. Requests never notice: nothing here is on their road. A node
that starts then begins with the last published configuration that it kept on its own disk, and
catches up when the store answers.

    database ─► migrations ─► snapshot ─► (workers, plugins, ready) ─► beats, hints, campaign
"""

import asyncio
import contextlib
import os
import platform
import re
import uuid
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

import loomproxy
from loomproxy.cluster.duties import Duties
from loomproxy.cluster.lastgood import Kept, LastGood, LastGoodError
from loomproxy.cluster.leases import Leases
from loomproxy.cluster.member import Membership
from loomproxy.cluster.opening import store_of
from loomproxy.cluster.store import (
    LEADER,
    Member,
    Report,
    Revision,
    SchemaError,
    Store,
    StoreAwayError,
)
from loomproxy.cluster.watch import Watch
from loomproxy.config.judge import judged
from loomproxy.config.model import Config
from loomproxy.config.problem import Problems
from loomproxy.config.shared import shared
from loomproxy.core.health import Dependency, Status
from loomproxy.log import log
from loomproxy.node.group import Group
from loomproxy.node.guests import Ground
from loomproxy.node.lifecycle import NotYetError
from loomproxy.node.reload import Report as Reload
from loomproxy.node.reload import Source
from loomproxy.node.runtime import RuntimeDirectoryError, runtime_directory

REPORTED_MAX: Final = 20
"""Problems of a revision that others are told of; the log of this node has them all."""

REPORTED_CHARS_MAX: Final = 500
"""Of each of them."""

GOODBYE_S: Final = 4.0
"""How long others are told that we drain; then we go on with it."""

_NOT_OF_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")

_AWAY: Final = (StoreAwayError, SchemaError)


class ClusterReading(msgspec.Struct, frozen=True):
    """What the metrics of the cluster are made from."""

    up: bool  # the store answered lately
    leads: bool
    newest: int  # published revision, as far as was heard
    running: int  # 0: the instance's own file
    refused: bool  # the newest one cannot be applied here
    beats: int  # answered
    missed: int
    latency_s: float  # of the last beat
    leases_lost: int


class Cluster:
    """A node's part in a cluster; with a file as its store, a cluster of one.

    `adopt` publishes what a source gives to workers and plugins, or returns what stands against it;
    `leave` drains the node.
    """

    def __init__(
        self,
        ground: Ground,
        instance_id: str,
        *,
        adopt: Callable[[Source], Awaitable[tuple[str, ...]]],
        leave: Callable[[], None],
    ) -> None:
        static = ground.config.static
        assert static.database is not None, "a node without a store has no cluster"
        self.database, self.settings = static.database, static.cluster
        self.local = ground.config  # what this node's own file says
        self.instance_id = instance_id
        self.incarnation = uuid.uuid4().hex
        self.store: Store = store_of(self.database, instance_id)
        self.leases = Leases(
            self.store,
            self.incarnation,
            ttl_s=self.settings.lease_ttl_s,
            retry_s=self.settings.heartbeat_s,
            dice=ground.dice,
        )
        self.watch = Watch(self.store, self._apply)
        self.membership = Membership(
            self.store,
            _member(ground.config, instance_id, self.incarnation),
            self.settings.heartbeat_s,
            report=self._report,
            neighbours=self,
            dice=ground.dice,
        )
        self.first = ground.config  # what the node begins with
        self._file = ground.file
        self._adopt = adopt
        self._leave = leave
        self._ground = ground
        self._document: str | None = None  # what runs; None: our own file
        self._status = "starting"
        self._joined = False
        self._away = "it was not reached yet"  # until we have joined
        self._living: asyncio.Task[None] | None = None

    # The gates.

    async def reach_database(self) -> None:
        """A gate: the store answers, or we have something to start from without it."""
        try:
            await self.store.open()
        except _AWAY as error:
            if await self._load() is None:
                raise NotYetError(str(error)) from None
            self._away = str(error)
            log("starts without the store", level="warning", reason=self._away)

    async def migrate(self) -> None:
        """A gate: the store's schema is ours, or we start without it."""
        try:
            await self._join()
        except _AWAY as error:
            if isinstance(error, SchemaError) or await self._load() is None:
                raise NotYetError(str(error)) from None

    async def take_snapshot(self) -> None:
        """A gate: there is a configuration to begin with, which is `first` from then on."""
        self.first = await self._first_config()

    async def _first_config(self) -> Config:
        newest: Revision | None = None
        if self._joined:
            try:
                heads = await self.store.revisions(1)
                newest = await self.store.revision(heads[0].number) if heads else None
            except _AWAY as error:
                if await self._load() is None:
                    raise NotYetError(str(error)) from None
                self._joined = False
        if newest is None:
            return await self._from_disk()
        config = self.effective(newest.document)
        if isinstance(config, Problems):
            return await self._older_than(newest, config)
        await self._runs(newest.head.number, newest.document)
        return config

    # Its life.

    def start(self, group: Group) -> None:
        """Beat, listen, follow and campaign, until `end`."""
        self._status = "active"
        self._living = group.spawn(self._live(), "cluster")

    async def draining(self) -> None:
        """Others take over what we lead, and see that we leave: as far as the store hears of it."""
        self._status = "draining"
        if self.away:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.leases.release_all()
                await self.membership.beat()

    async def end(self) -> None:
        """Leave the others. What the store does not hear of, they find out by themselves."""
        if self._living is not None:
            self._living.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._living
        try:
            if not self.away:
                await self.membership.leave()
        except _AWAY as error:
            log("not unregistered", level="warning", reason=str(error))
        finally:
            await self.store.close()

    @property
    def end_timeout_s(self) -> float:
        """How long `end` may take: releasing, unregistering, and closing."""
        database = self.database
        return 2 * database.connect_timeout_s + 4 * database.statement_timeout_s + 1.0

    # What it is told.

    def heard(self, newest: int) -> None:
        """A beat's answer: the newest revision."""
        self.watch.heard(newest)

    def evicted(self) -> None:
        """An operator wants us to leave."""
        log("evicted", level="warning", instance=self.instance_id)
        self._leave()

    def hint(self) -> None:
        """Something changed in the store: a revision, a lease, or the list."""
        self.watch.hint()
        self.leases.hint()
        self.membership.beat_soon()

    async def reread(self, source: Source, reload: Callable[[Source], Awaitable[Reload]]) -> Reload:
        """Our own file may have changed: publish what it says under the document that runs."""
        read: list[Config] = []

        def under_the_document() -> Config | Problems:
            config = source()
            if isinstance(config, Problems):
                return config
            read.append(config)
            return config if self._document is None else self._under(config, self._document)

        report = await reload(under_the_document)
        if report.ok:
            self.local = read[0]
            self.watch.retry()  # What stood against a newer revision may be gone.
        return report

    # What it says.

    def effective(self, document: str | None) -> Config | Problems:
        """The configuration that we would run under `document`."""
        return self.local if document is None else self._under(self.local, document)

    def dependency(self) -> Dependency:
        """How the store is, for the pages of health: in plain words, since anybody reads them."""
        required = self.database.required
        if not self.away:
            latency_ms = round(self.membership.pulse.latency_s * 1000, 1)
            return Dependency(Status.HEALTHY, "it answers", latency_ms, required)
        status = Status.UNHEALTHY if required else Status.DEGRADED
        return Dependency(status, "it does not answer", required=required)

    @property
    def away(self) -> str:
        """Why the store does not answer; empty: it does."""
        return self.membership.pulse.away if self._joined else self._away

    def overview(self) -> dict[str, object]:
        """All that operators see of it and that this instance knows without the store."""
        watch, pulse = self.watch, self.membership.pulse
        return {
            "instance_id": self.instance_id,
            "incarnation": self.incarnation,
            "store": self.database.type,
            "away": self.away,
            "leads": self.leads(),
            "holds": [held.name for held in self.leases.holding()],
            "newest": watch.newest,
            "running": watch.running,
            "refused": watch.refused,
            "problems": list(watch.problems),
            "replaced": pulse.replaced,
            "beats": pulse.beats,
            "beats_missed": pulse.missed,
            "latency_ms": round(pulse.latency_s * 1000, 1),
        }

    def reading(self) -> ClusterReading:
        """For the metrics page."""
        watch, pulse = self.watch, self.membership.pulse
        return ClusterReading(
            up=not self.away,
            leads=self.leads(),
            newest=watch.newest,
            running=watch.running,
            refused=watch.refused != 0,
            beats=pulse.beats,
            missed=pulse.missed,
            latency_s=pulse.latency_s,
            leases_lost=self.leases.lost,
        )

    def leads(self) -> bool:
        """Whether this instance believes to hold the leader's lease."""
        return any(held.name == LEADER for held in self.leases.holding())

    async def _live(self) -> None:
        while not self._joined:
            await self._catch_up()
        while True:
            try:
                await self._take_part()
            except* Exception as broken:  # noqa: BLE001 -- nothing may end this for good
                # A mistake of ours, or of a library. It is told; requests never knew of any of it.
                log("part in the cluster broke", level="error", errors=repr(broken.exceptions))
            wait_s = self.settings.heartbeat_s
            await asyncio.sleep(wait_s)  # noqa: TID251 -- before it begins again

    async def _take_part(self) -> None:
        async with asyncio.TaskGroup() as group:
            duties = Duties(
                self.store,
                self.instance_id,
                self.settings.heartbeat_s,
                self.settings.forget_after_s,
            )
            group.create_task(self.membership.live(), name="beats")
            group.create_task(self.watch.live(), name="watch")
            group.create_task(self.watch.listening(self.hint), name="hints")
            group.create_task(self.leases.keep(LEADER, duties.lead), name="leader")

    async def _catch_up(self) -> None:
        """Join late: the store was away when we started."""
        try:
            await self._join()
        except _AWAY as error:
            self._away = str(error)
            wait_s = self.settings.heartbeat_s
            await asyncio.sleep(wait_s)  # noqa: TID251 -- as often as a beat would ask

    async def _join(self) -> None:
        if await self.store.pending():
            for step in await self.store.migrate():
                log("migrated", version=step.version, name=step.name)
        self._joined = True

    async def _apply(self, revision: Revision) -> tuple[str, ...]:
        """A revision was published: run it, or say why not."""
        problems = await self._adopt(lambda: self.effective(revision.document))
        if not problems:
            await self._runs(revision.head.number, revision.document)
        self.membership.beat_soon()
        return problems

    @cached_property
    def _kept(self) -> LastGood:
        name = self._ground.config.static.node.instance_id
        return LastGood(_state_directory(self._ground) / _kept_name(name))

    async def _runs(self, number: int, document: str | None) -> None:
        self._document = document
        self.watch.running = number
        try:
            await asyncio.to_thread(self._kept.save, number, document)
        except (LastGoodError, RuntimeDirectoryError) as error:
            log("last good configuration not kept", level="error", reason=str(error))

    async def _load(self) -> Kept | None:
        try:
            return await asyncio.to_thread(self._kept.load)
        except (LastGoodError, RuntimeDirectoryError) as error:
            log("last good configuration not used", level="error", reason=str(error))
            return None

    async def _from_disk(self) -> Config:
        """Nothing was published, or the store is away: what we ran last, else our own file."""
        kept = None if self._joined else await self._load()
        if kept is None:
            await self._runs(0, None)
            return self.local
        config = self.effective(kept.document)
        if isinstance(config, Problems):
            raise NotYetError(f"last good configuration: {_first(config)}")
        self._document, self.watch.running = kept.document, kept.number
        return config

    async def _older_than(self, newest: Revision, why: Problems) -> Config:
        """The newest revision cannot be run here: what we ran last, while that can."""
        kept = await self._load()
        config = None if kept is None else self.effective(kept.document)
        if kept is None or not isinstance(config, Config):
            raise NotYetError(f"revision {newest.head.number}: {_first(why)}")
        self._document, self.watch.running = kept.document, kept.number
        self.watch.newest = self.watch.refused = newest.head.number
        self.watch.problems = tuple(str(problem) for problem in why.items)
        for problem in self.watch.problems:
            log("revision refused", level="error", published=newest.head.number, reason=problem)
        return config

    def _under(self, local: Config, document: str) -> Config | Problems:
        return judged(shared(document, local, self._file))

    def _report(self) -> Report:
        watch = self.watch
        problems = (problem[:REPORTED_CHARS_MAX] for problem in watch.problems[:REPORTED_MAX])
        return Report(self._status, watch.running, tuple(problems), watch.refused)


def _member(config: Config, instance_id: str, incarnation: str) -> Member:
    settings = config.static.cluster
    listeners = tuple(listener.address for listener in config.static.listeners)
    return Member(
        instance_id=instance_id,
        incarnation=incarnation,
        hostname=platform.node(),
        version=loomproxy.__version__,
        zone=settings.zone,
        addresses=settings.addresses or listeners,
        metadata=settings.metadata,
        pid=os.getpid(),
    )


def _state_directory(ground: Ground) -> Path:
    """Where what outlives the process is kept: as configured, else where systemd has it."""
    configured = ground.config.static.cluster.state_directory
    named = configured or ground.environment.get("STATE_DIRECTORY", "").split(":")[0]
    if named:
        return Path(named)
    return runtime_directory(ground.environment, ground.config.static.node.runtime_directory)


def _kept_name(instance_id: str) -> str:
    """Apart for each instance that has a name: several may share a directory."""
    plain = _NOT_OF_NAMES.sub("_", instance_id)
    return f"published-{plain}.json" if plain else "published.json"


def _first(problems: Problems) -> str:
    more = len(problems.items) - 1
    return f"{problems.items[0]}" + (f" (and {more} more)" if more else "")

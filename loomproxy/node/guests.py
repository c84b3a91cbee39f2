"""The node's plugins: what the node lends them, and where they stand in its life.

Workers, sockets and the runtime directory are the node's; `plugins.manager` knows none of them. It
is given a way to publish, a way to ask what is in flight, and a private directory for the guests'
sockets, which is removed when the node leaves, or by the next node when this one was killed.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.model import Config, Plugins
from loomproxy.core.health import Dependency, Status
from loomproxy.log import log
from loomproxy.node.group import Group
from loomproxy.node.plugin_figures import flying_at
from loomproxy.node.runtime import RuntimeDirectoryError, runtime_directory
from loomproxy.node.supervisor import Supervisor
from loomproxy.plugins.export import export_sdk
from loomproxy.plugins.manager import Condition, Manager
from loomproxy.plugins.publisher import Publisher
from loomproxy.plugins.reaper import Reaper
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import State

END_TIMEOUT_S: Final = 30.0
"""How long all plugins together may take to leave when the node does; then they are killed."""

REQUIRED_WAIT_RATIO: Final = 0.5
"""The share of the node's startup timeout that required plugins may take before it goes on without.

Readiness stays false then, and says why; the node lives, so that somebody can look.
"""

_LOCK: Final = "lock"
_PREFIX: Final = "plugins-"
_WELL: Final = {
    State.READY: Status.HEALTHY,
    State.STARTING: Status.DEGRADED,
    State.BACKOFF: Status.DEGRADED,
    State.DRAINING: Status.DEGRADED,
    State.UNHEALTHY: Status.DEGRADED,
    State.FAILED: Status.DEGRADED,
    State.INVALID: Status.DEGRADED,
    State.STOPPED: Status.UNKNOWN,
    State.DISABLED: Status.UNKNOWN,
}


class Ground(msgspec.Struct, frozen=True):
    """What a node was started with, as far as plugins are concerned."""

    config: Config
    file: str  # of the configuration: what is relative in it is relative to its folder
    environment: Mapping[str, str]
    dice: Callable[[], float]


class Guests:
    """All plugins of a node. `begin` before the workers start, `end` when they have left."""

    def __init__(self, ground: Ground, supervisor: Supervisor, group: Group) -> None:
        self._ground = ground
        self._supervisor = supervisor
        self._group = group
        self._reaper: Reaper | None = None
        self._rooms: Rooms | None = None
        self._manager: Manager | None = None
        self._wait_until = 0.0

    @property
    def manager(self) -> Manager | None:
        """Of the plugins; None when the configuration never named a directory for any."""
        return self._manager

    async def begin(self, section: Plugins) -> None:
        """Start them, without waiting for any."""
        startup_s = self._ground.config.static.node.startup_timeout_s
        loop = asyncio.get_running_loop()
        self._wait_until = loop.time() + startup_s * REQUIRED_WAIT_RATIO
        await self.configure(section)

    async def problems(self, section: Plugins) -> tuple[str, ...]:
        """What the plugins that are there now have against a new configuration."""
        if self._manager is None:
            return ()
        return await self._manager.problems(section, self._directory(section))

    async def configure(self, section: Plugins) -> None:
        """Follow another configuration of plugins."""
        directory = self._directory(section)
        if self._manager is None:
            if directory is None:
                return
            self._manager = self._make()
        await self._manager.configure(section, directory)

    async def end(self) -> None:
        """End them all, and remove what was made for them."""
        try:
            if self._manager is not None:
                await self._manager.end()
            if self._reaper is not None:
                await self._reaper.stop()
        finally:
            if self._rooms is not None:
                self._rooms.remove()

    async def until_required(self) -> None:
        """Return when every required plugin is READY, or will not be soon."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting_for()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(max(loop.time(), self._wait_until)):
                while waiting and self._manager is not None:
                    await self._manager.until_changed()
                    waiting = self._waiting_for()
        if waiting:
            log("required plugins are not ready", level="error", plugins=", ".join(waiting))

    def dependencies(self) -> dict[str, Dependency]:
        """How they are, for the pages of health, by `plugin:NAME`."""
        manager = self._manager
        if manager is None:
            return {}
        return {f"plugin:{one.provider_type}": _dependency(one) for one in manager.conditions()}

    async def in_flight(self, pool: str) -> Mapping[str, int] | None:
        """How many exchanges each endpoint of `pool` has, by address, over all workers.

        None when a worker that serves did not say.
        """
        stats = await self._supervisor.stats()
        if not self._supervisor.serving <= stats.keys():
            return None
        return flying_at(stats.values()).get(pool, {})

    def _waiting_for(self) -> list[str]:
        """The required plugins that may become READY by themselves, and are not yet."""
        hopeless = (State.FAILED, State.INVALID, State.DISABLED, State.STOPPED)
        conditions = self._manager.conditions() if self._manager is not None else ()
        return [
            one.provider_type
            for one in conditions
            if one.required and one.state is not State.READY and one.state not in hopeless
        ]

    def _directory(self, section: Plugins) -> Path | None:
        """Where plugins are; relative to the configuration's file."""
        if not section.directory:
            return None
        base = Path(self._ground.file).parent if self._ground.file else Path()
        return (base / Path(section.directory).expanduser()).absolute()

    def _make(self) -> Manager:
        """Make what plugins need of the node, once there may be some."""
        ground = self._ground
        rooms = self._rooms = Rooms(ground)
        reaper = self._reaper = Reaper()
        try:
            reaper.start()
        except OSError as error:
            log("no reaper: what guests start may outlive this node", level="error", reason=error)
        return Manager(
            Setting(
                environment=ground.environment,
                place=rooms.place,
                sdk=rooms.sdk(),
                reaper=reaper,
                publisher=Publisher(lambda all_: self._supervisor.publish(providers=all_)),
                in_flight=self.in_flight,
                dice=ground.dice,
                wall_s=lambda: int(datetime.now(UTC).timestamp()),
                spawn=self._group.spawn,
            )
        )


class Rooms:
    """The private directory of one node's guests: a room for each process, and the SDK.

    A lock on a file in it says that the node lives; what is not locked is swept by the next one.
    """

    def __init__(self, ground: Ground) -> None:
        configured = ground.config.static.node.runtime_directory
        self._numbers = itertools.count(1)
        try:
            above = runtime_directory(ground.environment, configured)
            _sweep(above)
            self.directory, self._lock = _claimed(above)
        except (RuntimeDirectoryError, FileExistsError) as error:
            self.directory = Path(tempfile.mkdtemp(prefix=f"loomproxy-{_PREFIX}"))
            self._lock = _locked(self.directory)
            log("plugins run elsewhere", level="warning", at=self.directory, reason=str(error))
        if os.geteuid() == 0:  # A guest may run as another user, and has to come to its room.
            self.directory.chmod(0o711)

    def place(self) -> Path:
        """A room for one process, not made yet; a short name, for a socket's path is short."""
        return self.directory / str(next(self._numbers))

    def sdk(self) -> Path | None:
        """Write the SDK, and return where; None when it cannot be."""
        try:
            return export_sdk(self.directory / "sdk")
        except (OSError, ModuleNotFoundError) as error:
            log("no SDK for plugins", level="warning", reason=str(error))
            return None

    def remove(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)


def _dependency(condition: Condition) -> Dependency:
    """A required plugin that does not serve is worse than another."""
    lacking = condition.required and condition.state is not State.READY
    status = Status.UNHEALTHY if lacking else _WELL[condition.state]
    return Dependency(status, condition.reason, required=condition.required)


def _claimed(above: Path) -> tuple[Path, int]:
    """Make the directory, and its lock, which is held when others first see it: they may sweep."""
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=above))
    lock = _locked(made)
    own = above / f"{_PREFIX}{os.getpid()}"
    try:
        return made.rename(own), lock
    except OSError as error:
        os.close(lock)
        shutil.rmtree(made, ignore_errors=True)
        raise FileExistsError(f"{own} is there already ({error.strerror})") from error


def _locked(directory: Path) -> int:
    lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _sweep(above: Path) -> None:
    """Remove the directories of nodes that were killed."""
    for directory in above.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), (directory / _LOCK).stat()):  # Not the next one.
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(fd)

"""All plugins of a node: which there are, what operators ask of them, and what they are told.

It looks at the files, makes a wish for each plugin and hands it over; each plugin attains its own,
in its own task (`plugin`). Nothing here waits for a plugin but the command that asks one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.plugins import Plugins
from loomproxy.log import log
from loomproxy.plugins.discovery import DISABLED
from loomproxy.plugins.look import NOTHING, Look, look, problems, wishes
from loomproxy.plugins.plugin import Plugin
from loomproxy.plugins.setting import Setting
from loomproxy.plugins.status import LogLine, PluginStatus, Report, State
from loomproxy.plugins.telling import refused_status, status
from loomproxy.plugins.usage import usages
from loomproxy.plugins.watch import Watch
from loomproxy.plugins.wish import Wish

STOP_WAIT_S: Final = 10.0
"""How long a command waits for a plugin to end; one that still drains then is told as such."""

RESTART_MARGIN_S: Final = 10.0
"""How long a restart waits beyond what the manifest gives the old process: for the kernel to end
it, and for workers to say what they have in flight."""


Asked = Callable[[str], bool]
"""Says of which plugin, by its provider_type, an operator asked that its files be looked at."""


def _for_all(_provider_type: str) -> bool:
    return True


def _for_none(_provider_type: str) -> bool:
    return False


class Condition(msgspec.Struct, frozen=True):
    """How a plugin is, in short and for everybody."""

    provider_type: str
    state: State
    required: bool
    reason: str  # why it does not serve; "" when it does


class Manager:
    """All plugins. Make it in a running loop, `configure` it, `end` it when no worker is left."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._section = Plugins()
        self._directory: Path | None = None
        self._plugins: dict[str, Plugin] = {}
        self._look: Look = NOTHING
        self._looking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._ending = False

    # Its life.

    async def configure(self, section: Plugins, directory: Path | None) -> None:
        """Keep the plugins in `directory` (None: there are none) as `section` says, from now on.

        The first time that starts them; later, each that it concerns is reloaded.
        """
        watching = self._watching is not None and not self._watching.done()  # The kernel lets us.
        watched = watching and section.watch and directory == self._directory
        self._section, self._directory = section, directory
        await self.look(asked=_for_all)
        if not watched:
            self._watch()
        referred = {desired.config for desired in section.desired.values()}
        nobody = section.config.keys() - self._plugins.keys() - referred
        nobody |= section.desired.keys() - self._plugins.keys()
        if nobody:
            names = ", ".join(sorted(nobody))
            log("plugins are configured that are not there", level="warning", plugins=names)

    async def problems(self, section: Plugins, directory: Path | None) -> tuple[str, ...]:
        """What the plugins that are there now have against a configuration; nothing is done."""
        environ = self._setting.environment
        untouched: frozenset[Path] = frozenset()
        seen = await asyncio.to_thread(look, directory, environ, self._look, untouched)
        return problems(seen, section)

    async def end(self) -> None:
        """End all plugins, at the same time; return when nothing of them is left."""
        self._ending = True
        if self._watching is not None:
            self._watching.cancel()
        plugins = tuple(self._plugins.values())
        for plugin in plugins:
            plugin.leave()
        try:
            for plugin in plugins:
                await plugin.gone.wait()
        finally:
            for plugin in plugins:
                plugin.kill()

    async def look(
        self, touched: frozenset[Path] | None = None, *, asked: Asked = _for_none
    ) -> None:
        """Look at the files, and have every plugin follow what they say.

        `touched` are those that changed; None: any may have. Those that no operator `asked` for,
        and whose files change all the time, follow later.
        """
        async with self._looking:
            before = self._look
            seen = self._look = await asyncio.to_thread(
                look, self._directory, self._setting.environment, before, touched
            )
            for path, why in seen.discovery.refused.items():
                if before.discovery.refused.get(path) != why:
                    log("plugin refused", level="error", manifest=path, reason=why)
            if not self._ending:
                known = {name: plugin.goal.wish for name, plugin in self._plugins.items()}
                self._follow(wishes(seen, self._section, known), asked)

    def _follow(self, made: Mapping[str, Wish], asked: Asked) -> None:
        for name, wish in made.items():
            plugin = self._plugins.get(name)
            if plugin is not None:
                plugin.want(wish, asked=asked(name))
            else:
                log("plugin found", plugin=name, manifest=wish.path)
                plugin = self._plugins[name] = Plugin(name, self._setting, wish, self._changed.set)
                self._setting.background(self._keep(plugin), f"plugin {name}")
        self._changed.set()

    async def _keep(self, plugin: Plugin) -> None:
        """Let a plugin live until it is gone for good."""
        while not plugin.gone.is_set():
            await plugin.live()
        del self._plugins[plugin.provider_type]
        log("plugin gone", plugin=plugin.provider_type)

    def _watch(self) -> None:
        """Watch the directory that there is now, and no other."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._directory is not None and self._section.watch:
            watch = Watch(self._directory, also=self._folders, changed=self.look)
            self._watching = self._setting.spawn(watch.live(), "watch of plugins")

    def _folders(self) -> frozenset[Path]:
        return frozenset(found.directory for found in self._look.discovery.found.values())

    # What operators ask.

    async def start(self, provider_type: str) -> Report:
        """Have it run; one that failed is tried again."""
        return await self._asked(provider_type, _start)

    async def stop(self, provider_type: str) -> Report:
        """Have it drained and ended, until it is told to start."""

        async def stop(plugin: Plugin) -> tuple[str, ...]:
            outcome = await plugin.ask(run=False)
            await plugin.until_ended(STOP_WAIT_S)
            return outcome

        return await self._asked(provider_type, stop)

    async def restart(self, provider_type: str) -> Report:
        """End it, and start it when nothing of it is left: for what cannot run twice at once.

        That takes as long as its last exchange, bounded by what the manifest says: `drain_timeout`,
        then `stop_timeout`. If something still runs then, it stays stopped, and the report says so.
        """

        async def restart(plugin: Plugin) -> tuple[str, ...]:
            outcome = await plugin.ask(run=False)
            within_s = max((one.gone_within_s for one in plugin.generations), default=0.0)
            within_s += RESTART_MARGIN_S
            if not await plugin.until_ended(within_s):
                problem = (
                    f"{provider_type} is not gone {within_s:.0f} s after it was told to leave; "
                    "expected nothing of it to run before it is started again. See what of it is "
                    "left with `loomproxy plugins show`, end that, then start it."
                )
                return (problem,)
            return outcome or await _start(plugin)

        return await self._asked(provider_type, restart)

    async def reload(self, provider_type: str) -> Report:
        """Have a new generation take over, whether its files changed or not."""
        await self.look(asked=provider_type.__eq__)
        return await self._asked(provider_type, lambda plugin: plugin.ask(anew=True))

    async def enable(self, provider_type: str) -> Report:
        """Take back `disable`."""
        return await self._mark(provider_type, disabled=False)

    async def disable(self, provider_type: str) -> Report:
        """Have it drained and ended, until it is enabled: a file in its folder says so."""
        return await self._mark(provider_type, disabled=True)

    async def _asked(
        self, provider_type: str, do: Callable[[Plugin], Awaitable[tuple[str, ...]]]
    ) -> Report:
        """Do something with a plugin, if there is such a one."""
        plugin = self._plugins.get(provider_type)
        if plugin is None:
            known = ", ".join(sorted(self._plugins)) or "none"
            return Report(
                ok=False,
                state=State.STOPPED,
                problems=(f"there is no plugin {provider_type!r}; expected one of: {known}",),
            )
        outcome = await do(plugin)
        return Report(ok=not outcome, state=plugin.state, problems=outcome)

    async def _mark(self, provider_type: str, *, disabled: bool) -> Report:
        """Make or remove the file that disables a plugin, and have it follow."""

        async def mark(plugin: Plugin) -> tuple[str, ...]:
            file = plugin.goal.wish.path.parent / DISABLED
            try:
                if disabled:
                    file.touch()
                else:
                    file.unlink(missing_ok=True)
            except OSError as error:
                verb = "made" if disabled else "removed"
                problem = (
                    f"{file}: it cannot be {verb} ({error.strerror}); expected a folder that the "
                    "user of this node may write. Do it by hand, or mend its owner and mode."
                )
                return (problem,)
            await self.look(asked=provider_type.__eq__)
            if not disabled and plugin.goal.wish.disabled:
                problem = (
                    f"plugins.desired.{provider_type}.enabled is false; expected true for a plugin "
                    "that is to run. Change the configuration, or publish another one."
                )
                return (problem,)
            outcome = await plugin.ask()
            if disabled:
                await plugin.until_ended(STOP_WAIT_S)
            return outcome

        return await self._asked(provider_type, mark)

    def status(self) -> tuple[PluginStatus, ...]:
        """What operators are told; what is in flight, workers know."""
        taken = usages(self._pids())
        known = [status(plugin, taken) for plugin in self._plugins.values()]
        return tuple(
            sorted([*known, *self._refused()], key=lambda one: (one.provider_type, one.manifest))
        )

    def _refused(self) -> list[PluginStatus]:
        """The manifests that nothing can be made of, and that are no running plugin's."""
        discovery = self._look.discovery
        mine = {str(plugin.goal.wish.path) for plugin in self._plugins.values()}
        return [
            refused_status(path, discovery.claims.get(path, ""), why)
            for path, why in discovery.refused.items()
            if path not in mine
        ]

    def conditions(self) -> tuple[Condition, ...]:
        """How every plugin is, those included that nothing can be made of."""
        known = {
            name: Condition(name, plugin.state, plugin.required, plugin.reason)
            for name, plugin in self._plugins.items()
        }
        for one in self._refused():
            condition = Condition(one.provider_type, one.state, one.required, one.reason)
            known.setdefault(one.provider_type, condition)
        return tuple(known[name] for name in sorted(known))

    async def until_changed(self) -> None:
        """Return when one of the plugins may be in another state."""
        self._changed.clear()
        await self._changed.wait()

    def _pids(self) -> set[int]:
        generations = [one for plugin in self._plugins.values() for one in plugin.generations]
        return {replica.pid for one in generations for replica in one.replicas} - {0}

    def logs(self, provider_type: str, since: int, limit: int) -> tuple[LogLine, ...]:
        """The lines that it said after number `since`; of more than `limit` the newest."""
        plugin = self._plugins.get(provider_type)
        return plugin.lines.since(since, limit) if plugin is not None else ()

    async def until_logged(self, provider_type: str, since: int, timeout_s: float) -> bool:
        """Wait until it says something after `since`, so long at most; return whether it did."""
        plugin = self._plugins.get(provider_type)
        return plugin is not None and await plugin.lines.until(since, timeout_s)


async def _start(plugin: Plugin) -> tuple[str, ...]:
    if plugin.goal.wish.disabled:
        return (f"{plugin.provider_type} is disabled; to have it run, enable it.",)
    return await plugin.ask(run=True)

"""Plugins in memory, at the port `node.plugin_api.Operator`: every state at will, no process."""

import asyncio
import contextlib

from msgspec import structs

from loomproxy.plugins.manager import Condition
from loomproxy.plugins.status import (
    GenerationStatus,
    LogLine,
    PluginStatus,
    ReplicaStatus,
    Report,
    State,
)

LEADS_TO = {
    "start": State.READY,
    "stop": State.STOPPED,
    "restart": State.READY,
    "reload": State.READY,
    "enable": State.READY,
    "disable": State.DISABLED,
}


def replica(number: int = 0, **changes: object) -> ReplicaStatus:
    told: dict[str, object] = {
        "number": number,
        "state": State.READY,
        "address": f"unix:/run/acme.{number}.sock",
        "pid": 4000 + number,
        "starts": 1,
        "rss_bytes": 24 << 20,
        "cpu_s": 1.25,
    }
    return ReplicaStatus(**(told | changes))  # type: ignore[arg-type] # any of them


def plugin(provider_type: str = "acme", **changes: object) -> PluginStatus:
    told: dict[str, object] = {
        "provider_type": provider_type,
        "name": "Acme models",
        "version": "1.2.0",
        "state": State.READY,
        "manifest": f"/plugins/{provider_type}/plugin.yaml",
        "models": ("small", "large"),
        "generations": (GenerationStatus(3, "1.2.0", State.READY, (replica(),)),),
        "config": {"api_key": "***", "tries": 3},
    }
    return PluginStatus(**(told | changes))  # type: ignore[arg-type] # any of them


class Plugins:
    """Whoever commands them is believed; `held` keeps a command from being done."""

    def __init__(self, *statuses: PluginStatus) -> None:
        self.statuses = {status.provider_type: status for status in statuses}
        self.said: dict[str, list[LogLine]] = {name: [] for name in self.statuses}
        self.done: list[tuple[str, str]] = []
        self.answers: dict[str, Report] = {}  # by command, where it does not succeed
        self.held: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.awaited = asyncio.Event()
        self.logged = asyncio.Event()

    def say(self, name: str, text: str, stream: str = "stdout") -> None:
        lines = self.said[name]
        lines.append(LogLine(len(lines) + 1, 3, 0, stream, text))
        self.logged.set()

    async def start(self, name: str) -> Report:
        return await self._do("start", name)

    async def stop(self, name: str) -> Report:
        return await self._do("stop", name)

    async def restart(self, name: str) -> Report:
        return await self._do("restart", name)

    async def reload(self, name: str) -> Report:
        return await self._do("reload", name)

    async def enable(self, name: str) -> Report:
        return await self._do("enable", name)

    async def disable(self, name: str) -> Report:
        return await self._do("disable", name)

    async def _do(self, command: str, name: str) -> Report:
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        self.done.append((command, name))
        if command in self.answers:
            return self.answers[command]
        state = LEADS_TO[command]
        self.statuses[name] = structs.replace(self.statuses[name], state=state)
        return Report(ok=True, state=state)

    def status(self) -> tuple[PluginStatus, ...]:
        return tuple(self.statuses.values())

    def conditions(self) -> tuple[Condition, ...]:
        return tuple(
            Condition(one.provider_type, one.state, one.required, one.reason)
            for one in self.statuses.values()
        )

    def logs(self, name: str, since: int, limit: int) -> tuple[LogLine, ...]:
        return tuple(line for line in self.said[name] if line.number > since)[-limit:]

    async def until_logged(self, name: str, since: int, timeout_s: float) -> None:
        self.awaited.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._until_logged(name, since)

    async def _until_logged(self, name: str, since: int) -> None:
        while not self.logs(name, since, 1):
            self.logged.clear()
            await self.logged.wait()

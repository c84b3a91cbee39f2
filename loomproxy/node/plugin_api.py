"""The pages of plugins on the admin listener: what there is, what it says, what is done to it.

    GET  /api/v1/plugins                  {"plugins": [PLUGIN, …]}
    GET  /api/v1/plugins/TYPE             PLUGIN
    GET  /api/v1/plugins/TYPE/logs        {"lines": [LINE, …], "last": N}
         ?since=N&limit=M&wait_s=S        lines after N, the newest M of them; S: wait for one
    POST /api/v1/plugins/TYPE/ACTION      {"ok": true, "state": STATE, "problems": []}
         start stop restart reload enable disable

PLUGIN is `plugins.status.PluginStatus` as an object: `provider_type`, `name`, `version`, `state`,
`manifest`, `kind`, `required`, `models`, `generations` (the serving one first; each with `number`,
`version`, `state` and `replicas`: `number`, `state`, `address`, `pid`, `starts`, `in_flight`,
`rss_bytes`, `cpu_s`, `message`, `last_exit`), `restarts`, `reloads`, `reloads_failed`,
`last_error`, `reason` and `config`, in which secrets are masked; and beside it `requests`,
`in_flight`, `latency_p50_ms` and `latency_p99_ms`, null before the first request. STATE is one of
`plugins.status.State`. LINE is `number`, `generation`, `replica`, `stream` and `text`; `last` is
what the next question gives as `since`.

What was not done is answered {"problems": [TEXT, …]}: 400 what was asked makes no sense, 404 there
is no such plugin, 405 another method is meant, 409 it cannot be done in this state (then, and with
422, `ok` and `state` are there too), 422 it was tried, and why it failed, 503 too many wait.

A command has no body: what is run is said by a manifest on disk, never over the network. A plugin
is submitted to a registry, not here: POST /api/v1/plugins is 405.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from loomproxy.core.message import RequestHead
from loomproxy.log import log
from loomproxy.node.group import first_of
from loomproxy.node.http import Reply, Spawn, as_json
from loomproxy.node.plugin_figures import Plugin, chosen, described
from loomproxy.plugins.manager import Condition
from loomproxy.plugins.status import LogLine, PluginStatus, Report, State

ROOT: Final = b"/api/v1/plugins"
"""The list; all pages of plugins are below it."""

LINES_MAX: Final = 1000
"""Log lines in one answer, a few MiB at most; whoever wants more asks again."""

LINES_DEFAULT: Final = 100
"""Log lines when nothing is said of their number: two screens."""

WAIT_S_MAX: Final = 25.0
"""How long one question may wait for a line: less than the 30 s after which proxies lose faith."""

WAITING_MAX: Final = 64
"""Questions that wait for a line at once; a quarter of the admin listener's connections."""

NAMES_SHOWN_MAX: Final = 20
"""Of the plugins there are, in one problem."""

_CANNOT_NOW: Final = frozenset((State.DISABLED, State.STOPPED, State.DRAINING))
"""A command that failed and leaves a plugin so was not tried: it does not fit the state."""

_RUNS: Final = frozenset((b"start", b"restart", b"reload"))
"""Commands after which a plugin runs, or they were for nothing."""

_NOT_A_PLACE: Final = -1.0


class Operator(Protocol):
    """Who keeps the plugins, as an operator sees it. A command returns when it is done."""

    async def start(self, provider_type: str, /) -> Report:
        """Start it, though it would not start by itself."""

    async def stop(self, provider_type: str, /) -> Report:
        """Drain and end it."""

    async def restart(self, provider_type: str, /) -> Report:
        """End it, then start it."""

    async def reload(self, provider_type: str, /) -> Report:
        """Read its folder anew, and begin a new generation."""

    async def enable(self, provider_type: str, /) -> Report:
        """Want it again, from now on and after a restart of the node."""

    async def disable(self, provider_type: str, /) -> Report:
        """Do not want it, from now on and after a restart of the node."""

    def status(self) -> tuple[PluginStatus, ...]:
        """All plugins, as they are now."""

    def conditions(self) -> tuple[Condition, ...]:
        """As `status`, in short: processes are not measured for it."""

    def logs(self, provider_type: str, since: int, limit: int, /) -> tuple[LogLine, ...]:
        """The lines kept that are numbered above `since`, oldest first, at most `limit`."""

    async def until_logged(self, provider_type: str, since: int, timeout_s: float, /) -> object:
        """Return once there is such a line, or after `timeout_s`."""


Command = Callable[[Operator, str], Coroutine[Any, Any, Report]]

_COMMANDS: Final[dict[bytes, Command]] = {
    b"start": lambda operator, name: operator.start(name),
    b"stop": lambda operator, name: operator.stop(name),
    b"restart": lambda operator, name: operator.restart(name),
    b"reload": lambda operator, name: operator.reload(name),
    b"enable": lambda operator, name: operator.enable(name),
    b"disable": lambda operator, name: operator.disable(name),
}


class Bad(Exception):
    """What was asked cannot be answered: the reply that says so."""

    def __init__(self, status: int, problem: str, *, extra: bytes = b"") -> None:
        super().__init__(problem)
        self.reply = as_json(status, {"problems": [problem]})
        self.reply.extra = extra


class PluginApi:
    """Answers everything at and below `ROOT`, for whoever was found to be an operator.

    `operator` gives who keeps the plugins, or None while there are none; `plugins` gives all of
    them with their figures. Commands are run by `spawn`, so that a client
    which loses patience does not leave one half done. `leaving` says whether the node is.
    """

    def __init__(
        self,
        operator: Callable[[], Operator | None],
        plugins: Callable[[], Awaitable[tuple[Plugin, ...]]],
        spawn: Spawn,
        *,
        leaving: Callable[[], bool],
    ) -> None:
        self._operator = operator
        self._plugins = plugins
        self._spawn = spawn
        self._leaving = leaving
        self._closed = asyncio.Event()
        self._waiting = 0

    def owns(self, path: bytes) -> bool:
        """Whether a path is one of these pages."""
        return path == ROOT or path.startswith(ROOT + b"/")

    async def answer(self, head: RequestHead, body: bytes) -> Reply:
        """Answer one request."""
        try:
            return await self._answer(head, body)
        except Bad as bad:
            return bad.reply

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed.set()

    async def _answer(self, head: RequestHead, body: bytes) -> Reply:
        names = head.path.removeprefix(ROOT).split(b"/")[1:]
        match names:
            case []:
                _expect(head, b"GET")
                return as_json(200, {"plugins": [described(one) for one in await self._plugins()]})
            case [name]:
                _expect(head, b"GET")
                return await self._one(name)
            case [name, b"logs"]:
                _expect(head, b"GET", "since", "limit", "wait_s")
                return await self._logs(*self._known(name), _parameters(head))
            case [name, action] if action in _COMMANDS:
                _expect(head, b"POST")
                _expect_nothing(body)
                return await self._command(action, *self._known(name))
        actions = ", ".join(sorted(action.decode() for action in _COMMANDS))
        raise Bad(404, f"there is no such page; expected /TYPE, /TYPE/logs or one of {actions}.")

    def _known(self, segment: bytes) -> tuple[Operator, str]:
        """The plugin that a segment of a path names, and who keeps it."""
        name = _name(segment)
        operator = self._operator()
        conditions = operator.conditions() if operator is not None else ()
        known = {condition.provider_type for condition in conditions}
        if operator is None or name not in known:
            raise _unknown(name, known)
        return operator, name

    async def _one(self, segment: bytes) -> Reply:
        name = _name(segment)
        plugins = await self._plugins()
        found = chosen(plugin.status for plugin in plugins)
        for plugin in plugins:
            if plugin.status is found.get(name):
                return as_json(200, described(plugin))
        raise _unknown(name, found)

    async def _logs(self, operator: Operator, name: str, given: Mapping[str, str]) -> Reply:
        since = int(_number(given, "since", 0, 2**53))
        limit = int(_number(given, "limit", LINES_DEFAULT, LINES_MAX))
        wait_s = _number(given, "wait_s", 0, WAIT_S_MAX)
        lines = operator.logs(name, since, LINES_MAX)
        if not lines and wait_s:
            await self._wait(self._until_logged(operator, name, since, wait_s))
            lines = operator.logs(name, since, LINES_MAX)
        last = lines[-1].number if lines else since
        newest = lines[-limit:] if limit else ()
        return as_json(200, {"lines": msgspec.to_builtins(newest), "last": last})

    async def _wait(self, logged: Coroutine[Any, Any, None]) -> None:
        """Wait for a line, or until the time is over, or we close."""
        if self._waiting >= WAITING_MAX:
            logged.close()
            raise Bad(503, f"{WAITING_MAX} questions wait for log lines already. Ask later.")
        self._waiting += 1
        try:
            await first_of(logged, _done(self._closed))
        finally:
            self._waiting -= 1

    async def _until_logged(self, operator: Operator, name: str, since: int, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await operator.until_logged(name, since, wait_s)
                if not operator.logs(name, since, 1):
                    # It will never say a word; who follows it is not to ask in a circle.
                    await self._closed.wait()

    async def _command(self, action: bytes, operator: Operator, name: str) -> Reply:
        if self._leaving():
            raise Bad(409, "the node is draining; expected one that serves. Ask another instance.")
        reports: list[Report] = []
        command = _COMMANDS[action](operator, name)

        async def run() -> None:
            reports.append(await command)

        await asyncio.shield(self._spawn(run(), f"plugin {action.decode()}"))
        report = _judged(action, operator, name, reports[0])
        log(
            "plugin command",
            level="info" if report.ok else "warning",
            plugin=name,
            command=action.decode(),
            ok=report.ok,
            state=report.state.value,
        )
        failed = 409 if report.state in _CANNOT_NOW else 422
        return as_json(200 if report.ok else failed, msgspec.to_builtins(report))


def _judged(action: bytes, operator: Operator, name: str, report: Report) -> Report:
    """The report, when it says all: what was wanted, and whether it is so."""
    if action in _RUNS and report.ok and report.state in _CANNOT_NOW:
        do = "Enable" if report.state is State.DISABLED else "Start"
        problem = f"it is {report.state.value}; expected a plugin that runs. {do} it first."
        return Report(ok=False, state=report.state, problems=(problem,))
    if report.ok:
        return report
    status = chosen(operator.status()).get(name)
    if status is None or status.state is not State.INVALID:
        return report
    # There may be no more of it than a manifest that cannot be read.
    problems = tuple(status.last_error.splitlines())
    return Report(ok=False, state=State.INVALID, problems=problems)


def _name(segment: bytes) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def _unknown(name: str, known: Collection[str]) -> Bad:
    others = ", ".join(sorted(known)[:NAMES_SHOWN_MAX]) or "none, there are no plugins"
    more = ", …" if len(known) > NAMES_SHOWN_MAX else ""
    return Bad(404, f"there is no plugin {name[:64]!a}; expected one of: {others}{more}.")


def _expect(head: RequestHead, method: bytes, *parameters: str) -> None:
    """Refuse another method, and parameters that mean nothing here."""
    if head.method != method and (method, head.method) != (b"GET", b"HEAD"):
        allow = b"GET, HEAD" if method == b"GET" else method
        raise Bad(
            405,
            f"{head.method.decode()} is not what this page takes; use {allow.decode()}.",
            extra=b"Allow: %b\r\n" % allow,
        )
    for name in _parameters(head):
        if name not in parameters:
            expected = f"one of {', '.join(parameters)}" if parameters else "none here"
            raise Bad(400, f"the parameter {name[:64]!a} is unknown; expected {expected}.")


def _expect_nothing(body: bytes) -> None:
    if body:
        raise Bad(
            400,
            "the request has a body; expected none: a command line is never accepted over the API. "
            "Edit the manifest in the plugin's folder, and reload.",
        )


def _parameters(head: RequestHead) -> dict[str, str]:
    try:
        pairs = parse_qsl(head.query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise Bad(400, "the query cannot be read; expected a few pairs of name=value.") from None
    return dict(pairs)


def _number(given: Mapping[str, str], name: str, default: float, most: float) -> float:
    """A parameter between 0 and `most`."""
    text = given.get(name, str(default))
    try:
        number = float(text) if text.isascii() else _NOT_A_PLACE
    except ValueError:
        number = _NOT_A_PLACE
    if not 0 <= number <= most:
        raise Bad(400, f"{name}: {text[:64]!a} is no number from 0 to {most:.16g}.")
    return number


async def _done(event: asyncio.Event) -> None:
    await event.wait()

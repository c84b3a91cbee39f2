"""A plugin as a process: where it listens, how it ends, and what it says when run by hand.

Under the proxy, LOOM_PLUGIN_SOCKET (or LOOM_PLUGIN_HOST and LOOM_PLUGIN_PORT) and LOOM_PLUGIN_TOKEN
say all there is to know. Without them a person is at the keyboard, and is told what this is.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import secrets
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loomproxy.plugins.sdk.calls import Calls
from loomproxy.plugins.sdk.later import timeout
from loomproxy.plugins.sdk.server import Server, failure

if TYPE_CHECKING:
    import argparse

    from loomproxy.plugins.sdk.plugin import Plugin

GRACE_S: Final = 4.0
"""How long calls may go on after SIGTERM; the proxy, having drained, kills after 5 s."""

CLEANUP_TIMEOUT_S: Final = 2.0
"""How long the cleanup hook may take at the end, when POST /cleanup has not come."""

BACKLOG: Final = 1024
"""Connections that the kernel accepts before we do."""

_SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path of unix(7), without the NUL
_USAGE_STATUS: Final = 2
_PORT_MAX: Final = 65535


class Refused(Exception):
    """The process cannot start; its text says why, and what to do."""


class Running(NamedTuple):
    """A plugin that listens."""

    address: str  # unix:/path, or host:port
    server: Server
    calls: Calls
    listener: asyncio.Server

    @staticmethod
    async def start(plugin: Plugin[Any], address: str, token: str) -> Running:
        """Listen. Refused says why that is not possible."""
        calls = Calls(plugin)
        server = Server(calls.answer, token, plugin.bounds)
        bound = _bind(address)
        loop = asyncio.get_running_loop()
        if bound.family == socket.AF_UNIX:
            listener = await loop.create_unix_server(server.connection, sock=bound, backlog=BACKLOG)
        else:
            listener = await loop.create_server(server.connection, sock=bound, backlog=BACKLOG)
            host, port = bound.getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Running(address, server, calls, listener)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop listening, let calls end within the grace, cancel the rest, clean up."""
        self.listener.close()
        if self.address.startswith("unix:"):
            with contextlib.suppress(OSError):
                os.unlink(self.address.removeprefix("unix:"))  # noqa: PTH108 - pathlib costs start-up
        await self.server.drain(grace_s)
        try:
            async with timeout(CLEANUP_TIMEOUT_S):
                await self.calls.clean_up()
        except Exception:  # noqa: BLE001 - cleaning up is a courtesy: the process ends anyway
            failure("cleanup")


def _bind(address: str) -> socket.socket:
    """Return a bound socket; one in the file system is its owner's alone from the first moment."""
    try:
        if address.startswith("unix:"):
            return _bind_unix(address.removeprefix("unix:"))
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio turns Nagle's algorithm off only where the protocol is named.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, int(port)))
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise Refused(f"{address}: cannot listen there: {error.strerror or error}.") from None
    return bound


def _bind_unix(path: str) -> socket.socket:
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
        raise Refused(
            f"{path}: has more than {_SOCKET_PATH_BYTES_MAX} bytes, the kernel's bound for a "
            "socket's path. Use a shorter directory."
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):  # A plugin that was killed has left it.
            os.unlink(path)  # noqa: PTH108 - pathlib costs start-up
    mask = os.umask(0o177)
    try:
        bound.bind(path)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


def place(environ: dict[str, str]) -> str:
    """Return where the proxy says to listen; "" when no proxy has started us."""
    path = environ.get("LOOM_PLUGIN_SOCKET", "")
    port = environ.get("LOOM_PLUGIN_PORT", "")
    if not path and not port:
        return ""
    if not environ.get("LOOM_PLUGIN_TOKEN", ""):
        raise Refused("LOOM_PLUGIN_TOKEN: is not set. The proxy sets it at each start.")
    if path:
        return f"unix:{path}"
    return _loopback(environ, port)


def _loopback(environ: dict[str, str], port: str) -> str:
    host = environ.get("LOOM_PLUGIN_HOST", "") or "127.0.0.1"
    if not port.isdecimal() or int(port) > _PORT_MAX:
        raise Refused(f"LOOM_PLUGIN_PORT={port}: is no port. Use 0 to {_PORT_MAX}.")
    if host == "localhost":
        host = "127.0.0.1"
    if host != "::1" and not host.startswith("127."):
        raise Refused(
            f"LOOM_PLUGIN_HOST={host}: is not this host's loopback. A supervised plugin listens on "
            "127.0.0.1 or ::1 only."
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main(plugin: Plugin[Any], argv: list[str] | None = None) -> None:
    """Run a plugin's process, and end it."""
    arguments = sys.argv[1:] if argv is None else argv
    environ = dict(os.environ)  # noqa: TID251 - the contract speaks through it, and only here
    token = environ.get("LOOM_PLUGIN_TOKEN", "")
    try:
        address = "" if arguments else place(environ)
        if address:
            status = asyncio.run(_serve(plugin, address, token))
        else:
            status = _by_hand(plugin, arguments, token)
    except Refused as refused:
        print(f"{plugin.provider_type}: {refused}", file=sys.stderr)  # noqa: T201 - the log of a plugin is its stderr
        status = _USAGE_STATUS
    sys.exit(status)


async def _serve(plugin: Plugin[Any], address: str, token: str, *, by_hand: bool = False) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # What is printed is the log's at once.
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
    running = await Running.start(plugin, address, token)
    if by_hand:
        print(_greeting(plugin, running.address, token), flush=True)  # noqa: T201 - for the person at the keyboard
    await ending.wait()
    await running.stop()
    return 0


def _by_hand(plugin: Plugin[Any], arguments: list[str], token: str) -> int:
    parser = _parser(plugin)
    options = parser.parse_args(arguments)
    if options.manifest:
        print(json.dumps(manifest(plugin), indent=2))  # noqa: T201 - what was asked for
        return 0
    if options.port is None:
        parser.print_help()
        return _USAGE_STATUS
    host = f"[{options.host}]" if ":" in options.host else options.host
    token = token or secrets.token_urlsafe(24)
    return asyncio.run(_serve(plugin, f"{host}:{options.port}", token, by_hand=True))


def _parser(plugin: Plugin[Any]) -> argparse.ArgumentParser:
    import argparse  # noqa: PLC0415 - a supervised start does without it

    program = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib costs start-up
    metadata = plugin.metadata
    parser = argparse.ArgumentParser(
        prog=f"python3 {program}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{metadata['name']} {plugin.version}: a provider plugin of loomproxy.",
        epilog=(
            "loomproxy runs it: put its folder into the directory that `plugins: {directory: …}` "
            "names.\n`loomproxy plugins test .` holds it to the contract. "
            "With --port it listens here and now."
        ),
    )
    parser.add_argument("--port", type=int, help="listen on this port, 0 for any, with a token")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument(
        "--manifest", action="store_true", help="print the plugin.json that goes with it"
    )
    return parser


def manifest(plugin: Plugin[Any]) -> dict[str, Any]:
    """Return the manifest that says what the plugin says; `plugin.json` holds it."""
    program = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib costs start-up
    return {"metadata": plugin.metadata, "command": "python3", "args": [program]}


def _greeting(plugin: Plugin[Any], address: str, token: str) -> str:
    """Return what a person needs who has started it by hand."""
    model = next(iter(plugin.listed), "MODEL")
    required = {field["name"]: "…" for field in plugin.config_schema if field["required"]}
    chat = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    curl = f"curl -s -H 'Authorization: Bearer {token}' http://{address}"
    return (
        f"{plugin.provider_type} listens on http://{address}; Ctrl-C ends it. First:\n"
        f"  {curl}/initialize -d '{json.dumps(required, ensure_ascii=False)}'\n"
        f"then:\n"
        f"  {curl}/chat/completions -N -d '{json.dumps(chat)}'"
    )

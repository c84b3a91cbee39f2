"""The node as a process: its loop, its signals, its limits, and what it says when it is ready.

SIGHUP reloads, SIGTERM and SIGINT drain, a second one of these forces, SIGUSR1 has access logs
opened again.
"""

import asyncio
import contextlib
import random  # noqa: TID251 # the dice that are passed in come from somewhere
import resource
import signal

import uvloop

from loomproxy.config.model import Config
from loomproxy.core.gate import connections_affordable
from loomproxy.log import hear_libraries, log, show
from loomproxy.node.control import Launch, Node
from loomproxy.node.reload import Source
from loomproxy.plugins.status import State
from loomproxy.process import environment


def run(config: Config, source: Source, file: str) -> int:
    """Be a node until told to leave; return the exit status.

    `source` reads the configuration anew for a reload; `file` is its name, for people.
    """
    warning = descriptors_warning(config, _raise_descriptors_max())
    if warning:
        log("few descriptors", level="warning", reason=warning)
    dice = random.Random()  # noqa: S311 # jitter, not secrets
    hear_libraries()
    launch = Launch(config, source, file, environment(), dice.random, _greet)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(launch))


async def _run(launch: Launch) -> int:
    node = Node(launch)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, node.reload_soon)
    loop.add_signal_handler(signal.SIGTERM, node.leave)
    loop.add_signal_handler(signal.SIGINT, node.leave)
    loop.add_signal_handler(signal.SIGUSR1, node.reopen_logs)
    return await node.run()


def _raise_descriptors_max() -> int:
    """Allow as many descriptors as we may have, which workers inherit; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # what we have must do then
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def descriptors_warning(config: Config, descriptors_max: int) -> str:
    """What to say when a worker cannot have all the connections that it is allowed, or "".

    Each client is one descriptor, and one more while its request is at an endpoint.
    """
    static = config.static
    wanted = sum(each.connections_max for each in static.listeners)
    if isinstance(static.node.connections_max, int):
        wanted = min(wanted, static.node.connections_max)
    affordable = connections_affordable(descriptors_max)
    if wanted <= affordable:
        return ""
    return (
        f"a process may have {descriptors_max}, so a worker takes {affordable} connections and not "
        f"the {wanted} that node.connections_max and its listeners allow. Raise LimitNOFILE "
        "(ulimit -Hn), or lower node.connections_max."
    )


def _greet(node: Node) -> None:
    """Tell a person where it answers, and what to try; the access log has stdout for itself."""
    lines = ["", f"loomproxy is ready (pid {node.pid}). Ctrl-C drains and leaves."]
    addresses = [one.address for one in node.sockets.listening]
    lines += [f"  listens on  {address}" for address in addresses]
    lines += [f"  admin at    {node.admin_address}"]
    lines += things_to_try(node)
    show("\n".join([*lines, ""]))


def things_to_try(node: Node) -> list[str]:
    """Lines for a shell: what the demo upstream answers, a chat, the health; none without these."""
    static = node.config.static
    listening = node.sockets.listening
    lines = []
    if static.node.demo_upstream and listening:
        url = _url(listening[0].address)
        lines += [f"curl -i {url}/hello", f"curl -N {url}/stream"]
    chatting = {listener.name for listener in static.listeners if listener.chat}
    models = _models(node)
    for one in listening:
        if one.name in chatting and not one.path and models:
            lines.append(_chat(_url(one.address), models[0]))
            break
    if not lines:
        return []
    lines.append(_health(node.admin_address))
    return ["", "Try:", *(f"  {line}" for line in lines)]


def _models(node: Node) -> list[str]:
    """Names of models that a chat may ask, those that answer already first."""
    manager = node.guests.manager
    plugins = manager.status() if manager is not None else ()
    # A provider without the name of a model: its first one, for who has not said yet which it has.
    return [
        f"{plugin.provider_type}/{plugin.models[0] if plugin.models else ''}"
        for state in (State.READY, State.STARTING)
        for plugin in plugins
        if plugin.state is state
    ]


def _url(address: str) -> str:
    return f"http://{address.replace('0.0.0.0', '127.0.0.1')}"  # noqa: S104 # shown, not bound


def _chat(url: str, model: str) -> str:
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello there"}}]}}'
    return f"curl -s {url}/v1/chat/completions -d '{body}'"


def _health(admin_address: str) -> str:
    if admin_address.startswith("unix:"):
        path = admin_address.removeprefix("unix:")
        return f"curl -s --unix-socket {path} http://localhost/health"
    return f"curl -s http://{admin_address}/health"

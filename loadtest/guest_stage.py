"""A node with plugins, as load tests see it: its folder of plugins, its admin, its processes."""

import contextlib
import http.client
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loadtest.processes import LOOPBACK, Process, free_port, running, wait_until
from loadtest.proxies import ROOT
from loadtest.soak_watch import Node

ANSWER_TIMEOUT_S = 5.0
STEADY = "steady"  # The plugin that says which version of itself answers.

MANIFEST = """\
metadata:
  name: Steady
  version: 1.0.0
  plugin_api_version: 1.0.0
  provider_type: steady
  capabilities: {streaming: true}
command: python3
args: [plugin.py]
replicas: %d
"""

CODE = '''\
"""Says which version of itself answers."""

from loomproxy.plugins import sdk

plugin = sdk.Plugin("steady", version="1.0.0", name="Steady")
plugin.model("steady-1")


@plugin.chat
async def chat(request):
    yield "version-%d"
    for word in request.prompt.split():
        yield " " + word


plugin.run()
'''


@dataclass(frozen=True)
class Stage:
    """Where everything of one trial lives."""

    directory: Path
    port: int
    node: Node
    process: Process

    def save(self, version: int) -> None:
        """Replace the plugin's code, as an editor does: whole, by a rename."""
        folder = self.directory / "plugins" / STEADY
        staging = folder / "plugin.py.tmp"
        staging.write_text(CODE % version)
        staging.replace(folder / "plugin.py")

    def plugin(self, provider_type: str = STEADY) -> Any:
        """What the node says of a plugin."""
        return self.node.ask("GET", f"/api/v1/plugins/{provider_type}")

    def pids(self, provider_type: str = STEADY) -> list[int]:
        """The processes that serve a plugin now."""
        generations = self.plugin(provider_type)["generations"]
        replicas = [each for one in generations[:1] for each in one["replicas"]]
        return [each["pid"] for each in replicas if each["state"] == "ready"]


def write_steady(directory: Path, *, replicas: int) -> None:
    """Make the folder of the plugin that says its version."""
    folder = directory / "plugins" / STEADY
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(MANIFEST % replicas)
    (folder / "plugin.py").write_text(CODE % 1)


@contextlib.contextmanager
def staged(
    command: Sequence[str],
    directory: Path,
    *,
    plugins: Path,
    workers: int,
    core: int | None = None,
    config: dict[str, Any] | None = None,
) -> Iterator[Stage]:
    """Start a node with the plugins in a folder; end all on leaving."""
    port = free_port()
    written = {
        "node": {"workers": workers, "runtime_directory": str(directory)},
        "listeners": [
            {"name": "public", "address": f"{LOOPBACK}:{port}", "chat": True, "health": True}
        ],
        "access_log": {"path": str(directory / "access.log")},
        "plugins": {"directory": str(plugins), "config": config or {}},
    }
    path = directory / "loomproxy.json"
    path.write_text(json.dumps(written))
    log = directory / "output.log"
    argv = [*command, "serve", str(path)]
    with running(argv, core=core, log=log, directory=ROOT) as process:
        wait_until(partial(_ready, port), process, what="loomproxy", log=log)
        yield Stage(directory, port, Node(process.pid, directory), process)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

"""The stage of every measurement: the upstreams, and proxies in front of them.

All are started, answering before anybody looks at them, and ended on leaving.
"""

import contextlib
import http.client
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtest import machine, speech, upstream
from loadtest.processes import LOOPBACK, Process, free_port, running, wait_until
from loadtest.proxies import CONNECTIONS_MAX, ROOT, Place, Proxy
from loadtest.upstream import FILES, LIVE

ANSWER_TIMEOUT_S = 5.0
STATUS_OK = 200
PROBES = {FILES: upstream.SMALL_PATH, LIVE: speech.SINK}  # What each upstream answers shortly.


@dataclass(frozen=True, slots=True)
class Door:
    """Where something answers, and whose work that is."""

    process: Process
    port: int


@dataclass(frozen=True, slots=True)
class Subject:
    """Something a load can be put on: a running proxy, or the upstreams themselves."""

    name: str
    doors: Mapping[str, Door]  # By upstream; a proxy has one door to all of them.
    access_log: Path | None
    interpreter: str = ""  # The Python it runs on, if it is written in it.


def answers(port: int, path: str) -> bool:
    """Tell whether `port` answers a small request for `path` as it should, yet."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return (response.status, response.read()) == (STATUS_OK, upstream.SMALL_BODY)
        except (OSError, http.client.HTTPException):
            return False


def live_argv(port: int) -> list[str]:
    """Return the command that starts the live upstream on `port`."""
    # The safe path would hide the tree from a program that is a part of it.
    return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "loadtest.live", str(port)]


@contextlib.contextmanager
def upstreams(directory: Path, *, core: int | None) -> Iterator[dict[str, Door]]:
    """Start the upstreams, each in a directory of its own below `directory`, on `core`."""
    with contextlib.ExitStack() as stack:
        doors = {}
        for name, probe in PROBES.items():
            home = directory / name
            home.mkdir()
            port, log = free_port(), home / "output.log"
            argv = upstream.write(home, port) if name == FILES else live_argv(port)
            process = stack.enter_context(running(argv, core=core, log=log, directory=home))
            what = f"the upstream {name}"
            wait_until(partial(answers, port, probe), process, what=what, log=log)
            doors[name] = Door(process, port)
        yield doors


@dataclass(frozen=True, slots=True)
class Size:
    """How large a proxy is started, and where."""

    core: int | None = None
    workers: int = 1
    connections_max: int = CONNECTIONS_MAX


@contextlib.contextmanager
def proxied(
    proxy: Proxy, behind: Mapping[str, Door], directory: Path, size: Size
) -> Iterator[Subject]:
    """Start `proxy` in front of the upstreams, in a directory of its own below `directory`."""
    home = directory / proxy.name
    home.mkdir()
    place = Place(
        home,
        free_port(),
        files_port=behind[FILES].port,
        live_port=behind[LIVE].port,
        workers=size.workers,
        connections_max=size.connections_max,
    )
    log = place.access_log if proxy.logs_to_output else home / "output.log"
    argv = proxy.configure(proxy, place)
    with running(argv, core=size.core, log=log, directory=ROOT) as process:
        for probe in PROBES.values():
            ready = partial(answers, place.port, probe)
            wait_until(ready, process, what=f"{proxy.name}, asked for {probe}", log=log)
        door = Door(process, place.port)
        python = machine.interpreter_of(process.pid)
        yield Subject(proxy.name, dict.fromkeys(PROBES, door), place.access_log, python)

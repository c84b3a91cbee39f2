"""What a node and its workers hold, looked at again and again; and whether it grows.

Resident memory and descriptors are read from /proc, connections, exchanges in flight and asyncio
tasks from the admin socket.
"""

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Any

from loadtest.accounting import KIB_BYTES, memory_of
from loadtest.trouble import Trouble

ADMIN_TIMEOUT_S = 10.0
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """One look at every process of the node, by pid, and at what its workers hold together."""

    at_s: float  # since the load began
    requests: int  # that were asked by then
    rss_bytes: dict[int, int]
    descriptors: dict[int, int]
    tasks: dict[int, int]  # of workers
    held: dict[str, int] = field(default_factory=dict)  # what must be none when nobody asks

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held for anybody."""
        return not any(self.held.values())


class _AdminConnection(http.client.HTTPConnection):
    """HTTP over the admin's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ADMIN_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ADMIN_TIMEOUT_S)
        self.sock.connect(str(self._path))


class Node:
    """A running node, seen from outside."""

    def __init__(self, pid: int, directory: Path) -> None:
        self.pid = pid
        self._admin = directory / f"admin-{pid}.sock"

    def ask(self, method: str, path: str) -> Any:
        """Ask the admin; Trouble where it does not answer well."""
        connection = _AdminConnection(self._admin)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise Trouble(f"{method} {path}: the admin answered {response.status} {body[:500]!r}")
        return json.loads(body)

    def look(self, *, at_s: float, requests: int) -> Look:
        """Look at it now."""
        status = self.ask("GET", "/api/v1/status")
        memory = memory_of(self.pid)
        workers = [each for each in status["workers"] if "tasks" in each]
        endpoints = [each for pool in status["pools"] for each in pool["endpoints"]]
        return Look(
            at_s=at_s,
            requests=requests,
            rss_bytes={one.pid: one.rss_bytes for one in memory},
            descriptors={one.pid: _descriptors(one.pid) for one in memory},
            tasks={worker["pid"]: worker["tasks"] for worker in workers},
            held={
                "silent workers": len(status["workers"]) - len(workers),
                "connections": sum(worker["connections"] for worker in workers),
                "in_flight": sum(worker["in_flight"] for worker in workers),
                "keepalive": sum(each["keepalive"] for each in endpoints),
                "waiting": sum(pool["waiting"] for pool in status["pools"]),
            },
        )


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def growth_per_million(looks: Sequence[Look], pid: int) -> float:
    """Return by how many bytes a process grows in a million requests: the slope of a line."""
    points = [(look.requests, look.rss_bytes[pid]) for look in looks if pid in look.rss_bytes]
    if len({requests for requests, _ in points}) < 2:
        return 0.0
    return MILLION * linear_regression(*zip(*points, strict=True)).slope


def differences(before: Look, after: Look) -> list[str]:
    """Return what is not as it was before the load, in words."""
    found = [f"{name}: {count}, expected none" for name, count in after.held.items() if count]
    if before.rss_bytes.keys() != after.rss_bytes.keys():
        found.append("a process was replaced: see the node's log")
    for what, one, other in (
        ("descriptors", before.descriptors, after.descriptors),
        ("tasks", before.tasks, after.tasks),
    ):
        found += [
            f"{what} of process {pid}: {other[pid]}, before the load {one[pid]}"
            for pid in one.keys() & other.keys()
            if other[pid] > one[pid]
        ]
    return found


def kib(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / KIB_BYTES:.0f} KiB"

"""Finds a running instance and asks it, over its admin listener."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

import click

from loomproxy.node.runtime import instances
from loomproxy.process import environment

ANSWER_TIMEOUT_S: Final = 30.0
"""How long a command may take; the longest is a reload that a worker does not answer."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""The largest answer that is read; a status of thousands of endpoints is far below."""


class Answer:
    """What an instance answered."""

    def __init__(self, status: int, value: Any) -> None:  # JSON
        self.status = status
        self.value = value


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path, not to the host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find(admin: str | None, pid: int | None) -> str:
    """The admin address to ask: as given, of the instance `pid`, or of the only one there is."""
    if admin is not None:
        return admin
    found = instances(environment())
    if pid is not None:
        if pid not in found:
            raise click.ClickException(f"no instance with pid {pid} answers.{_others(found)}")
        return f"unix:{found[pid]}"
    if not found:
        raise click.ClickException(
            "no running instance found. Start one with `loomproxy serve`, or say where its admin "
            "listener is with --admin."
        )
    if len(found) > 1:
        raise click.ClickException(f"several instances run; say which with --pid.{_others(found)}")
    return f"unix:{next(iter(found.values()))}"


def _others(found: dict[int, Path]) -> str:
    return "".join(f"\n  --pid {pid}   (admin at unix:{path})" for pid, path in found.items())


def ask(address: str, method: str, target: str) -> Answer:
    """Ask the instance at `address`; ClickException when it does not answer in time."""
    connection = (
        _UnixConnection(address.removeprefix("unix:"))
        if address.startswith("unix:")
        else http.client.HTTPConnection(address, timeout=ANSWER_TIMEOUT_S)
    )
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"the admin listener at {address} does not answer ({error}). "
            "Is the instance running, and may you use that address?"
        ) from None
    finally:
        connection.close()
    try:
        return Answer(response.status, json.loads(body))
    except ValueError:
        text = body[:200].decode("utf-8", "replace").strip()
        raise click.ClickException(f"{address} answered {response.status}: {text}") from None

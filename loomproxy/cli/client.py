"""Finds a running instance and asks it, over its admin listener."""

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import Any, Final

import click

from loomproxy.node.runtime import instances
from loomproxy.process import environment

ANSWER_TIMEOUT_S: Final = 30.0
"""How long a command may take; the longest is a reload that a worker does not answer."""

TOKEN_VARIABLE: Final = "LOOMPROXY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
"""Holds what an instance's `admin.token` asks for, where no --token-file says it."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""The largest answer that is read; a status of thousands of endpoints is far below."""


class Answer:
    """What an instance answered."""

    def __init__(self, status: int, value: Any) -> None:  # JSON
        self.status = status
        self.value = value


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path, not to the host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Instance:
    """A running instance: where it is asked, and what it is shown there."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address
        self._token = token

    def ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Ask it; ClickException when it does not answer in time, or not in JSON."""
        address = self.address
        connection: http.client.HTTPConnection
        fields = {}
        if address.startswith("unix:"):  # Who can connect is the operator.
            connection = _UnixConnection(address.removeprefix("unix:"), timeout_s)
        else:
            connection = http.client.HTTPConnection(address, timeout=timeout_s)
            if self._token:
                fields["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, target, body, fields)
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


def instance(admin: str | None, pid: int | None, token_file: Path | None) -> Instance:
    """The instance that the options mean; its token is of the file, or of the environment."""
    return Instance(find(admin, pid), _token(token_file))


def _token(file: Path | None) -> str:
    """The token to show; "" when there is none."""
    where = f"--token-file {file}" if file is not None else TOKEN_VARIABLE
    try:
        token = environment().get(TOKEN_VARIABLE, "") if file is None else file.read_text()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{where}: it cannot be read ({error}).") from None
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token or (file and not token):
        raise click.ClickException(
            f"{where}: what it holds is no token. Expected the text of admin.token alone."
        )
    return token


def find(admin: str | None, pid: int | None) -> str:
    """The admin address to ask: as given, of the instance `pid`, or of the only one there is."""
    if admin is not None:
        return admin
    found = instances(environment())
    if pid is not None:
        if pid not in found:
            raise click.ClickException(
                f"no instance with pid {pid} answers. Name one with a node.runtime_directory by "
                f"--admin unix:DIRECTORY/admin-{pid}.sock.{_others(found)}"
            )
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


def answered(answer: Answer) -> Any:  # JSON
    """What was answered; every problem, and exit status 1, when that is what it was."""
    if answer.status < 400:  # noqa: PLR2004 - where refusals begin (RFC 9110 §15.5)
        return answer.value
    for problem in answer.value["problems"]:
        click.echo(plain(problem), err=True)
    sys.exit(1)


def plain(text: str) -> str:
    """Text that a terminal only shows: tabs stay, what else would move or colour is written out."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\t" else ascii(each)[1:-1] for each in text
    )

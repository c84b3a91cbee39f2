"""Where running instances can be found: a private directory with one admin socket each.

The node and the command line must agree on it without talking to each other, so the rule is here,
and nothing else is. Only the standard library is imported: the command line starts fast.
"""

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET_PATH_BYTES_MAX: Final = 107
"""The longest path of a Unix socket (unix(7): 108 with its final zero)."""

CONNECT_TIMEOUT_S: Final = 1.0
"""How long an instance may take to accept; one that hangs is still an instance."""

_SYSTEM: Final = Path("/run/loomproxy")  # where the systemd unit has it
_PRIVATE: Final = 0o700


class RuntimeDirectoryError(Exception):
    """The runtime directory cannot be used; the text says which, why, and what to do."""


def runtime_directory(environment: Mapping[str, str], configured: str = "") -> Path:
    """The directory of this user's instances; made if need be, and checked to be private."""
    directory = _places(environment, configured)[0]
    try:
        directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise RuntimeDirectoryError(
            f"runtime directory {directory}: {error.strerror}. "
            "Expected a directory that we may write; set RUNTIME_DIRECTORY to one."
        ) from None
    # Others may make names in /tmp: what we did not make ourselves must at least be ours alone.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise RuntimeDirectoryError(
            f"runtime directory {directory}: it is not a directory of user {os.geteuid()}. "
            "Remove it, or set RUNTIME_DIRECTORY to another one."
        )
    if found.st_mode & 0o022:
        raise RuntimeDirectoryError(
            f"runtime directory {directory}: others may write it. chmod 700 it, or set "
            "RUNTIME_DIRECTORY to another one."
        )
    return directory


def _places(environment: Mapping[str, str], configured: str = "") -> list[Path]:
    """Where instances may be, the place for new ones first.

    Whoever names a directory means that one: a command must not reach an instance elsewhere.
    """
    named = configured or environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if named:
        return [Path(named)]
    places = [Path(f"/tmp/loomproxy-{os.geteuid()}")]  # noqa: S108 # its owner is checked
    run = environment.get("XDG_RUNTIME_DIR", "")
    if run and Path(run).is_dir():
        places.insert(0, Path(run, "loomproxy"))
    return [*places, _SYSTEM]


def admin_socket(directory: Path, pid: int) -> Path:
    """The admin socket of the instance whose node is `pid`."""
    path = directory / f"admin-{pid}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise RuntimeDirectoryError(
            f"runtime directory {directory}: a socket in it would have a path above "
            f"{SOCKET_PATH_BYTES_MAX} bytes. Set RUNTIME_DIRECTORY to a shorter one."
        )
    return path


def instances(environment: Mapping[str, str]) -> dict[int, Path]:
    """The admin sockets of all running instances that we may speak to, by the pid of their node."""
    found: dict[int, Path] = {}
    for place in _places(environment):
        for path in sorted(place.glob("admin-*.sock")):
            pid = path.stem.removeprefix("admin-")
            if pid.isdecimal() and answers(path):
                found[int(pid)] = path
    return found


def sweep(directory: Path) -> None:
    """Remove what instances that were killed have left in `directory`."""
    for path in directory.glob("admin-*.sock"):
        if not answers(path):
            path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Whether somebody listens on the Unix socket `path`; one that is too busy to accept does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_TIMEOUT_S)
        try:
            sock.connect(os.fspath(path))
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
        return True

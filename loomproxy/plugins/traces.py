"""What a guest leaves in the machine, as /proc has it: where it listens, what carries its token.

A process that began a session of its own is in no group of ours; the token in its environment still
says whose it is. (Where the node itself is gone, `reaper` does the same.)
"""

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Final

from loomproxy.plugins.usage import pids

_PASSES_MAX: Final = 5  # over all processes: one that is found may be starting another
_ANOTHER: Final = "127.0.0.2"
_CONNECT_S: Final = 1.0  # on loopback it takes microseconds, or is refused in them
_LISTENS: Final = "0A"  # the state of a socket in /proc/net/tcp, proc(5)


def open_to_others(port: int) -> list[str]:
    """Where beyond the one address of loopback somebody of this machine listens on `port`.

    Who listens everywhere also answers at another address of loopback. Everything else is in
    /proc/net; but a table that changes while it is read may lack a line.
    """
    found = [f"{_ANOTHER}:{port}"] if _answers(_ANOTHER, port) else []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                place, state = line.split()[1], line.split()[3]
                host, _, number = place.partition(":")
                if state == _LISTENS and int(number, 16) == port and not _loopback(host):
                    found.append(f"/proc/net/{name} {place}")
    return found


def _answers(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(_CONNECT_S)
        return sock.connect_ex((host, port)) == 0


def _loopback(host: str) -> bool:
    """Whether an address of /proc/net, in the machine's own order of bytes, is loopback's."""
    if len(host) == 8:  # noqa: PLR2004 - digits of an IPv4 address
        return host.endswith("7F")
    return host == "0" * 24 + "01000000" or (host[16:24] == "FFFF0000" and host.endswith("7F"))


def bearers(token: str) -> list[int]:
    """Every process that we may look at and that was started with this token."""
    wanted = token.encode()
    return [pid for pid in pids() if _bears(pid, wanted)]


def end_bearers(token: str) -> int:
    """Kill them, and return how many there were; for a thread, for this reads all of /proc."""
    ended = 0
    for _ in range(_PASSES_MAX):
        found = bearers(token)
        if not found:
            break
        ended += sum(_end(pid, token.encode()) for pid in found)
    return ended


def _end(pid: int, wanted: bytes) -> bool:
    """Kill one process, and no other that has its number by now."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _bears(pid, wanted):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _bears(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in Path("/proc", str(pid), "environ").read_bytes()
    except OSError:
        return False

"""What systemd is told, over $NOTIFY_SOCKET (sd_notify(3)); nothing at all when it did not ask."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_USEC_PER_S = 1_000_000


class Notifier:
    """Tells systemd how the node is; a socket that does not answer is none of our troubles."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.watchdog_interval_s = _watchdog_interval_s(environment)  # 0: nobody watches

    def ready(self, status: str) -> None:
        """All gates are passed; also the end of a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; systemd wants to know when, by the monotonic clock."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        """The drain begins."""
        self._send("STOPPING=1\nSTATUS=draining")

    def watchdog(self) -> None:
        """The node's loop turns."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing more."""
        self._sock.close()

    def _send(self, text: str) -> None:
        if self._address:
            with contextlib.suppress(OSError):
                self._sock.sendto(text.encode(), self._address)


def _watchdog_interval_s(environment: Mapping[str, str]) -> float:
    """Half of what systemd allows (sd_watchdog_enabled(3)); 0 when it does not watch us."""
    usec = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or pid not in {"", str(os.getpid())}:
        return 0.0
    return int(usec) / _USEC_PER_S / 2

"""What systemd hears."""

import os
import socket
import time
from pathlib import Path

import pytest

from loomproxy.node.notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_the_life_of_the_node(tmp_path: Path, abstract: bool) -> None:
    name = f"@loomproxy-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name.replace("@", "\0"))
        notifier = Notifier({"NOTIFY_SOCKET": name})
        notifier.ready("serving")
        assert heard.recv(1000) == b"READY=1\nSTATUS=serving"
        before = time.monotonic_ns() // 1000
        notifier.reloading()
        lines = heard.recv(1000).decode().splitlines()
        assert lines[0] == "RELOADING=1"
        key, _, usec = lines[1].partition("=")
        assert key == "MONOTONIC_USEC"
        assert before <= int(usec) <= time.monotonic_ns() // 1000
        notifier.stopping()
        assert heard.recv(1000).startswith(b"STOPPING=1\n")
        notifier.watchdog()
        assert heard.recv(1000) == b"WATCHDOG=1"
        notifier.close()


def test_nobody_listening_is_no_trouble(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(environment)
        notifier.ready("serving")
        notifier.close()
        assert notifier.watchdog_interval_s == 0


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_watchdog_is_fed_twice_as_often_as_asked(
    environment: dict[str, str], interval_s: float
) -> None:
    notifier = Notifier(environment)
    assert notifier.watchdog_interval_s == interval_s
    notifier.close()

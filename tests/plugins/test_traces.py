"""What a guest leaves in the machine is found, and ended."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loomproxy.plugins.status import State
from loomproxy.plugins.traces import bearers, end_bearers, open_to_others
from tests.plugins.estate import estate

ELSEWHERE = """        if (KNOBS / "stray").exists():
            import subprocess
            stray = subprocess.Popen(["sleep", "600"], start_new_session=True)
            note(f"stray {stray.pid}")
"""
PLACE = '        if self.path == "/initialize":\n'


@pytest.mark.parametrize(("host", "beyond"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_port_that_is_open_to_others_is_seen(host: str, *, beyond: bool) -> None:
    with socket.create_server((host, 0)) as server:
        assert bool(open_to_others(server.getsockname()[1])) is beyond


def test_what_carries_a_token_is_ended_whatever_session_it_is_in_and_nothing_else() -> None:
    token = os.urandom(12).hex()
    argv = [sys.executable, "-I", "-S", "-c", "import time; print(flush=True); time.sleep(600)"]
    started = [
        subprocess.Popen(argv, env={"TOKEN": one}, start_new_session=True, stdout=subprocess.PIPE)
        for one in (token, os.urandom(12).hex())
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        ours, other = started
        assert bearers(token) == [ours.pid]
        assert end_bearers(token) >= 1
        assert ours.wait(10) == -9
        assert other.poll() is None
        assert end_bearers(token) == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_nothing_outlives_a_plugin_not_even_what_left_its_group() -> None:
    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme")
            code = (folder / "plugin.py").read_text()
            assert PLACE in code
            (folder / "plugin.py").write_text(code.replace(PLACE, ELSEWHERE + PLACE))
            it.knob("acme", "stray").touch()
            await it.begin()
            await it.until(lambda: it.is_ready("acme"))
            (stray,) = (int(n.split()[1]) for n in it.notes("acme") if n.startswith("stray"))
            os.kill(stray, 0)
            assert (await it.manager.stop("acme")).ok
            assert not _runs(stray)

    asyncio.run(play())


def test_a_plugin_that_others_could_reach_is_told_nothing_and_serves_nobody() -> None:
    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme", transport="tcp", auto_start=False)
            code = (folder / "plugin.py").read_text()
            code = code.replace("socketserver.UnixStreamServer", "socketserver.TCPServer")
            code = code.replace(
                'os.environ["LOOM_PLUGIN_SOCKET"]', '(HOST, int(os.environ["LOOM_PLUGIN_PORT"]))'
            )
            (folder / "plugin.py").write_text(f'HOST = "0.0.0.0"\n{code}')
            await it.begin()
            report = await it.manager.start("acme")
            assert not report.ok
            assert "beyond loopback" in report.problems[0]
            assert it.notes("acme") == []
            (folder / "plugin.py").write_text(f'HOST = "127.0.0.1"\n{code}')
            assert (await it.manager.reload("acme")).ok
            assert it.states()["acme"] is State.READY

    asyncio.run(play())


def _runs(pid: int) -> bool:
    """Whether it does; what nobody waited for yet has ended all the same."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"

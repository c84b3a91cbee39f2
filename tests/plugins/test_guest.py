"""Guests: what they are given, what they may take, and what stays of them; with real processes."""

import asyncio
import os
import pwd
import signal
import socket
import stat
from pathlib import Path

import pytest

from loomproxy.core.endpoint import Address
from loomproxy.plugins import guest as module
from loomproxy.plugins.guest import (
    LANG_DEFAULT,
    PATH_DEFAULT,
    SOCKET_NAME,
    GuestSetting,
    environment,
)
from loomproxy.plugins.usage import Usage, usages
from loomproxy.process import LINES_KEPT_MAX, LINES_PER_S_MAX, Exit
from tests.plugins.guesthouse import DEADLINE_S, Stay, lives, manifest, python, shell, stay, until
from tests.support.processes import alive
from tests.support.waiting import eventually

NODE = {"PATH": "/usr/bin:/bin", "HOME": "/home/node", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo"}
SECRETS = {"OPENAI_API_KEY": "secret", "LC_ALL": "C", "NOTIFY_SOCKET": "/run/x"}


def variables(stay: Stay) -> dict[str, str]:
    """What `env` said."""
    return dict(text.split("=", 1) for text in stay.texts())


def descriptors() -> list[str]:
    """Ours."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


class TestEnvironment:
    def test_guest_finds_in_its_environment_what_was_chosen_and_nothing_else(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "secret")  # ours, beside what the setting says of it
        acme, end = lives(
            manifest("env", env={"MODE": "fast"}),
            folder,
            environment=NODE | SECRETS,
            sdk=folder / "sdk",
        )
        assert end == Exit(0, end.lines)
        assert variables(acme) == NODE | {
            "MODE": "fast",
            "PYTHONPATH": str(folder / "sdk"),
            "LOOM_PLUGIN_TOKEN": acme.guest.token,
            "LOOM_PLUGIN_API_VERSION": "1.0.0",
            "LOOM_PLUGIN_NAME": "acme",
            "LOOM_PLUGIN_SOCKET": str(folder / "run/acme-1/plugin.sock"),
        }

    def test_guest_of_tcp_is_told_host_and_port_and_no_socket(self, folder: Path) -> None:
        acme, _end = lives(manifest("env", transport="tcp"), folder, environment=NODE)
        told = variables(acme)
        address = acme.guest.address
        assert (address.host, address.path) == ("127.0.0.1", "")
        assert told["LOOM_PLUGIN_HOST"] == "127.0.0.1"
        assert int(told["LOOM_PLUGIN_PORT"]) == address.port > 0
        assert "LOOM_PLUGIN_SOCKET" not in told
        assert "PYTHONPATH" not in told
        assert not acme.place.exists()

    def test_node_without_the_usual_variables_gives_sensible_ones(self, folder: Path) -> None:
        acme, _end = lives(manifest("env"), folder, environment={})
        told = variables(acme)
        assert told["PATH"] == PATH_DEFAULT
        assert told["LANG"] == LANG_DEFAULT
        assert told["HOME"] == pwd.getpwuid(os.getuid()).pw_dir
        assert "TZ" not in told

    def test_manifest_may_change_all_but_what_the_contract_says(self, folder: Path) -> None:
        env = {"PATH": "/opt", "LOOM_PLUGIN_TOKEN": "mine", "PYTHONPATH": "lib"}
        setting = GuestSetting(manifest("x", env=env), folder, folder / "p", NODE, folder / "sdk")
        told = environment(setting, Address(path="/s"), "ours")
        assert told["PATH"] == "/opt"
        assert told["LOOM_PLUGIN_TOKEN"] == "ours"
        assert told["PYTHONPATH"] == f"lib:{folder / 'sdk'}"

    def test_each_life_has_a_token_of_its_own(self, folder: Path) -> None:
        async def play() -> None:
            tokens = {Stay(manifest("true"), folder).guest.token for _time in range(3)}
            assert len(tokens) == 3
            assert all(len(token) >= 32 for token in tokens)

        asyncio.run(play())


LISTENS = """
import os, signal, socket
listener = socket.socket(socket.AF_UNIX)
os.umask(0)
listener.bind(os.environ["LOOM_PLUGIN_SOCKET"])
listener.listen()
print("up", flush=True)
signal.pause()
"""
LISTENS_TCP = """
import os, signal, socket
listener = socket.create_server(
    (os.environ["LOOM_PLUGIN_HOST"], int(os.environ["LOOM_PLUGIN_PORT"]))
)
print("up", flush=True)
signal.pause()
"""


class TestPlace:
    def test_socket_lies_in_a_private_directory_is_closed_to_others_and_goes_with_the_guest(
        self, folder: Path
    ) -> None:
        async def play() -> None:
            acme = Stay(python(LISTENS), folder)
            acme.place.mkdir(parents=True)
            (acme.place / SOCKET_NAME).write_text("of an earlier life")
            acme.guest.start()
            assert stat.S_IMODE(acme.place.stat().st_mode) == 0o700
            await acme.has_said(1)
            place = acme.place / SOCKET_NAME
            assert acme.guest.address == Address(path=str(place))
            await until(lambda: stat.S_IMODE(place.stat().st_mode) == 0o600)
            assert stat.S_ISSOCK(place.stat().st_mode)
            acme.guest.terminate()
            assert (await acme.left()).code == -signal.SIGTERM
            assert not acme.place.exists()

        asyncio.run(play())

    def test_guest_of_tcp_listens_where_it_was_told(self, folder: Path) -> None:
        async def play() -> None:
            acme = Stay(python(LISTENS_TCP, transport="tcp"), folder)
            acme.guest.start()
            await acme.has_said(1)
            address = acme.guest.address
            with socket.create_connection((address.host, address.port), DEADLINE_S):
                pass
            acme.guest.kill()
            assert (await acme.left()).code == -signal.SIGKILL

        asyncio.run(play())

    def test_link_in_place_of_the_socket_opens_and_closes_nothing_elsewhere(
        self, folder: Path
    ) -> None:
        other = folder / "other"
        other.write_text("")
        other.chmod(0o644)
        (folder / "plugin.sock").symlink_to(other)
        with pytest.raises(FileNotFoundError, match="is no socket"):
            module._close_to_others(str(folder / "plugin.sock"))
        assert stat.S_IMODE(other.stat().st_mode) == 0o644

    def test_full_directory_goes_too(self, folder: Path) -> None:
        code = "d=${LOOM_PLUGIN_SOCKET%/*}; mkdir $d/a; touch $d/a/b $d/c"
        acme, _end = lives(shell(code), folder)
        assert not acme.place.exists()
        eventually(lambda: not list(acme.place.parent.iterdir()), "an empty directory")


class TestLife:
    def test_flood_is_drained_costs_a_bounded_amount_and_is_counted(self, folder: Path) -> None:
        lines = 300_000
        code = (
            "import sys\n"
            f"for n in range({lines}): print(f'line {{n:06d}}' + '.' * 50)\n"
            "print('last', file=sys.stderr)"
        )
        acme, end = lives(python(code), folder)
        assert end.code == 0
        said = acme.texts()
        told = [text for text in said if text.startswith("line ")]
        notes = [text for text in said if not text.startswith("line ")]
        dropped = sum(int(text.split()[0].lstrip("(")) for text in notes)
        assert dropped + len(told) == lines
        assert told[0].startswith("line 000000")
        seconds = len(notes) + 1
        assert len(told) <= LINES_PER_S_MAX * seconds
        assert all("lines not shown: more than 200 in a second)" in text for text in notes)
        assert acme.texts("stderr") == ["last"]
        assert len(end.lines) == LINES_KEPT_MAX
        assert sum(line.startswith(f"line {lines - 1}") for line in end.lines) == 1

    def test_kill_ends_what_the_guest_started(self, folder: Path) -> None:
        async def play() -> None:
            acme = Stay(shell("sleep 600 & echo $!; wait"), folder)
            acme.guest.start()
            pid = int(await acme.first_line())
            assert alive(pid)
            acme.guest.kill()
            assert (await acme.left()).code == -signal.SIGKILL
            eventually(lambda: not alive(pid), "the end of the grandchild")

        asyncio.run(play())

    def test_what_the_guest_started_is_asked_to_leave_with_it(self, folder: Path) -> None:
        code = (
            "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "if os.fork() == 0:\n"
            " signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'asked\\n'), os._exit(0)))\n"
            " os.write(1, b'up\\n'); signal.pause()\n"
            "os.wait()"
        )

        async def play() -> None:
            acme = Stay(python(code), folder)
            acme.guest.start()
            await acme.has_said(1)
            acme.guest.terminate()
            assert (await acme.left()).code == 0
            assert acme.texts() == ["up", "asked"]

        asyncio.run(play())

    def test_usage_is_that_of_the_whole_group(self, folder: Path) -> None:
        code = (
            "import os, signal; os.fork(); b = bytearray(b'x') * (40 << 20)\n"
            "n = sum(range(3_000_000)); print('up', flush=True); signal.pause()"
        )

        async def play() -> None:
            acme = Stay(python(code), folder)
            assert acme.guest.usage() == Usage()
            acme.guest.start()
            await acme.has_said(2)
            usage = acme.guest.usage()
            assert usage.rss_bytes > 80 << 20
            assert 0.02 < usage.cpu_s < 30
            assert usages((acme.guest.pid, 1 << 30))[1 << 30] == Usage()
            acme.guest.kill()
            await acme.left()
            assert acme.guest.usage() == Usage()

        asyncio.run(play())

    def test_many_starts_leave_no_descriptor_open(self, folder: Path) -> None:
        async def play() -> None:
            await stay(manifest("true"), folder)
            before = descriptors()
            for _time in range(3):
                await stay(manifest("true"), folder)
            assert descriptors() == before

        asyncio.run(play())

"""Guests: what they are given, what they may take, and what stays of them; with real processes."""

import asyncio
import os
import pwd
import re
import signal
import stat
import sys
from pathlib import Path

import pytest

from loomproxy.core.endpoint import Address
from loomproxy.plugins import guest as module
from loomproxy.plugins import launcher
from loomproxy.plugins.guest import (
    LANG_DEFAULT,
    PATH_DEFAULT,
    SOCKET_NAME,
    SOCKET_PATH_BYTES_MAX,
    GuestSetting,
    Unrunnable,
    environment,
    listening,
    unrunnable,
)
from loomproxy.plugins.manifest import Limits
from loomproxy.plugins.usage import Usage, usages
from loomproxy.process import LINES_KEPT_MAX, LINES_PER_S_MAX, Exit
from tests.plugins.guesthouse import DEADLINE_S, Stay, lives, manifest, python, shell, stay
from tests.support.processes import alive, command_line
from tests.support.waiting import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run something as another")
NODE = {"PATH": "/usr/bin:/bin", "HOME": "/home/node", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo"}
SECRETS = {"OPENAI_API_KEY": "secret", "LC_ALL": "C", "NOTIFY_SOCKET": "/run/x"}


def variables(stay: Stay) -> dict[str, str]:
    """What `env` said."""
    return dict(text.split("=", 1) for text in stay.texts())


def descriptors() -> list[str]:
    """Ours."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a plugin is; others may pass through the folders above it."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return tmp_path


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


class TestStart:
    def test_arguments_arrive_as_they_are_and_no_shell_reads_them(self, folder: Path) -> None:
        words = ("a b", "$HOME", "; rm -rf x", "*", "", "\udcff\u00e9")
        acme, _end = lives(
            manifest("printf", "%s|", *words), folder, environment=NODE | {"LANG": "C"}
        )
        assert acme.texts() == ["a b|$HOME|; rm -rf x|*||\\xff\u00e9|"]

    def test_relative_command_is_the_folders_own_and_runs_in_it(self, folder: Path) -> None:
        script = folder / "bin" / "plugin"
        script.parent.mkdir()
        script.write_text("#!/bin/sh\npwd\n")
        script.chmod(0o755)
        acme, _end = lives(manifest("bin/plugin"), folder)
        assert acme.texts() == [str(folder)]

    def test_guest_takes_its_limits_and_can_gain_no_rights(self, folder: Path) -> None:
        limits = Limits(memory_bytes=64 << 20, open_files=77, cpu_seconds=88, processes=99)
        acme, _end = lives(
            shell("cat /proc/self/limits /proc/self/status; umask", limits=limits), folder
        )
        text = "\n".join(acme.texts())
        for name, value in (
            ("data size", f"{64 << 20} +{64 << 20}"),
            ("open files", "77 +77"),
            ("cpu time", "88 +89"),
            ("processes", "99 +99"),
            ("core file size", "0 +0"),
        ):
            assert re.search(f"Max {name} +{value} ", text), name
        assert "NoNewPrivs:\t1" in text
        assert "SigIgn:\t0000000000000000" in text
        assert acme.texts()[-1] == "0077"

    def test_guest_that_wants_more_memory_than_it_may_is_refused_by_the_kernel(
        self, folder: Path
    ) -> None:
        code = "try: bytearray(200 << 20)\nexcept MemoryError: print('no')"
        acme, end = lives(python(code, limits=Limits(memory_bytes=64 << 20)), folder)
        assert acme.texts() == ["no"]
        assert end.code == 0

    def test_smallest_limits_that_a_manifest_may_have_do_not_hinder_the_start(
        self, folder: Path
    ) -> None:
        limits = Limits(memory_bytes=8 << 20, open_files=16, cpu_seconds=1, processes=1)
        _acme, end = lives(manifest("true", limits=limits), folder)
        assert end.code == 0

    def test_guest_has_three_descriptors(self, folder: Path) -> None:
        acme, _end = lives(shell("ls /proc/$$/fd; true"), folder)
        assert acme.texts() == ["0", "1", "2"]

    def test_nothing_of_the_launch_is_to_be_seen_in_the_list_of_processes(
        self, folder: Path
    ) -> None:
        async def play() -> None:
            acme = Stay(shell("echo; read x; exit", env={"KEY": "secret"}), folder)
            acme.guest.start()
            command = command_line(acme.guest.pid)
            assert "secret" not in command
            assert acme.guest.token not in command
            await acme.left()

        asyncio.run(play())


class TestUnrunnable:
    @pytest.mark.parametrize(
        ("command", "status", "says"),
        [
            ("no-such-program", 127, "It was looked for in /usr/bin:/bin; install it"),
            ("./no-such-file", 127, "A path is relative to the manifest's folder"),
            ("./no-interpreter", 127, "the interpreter in its #! line"),
            ("./closed", 126, "Permission denied. It must be an executable file"),
            ("./garbage", 126, "Exec format error"),
            ("./folder", 126, "Permission denied"),
            ("./closed/below", 127, "Not a directory"),
        ],
    )
    def test_program_that_cannot_be_run_is_told_in_one_line(
        self, folder: Path, command: str, status: int, says: str
    ) -> None:
        (folder / "no-interpreter").write_text("#!/no/such/interpreter\n")
        (folder / "closed").write_text("#!/bin/sh\n")
        (folder / "garbage").write_bytes(b"\x00\x01\x02")
        (folder / "folder").mkdir()
        for name in ("no-interpreter", "garbage"):
            (folder / name).chmod(0o755)
        _acme, end = lives(manifest(command), folder, environment=NODE)
        assert end.code == status
        assert unrunnable(end)
        (line,) = end.lines
        assert line.startswith("loomproxy: `command`: ")
        assert says in line

    def test_program_that_is_just_being_written_may_be_tried_again(self, folder: Path) -> None:
        program = folder / "program"
        program.write_bytes(Path("/bin/true").read_bytes())
        program.chmod(0o755)
        with program.open("ab"):
            _acme, end = lives(manifest("./program"), folder)
        assert end.code == launcher.NOT_NOW
        assert not unrunnable(end)
        assert "Text file busy" in end.lines[0]

    def test_folder_that_is_gone_is_an_error_and_leaves_nothing(self, folder: Path) -> None:
        async def play() -> None:
            acme = Stay(manifest("true"), folder / "gone", place=folder / "p")
            with pytest.raises(FileNotFoundError):
                acme.guest.start()
            assert not acme.place.exists()
            assert (acme.guest.pid, acme.guest.running) == (0, False)
            acme.guest.kill()
            await acme.guest.wait()

        asyncio.run(play())

    def test_socket_path_that_no_socket_can_have_is_refused_with_its_length(
        self, folder: Path
    ) -> None:
        async def play() -> None:
            acme = Stay(manifest("true"), folder / ("x" * SOCKET_PATH_BYTES_MAX))
            with pytest.raises(Unrunnable, match=r"bytes, 107 at most\. Choose a shorter"):
                acme.guest.start()

        asyncio.run(play())


class TestUser:
    @as_root
    def test_guest_runs_as_another_user_with_its_home_and_groups_and_a_socket_of_its_own(
        self, folder: Path
    ) -> None:
        nobody = pwd.getpwnam("nobody")
        code = (
            "id -u; id -G; echo $HOME; stat -c '%u %a' ${LOOM_PLUGIN_SOCKET%/*};"
            "grep -c . /proc/1/environ"
        )
        acme, end = lives(shell(code, user="nobody"), folder)
        groups = os.getgrouplist("nobody", nobody.pw_gid)
        assert acme.texts()[:4] == [
            str(nobody.pw_uid),
            " ".join(map(str, groups)),
            nobody.pw_dir,
            f"{nobody.pw_uid} 700",
        ]
        assert end.code != 0  # it cannot read what root's processes were told
        assert not acme.place.exists()

    @as_root
    def test_folder_that_the_user_cannot_enter_is_named(self, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)

        async def play() -> None:
            acme = Stay(manifest("true", user="nobody"), closed)
            with pytest.raises(Unrunnable, match=f"'nobody' cannot enter {closed}, where"):
                acme.guest.start()
            assert not acme.place.exists()

        asyncio.run(play())

    def test_user_that_does_not_exist_is_named(self, folder: Path) -> None:
        async def play() -> None:
            with pytest.raises(Unrunnable, match="there is no user 'no-such-user' here"):
                Stay(manifest("true", user="no-such-user"), folder).guest.start()

        asyncio.run(play())

    def test_only_root_can_run_a_guest_as_another_user(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)

        async def play() -> None:
            with pytest.raises(Unrunnable, match="only root can run something as another user"):
                Stay(manifest("true", user="nobody"), folder).guest.start()

        asyncio.run(play())

    def test_own_user_may_be_named_by_anybody(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
        _acme, end = lives(manifest("true", user="nobody"), folder)
        assert end.code == 0


LISTENS = """
import os, signal, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["LOOM_PLUGIN_SOCKET"])
os.chmod(os.environ["LOOM_PLUGIN_SOCKET"], 0o777)
listener.listen()
signal.pause()
"""
LISTENS_TCP = """
import os, signal, socket
listener = socket.create_server(
    (os.environ["LOOM_PLUGIN_HOST"], int(os.environ["LOOM_PLUGIN_PORT"]))
)
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
            async with asyncio.timeout(DEADLINE_S):
                await listening(acme.guest)
            assert stat.S_IMODE(acme.place.stat().st_mode) == 0o700
            facts = (acme.place / SOCKET_NAME).stat()
            assert acme.guest.address == Address(path=str(acme.place / SOCKET_NAME))
            assert stat.S_ISSOCK(facts.st_mode)
            assert stat.S_IMODE(facts.st_mode) == 0o600
            acme.guest.terminate()
            assert (await acme.left()).code == -signal.SIGTERM
            assert not acme.place.exists()

        asyncio.run(play())

    def test_guest_of_tcp_listens_where_it_was_told(self, folder: Path) -> None:
        async def play() -> None:
            acme = Stay(python(LISTENS_TCP, transport="tcp"), folder)
            acme.guest.start()
            async with asyncio.timeout(DEADLINE_S):
                await listening(acme.guest)
            acme.guest.kill()
            assert (await acme.left()).code == -signal.SIGKILL

        asyncio.run(play())

    def test_guest_that_leaves_before_it_listens_is_not_waited_for(self, folder: Path) -> None:
        async def play() -> None:
            acme = Stay(manifest("true"), folder)
            acme.guest.start()
            with pytest.raises(ConnectionError, match="left before it listened"):
                async with asyncio.timeout(DEADLINE_S):
                    await listening(acme.guest)

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


def test_launcher_whose_parent_is_gone_already_leaves(folder: Path) -> None:
    code = "from loomproxy.plugins import launcher; launcher.bind(1 << 30); print('still here')"
    acme, end = lives(
        manifest(sys.executable, "-c", code, env={"PYTHONPATH": ":".join(sys.path)}), folder
    )
    assert end.code == 1
    assert acme.texts() == []

"""Between the node and a guest's program: limits, another user, and what cannot be run."""

import asyncio
import os
import pwd
import re
import sys
from pathlib import Path

import pytest

from loomproxy.plugins import launcher
from loomproxy.plugins.guest import (
    SOCKET_PATH_BYTES_MAX,
    Unrunnable,
    unrunnable,
)
from loomproxy.plugins.manifest import Limits
from loomproxy.process import Exit
from tests.plugins.guesthouse import Stay, lives, manifest, python, shell
from tests.support.processes import command_line
from tests.support.waiting import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run something as another")
NODE = {"PATH": "/usr/bin:/bin", "HOME": "/home/node", "LANG": "de_DE.UTF-8", "TZ": "Asia/Tokyo"}


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
            command = eventually(lambda: command_line(acme.guest.pid), "its exec")
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

    def test_argument_that_no_argv_can_hold_is_told(self, folder: Path) -> None:
        _acme, end = lives(manifest("true", "a\0b"), folder)
        assert end.code == launcher.NOT_RUNNABLE
        assert end.lines == ("loomproxy: `command`, `args` or `env`: embedded null byte",)

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


def as_nobody(code: str, folder: Path) -> tuple[list[str], Exit]:
    """Run a few lines of Python about `launcher`, as a user without rights and with a low limit."""
    before = (
        "import os, resource; from loomproxy.plugins import launcher;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50)); os.setgroups([]); os.setuid(65534);"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    one, end = lives(manifest(sys.executable, "-c", before + code, env=env), folder)
    return one.texts() + one.texts("stderr"), end


@as_root
def test_limit_that_the_proxy_itself_may_not_have_is_taken_as_far_as_it_goes(folder: Path) -> None:
    code = "launcher.limit({'RLIMIT_NOFILE': 4096}); print(resource.getrlimit(7))"
    lines, _end = as_nobody(code, folder)
    assert lines == [
        "(50, 50)",
        "loomproxy: `limits`: RLIMIT_NOFILE stays 50, the most that the proxy has; not 4096.",
    ]


@as_root
def test_user_that_cannot_be_become_is_refused_with_the_reason(folder: Path) -> None:
    code = (
        "\ntry: launcher.become('x', 7, 8, [])"
        "\nexcept launcher.Refusal as refusal: print(refusal.status, refusal)"
    )
    lines, _end = as_nobody(code, folder)
    (line,) = lines
    assert line.startswith("126 `user`: cannot become 'x' (uid 7, gid 8): Operation not permitted.")


def test_launcher_whose_parent_is_gone_already_leaves(folder: Path) -> None:
    code = "from loomproxy.plugins import launcher; launcher.bind(1 << 30); print('still here')"
    acme, end = lives(
        manifest(sys.executable, "-c", code, env={"PYTHONPATH": ":".join(sys.path)}), folder
    )
    assert end.code == 1
    assert acme.texts() == []

"""What the first start of the file leaves on a machine, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import loomproxy
from tests.support import pythons
from tests.zipapp.conftest import START_WITHIN_S, Start, require

ALL_NATIVE_PARTS = """
import sys
sys.path.insert(0, sys.argv[1])
import aiofiles, click, h11, msgspec, msgspec._core, orjson, prometheus_client
import uvloop, uvloop.loop, yaml, yaml._yaml
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
natives = [file for file in files if file.startswith(sys.argv[1]) and file.endswith(".so")]
loop = uvloop.new_event_loop()
assert loop.run_until_complete(loop.run_in_executor(None, lambda: orjson.loads(b"[1]"))) == [1]
loop.close()
assert yaml.load("[1]", yaml.CSafeLoader) == msgspec.json.decode(b"[1]") == [1]
print(len({file.split("/site-packages/")[1].split("/")[0] for file in natives}))
"""


def content(cache: Path) -> Path:
    """The one directory that was unpacked into a cache."""
    (found,) = (path for path in cache.iterdir() if path.is_dir())
    return found


def home_cache(user: dict[str, str]) -> Path:
    """Where the content goes when nobody says otherwise."""
    return Path(user["HOME"], ".cache", "loomproxy")


def test_it_says_its_version_on_every_interpreter(python: str, pyz: Path, start: Start):
    for _ in ("cold", "warm"):
        said = start(python, pyz, "--version")
        assert said.returncode == 0, said.stderr
        assert loomproxy.__version__ in said.stdout
        assert said.stderr == ""


def test_every_native_part_loads_without_any_package_of_the_machine(
    python: str, pyz: Path, start: Start, user: dict[str, str]
):
    start(python, pyz, "--version")
    packages = content(home_cache(user)) / "site-packages"
    said = start(python, "-I", "-S", "-c", ALL_NATIVE_PARTS, packages)
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) == 4  # msgspec, orjson, uvloop, yaml


def test_one_unpacked_content_serves_all_interpreters(
    pyz: Path, start: Start, user: dict[str, str]
):
    for version in pythons.VERSIONS:
        if path := pythons.find(version):
            start(path, pyz, "--version")
    assert content(home_cache(user)).is_dir()


def test_the_content_is_unpacked_once_and_never_changed(
    any_python: str, pyz: Path, start: Start, user: dict[str, str]
):
    def files() -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns
            for path in home_cache(user).rglob("*")
            if path.suffix != ".pyc"
        }

    start(any_python, pyz, "--version")
    before = {
        path: when
        for path, when in files().items()
        if "__pycache__" not in path and Path(path).is_file()
    }
    start(any_python, pyz, "--version")
    after = files()
    assert {path: after[path] for path in before} == before


def test_first_starts_at_once_take_turns(
    any_python: str, pyz: Path, user: dict[str, str], tmp_path: Path
):
    started = [
        subprocess.Popen(
            [any_python, str(pyz), "--version"],
            env=user,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=START_WITHIN_S) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    assert all(errors == b"" for _, errors in ended), ended
    assert content(home_cache(user)).is_dir()  # One, and no half of another.


def test_a_first_start_that_was_interrupted_does_not_spoil_the_next(
    any_python: str, pyz: Path, start: Start, user: dict[str, str], tmp_path: Path
):
    start(any_python, pyz, "--version", LOOMPROXY_CACHE=str(tmp_path / "elsewhere"))
    name = content(tmp_path / "elsewhere").name
    half = home_cache(user) / f"{name}.tmp" / "site-packages" / "loomproxy"
    half.mkdir(parents=True)
    (half / "__init__.py").write_text("raise SystemExit('half')")
    home_cache(user).chmod(0o700)
    said = start(any_python, pyz, "--version")
    assert said.returncode == 0, said.stderr
    assert content(home_cache(user)).name == name


def test_xdg_cache_home_is_obeyed_and_a_relative_one_ignored(
    any_python: str, pyz: Path, start: Start, user: dict[str, str], tmp_path: Path
):
    start(any_python, pyz, "--version", XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert content(tmp_path / "xdg" / "loomproxy").is_dir()
    start(any_python, pyz, "--version", XDG_CACHE_HOME="relative")
    assert content(home_cache(user)).is_dir()


def test_a_user_without_a_home_gets_a_private_place_below_tmpdir(
    any_python: str, pyz: Path, start: Start, tmp_path: Path
):
    (tmp_path / "tmp").mkdir()
    occupied = tmp_path / "occupied"
    occupied.write_text("no directory")
    said = start(any_python, pyz, "--version", HOME=str(occupied), TMPDIR=str(tmp_path / "tmp"))
    assert said.returncode == 0, said.stderr
    cache = tmp_path / "tmp" / f"loomproxy-{os.geteuid()}"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert content(cache).is_dir()


def test_a_cache_that_others_may_write_to_is_refused(
    any_python: str, pyz: Path, start: Start, tmp_path: Path
):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    said = start(any_python, pyz, "--version", LOOMPROXY_CACHE=str(shared))
    assert said.returncode == 2
    assert f"{shared} belongs to another user, or others may write to it" in said.stderr
    assert "Set LOOMPROXY_CACHE" in said.stderr
    assert not list(shared.iterdir())


def test_a_planted_link_below_tmpdir_is_not_followed(
    any_python: str, pyz: Path, start: Start, tmp_path: Path
):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "victim").mkdir(mode=0o700)
    occupied = tmp_path / "occupied"
    occupied.write_text("no directory")
    (tmp_path / "tmp" / f"loomproxy-{os.geteuid()}").symlink_to(tmp_path / "victim")
    said = start(any_python, pyz, "--version", HOME=str(occupied), TMPDIR=str(tmp_path / "tmp"))
    assert said.returncode == 2
    assert not list((tmp_path / "victim").iterdir())


def test_nothing_is_imported_from_the_callers_directory(
    any_python: str, pyz: Path, start: Start, tmp_path: Path
):
    for name in ("loomproxy", "click", "json", "uvloop"):
        (tmp_path / "place" / f"{name}.py").write_text("raise SystemExit('not ours')")
    said = start(any_python, pyz, "--version")
    assert (said.returncode, said.stderr) == (0, "")


def test_an_interpreter_that_it_is_not_made_for_is_told_which_ones_are(pyz: Path, start: Start):
    old = next((path for version in pythons.OLD_VERSIONS if (path := pythons.find(version))), None)
    if old is None:
        pytest.skip("no interpreter older than 3.11 on this machine")
    said = start(old, pyz, "--version")
    assert said.returncode == 2
    assert "3.11, 3.12, 3.13" in said.stderr
    assert "Traceback" not in said.stderr


def namespaces(*flags: str) -> list[str]:
    """A command prefix that runs something in namespaces of its own; no test without them."""
    prefix = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), *flags]
    try:
        allowed = (
            subprocess.run(
                [*prefix, "true"], capture_output=True, timeout=10, check=False
            ).returncode
            == 0
        )
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this machine gives no namespaces to this user")
    return prefix


def test_it_starts_cold_without_a_network(any_python: str, pyz: Path, start: Start):
    said = start(*namespaces("--net"), any_python, pyz, "--version")
    assert said.returncode == 0, said.stderr


def test_it_starts_from_a_read_only_directory(
    any_python: str, pyz: Path, start: Start, tmp_path: Path
):
    place = tmp_path / "read-only"
    place.mkdir()
    (place / "loomproxy.pyz").write_bytes(pyz.read_bytes())
    (place / "loomproxy.pyz").chmod(0o555)
    script = (
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && '
        '! touch "$0/x" 2>/dev/null && cd "$0" && "$@"'
    )
    said = start(
        *namespaces("--mount"), "sh", "-c", script, place, any_python, "loomproxy.pyz", "--version"
    )
    assert said.returncode == 0, said.stderr
    assert [path.name for path in place.iterdir()] == ["loomproxy.pyz"]


@pytest.mark.skipif(
    sys.platform != "linux", reason="a file with a first line is a program on Linux"
)
def test_the_file_is_a_program(pyz: Path, start: Start):
    interpreter = require("3.11")
    first_line = pyz.read_bytes().split(b"\n", 1)[0]
    assert first_line == b"#!/usr/bin/env python3"
    directory = pyz.parent / "bin"
    directory.mkdir(exist_ok=True)
    (directory / "python3").unlink(missing_ok=True)
    (directory / "python3").symlink_to(interpreter)
    said = start(pyz, "--version", PATH=f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert said.returncode == 0, said.stderr

"""First use on a machine with Python and nothing else; the environment is made once, and renewed.

The lock of these tests names one small wheel that they make themselves, so that no registry is
needed; the machine's Python, pip and virtual environments are the real ones. Only apt-get is
played, because a test must not change the machine that it runs on.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SET_UP_WITHIN_S = 110.0

MAIN = """
import os, sys
import probe
print(probe.VERSION, os.getcwd(), *sys.argv[1:])
"""


class Project:
    """A copy of the scripts, with a loomproxy that only says what it was started with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scripts").mkdir(parents=True)
        for name in ("bootstrap.sh", "loomproxy"):
            shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
        (root / "loomproxy").mkdir()
        (root / "loomproxy" / "__init__.py").touch()
        (root / "loomproxy" / "__main__.py").write_text(MAIN)
        (root / "requirements").mkdir()
        self.lock("1.0")

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.root / ".venv" / "bin" / "python"

    def lock(self, version: str, *, digest: str = "") -> None:
        """Lock the probe at a version."""
        wheel = self._wheel(version)
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.root / "requirements" / "runtime.txt").write_text(f"{wheel} --hash=sha256:{digest}\n")

    def _wheel(self, version: str) -> Path:
        """A wheel with one module."""
        name = f"probe-{version}"
        files = {
            "probe.py": f"VERSION = {version!r}\n",
            f"{name}.dist-info/METADATA": "\n".join(
                ("Metadata-Version: 2.1", "Name: probe", f"Version: {version}", "")
            ),
            f"{name}.dist-info/WHEEL": "\n".join(
                ("Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any", "")
            ),
        }
        record = f"{name}.dist-info/RECORD"
        lines = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
        wheel = self.root / f"{name}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in {**files, record: "\n".join([*lines, f"{record},,", ""])}.items():
                archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
        return wheel

    def start(self, *arguments: str, **changed: str) -> subprocess.Popen[str]:
        """Start scripts/loomproxy from another directory."""
        return subprocess.Popen(
            [self.root / "scripts" / "loomproxy", *arguments],
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "LOOMPROXY_PYTHON": sys.executable,
                **changed,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **changed: str) -> tuple[int, str, str]:
        """Run it to its end: exit code, and what it said."""
        process = self.start(*arguments, **changed)
        out, errors = process.communicate(timeout=SET_UP_WITHIN_S)
        return process.returncode, out, errors


def _digest(text: str) -> str:
    """A digest as RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project nobody has used yet, at a place with a space in its name."""
    return Project(tmp_path / "a place")


FIRST_ARGUMENTS = ("serve", "a b", "$c")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[tuple[int, str, str]]]:
    """A project that was used for the first time, by two at once, and what each was told."""
    project = Project(tmp_path_factory.mktemp("used") / "a project")
    both = [project.start(*FIRST_ARGUMENTS), project.start(*FIRST_ARGUMENTS)]
    said = [process.communicate(timeout=SET_UP_WITHIN_S) for process in both]
    return project, [
        (process.returncode, *texts) for process, texts in zip(both, said, strict=True)
    ]


@pytest.fixture
def used(first: tuple[Project, list[tuple[int, str, str]]], tmp_path: Path) -> Project:
    """A copy of that project; an environment can be moved as long as its interpreter stays."""
    copy = Project(tmp_path / "copy")
    shutil.copytree(first[0].root / ".venv", copy.root / ".venv", symlinks=True)
    shutil.copy(first[0].root / "requirements" / "runtime.txt", copy.root / "requirements")
    return copy


def test_first_use_sets_everything_up_and_says_so_on_stderr_alone(first):
    for code, out, errors in first[1]:
        assert code == 0, errors
        assert out == "1.0 / serve a b $c\n"
    told = max((errors for _, _, errors in first[1]), key=len)
    assert "creating" in told
    assert told.endswith("loomproxy: ready\n")


def test_two_first_uses_at_once_set_up_once(first):
    assert sum("creating" in errors for _, _, errors in first[1]) == 1


def test_later_use_says_nothing(used: Project):
    assert used.run("x") == (0, "1.0 / x\n", "")


def test_a_changed_lock_is_installed(used: Project):
    used.lock("2.0")
    code, out, errors = used.run()
    assert (code, out) == (0, "2.0 /\n"), errors
    assert "creating" not in errors  # The environment stays, and with it what else is in it.


def test_a_wheel_with_another_hash_is_refused_and_never_trusted(used: Project):
    used.lock("3.0", digest="0" * 64)
    for _ in range(2):
        code, out, errors = used.run()
        assert (code, out) == (1, "")
        assert "requirements/runtime.txt could not be installed" in errors
    used.lock("3.0")
    assert used.run()[:2] == (0, "3.0 /\n")


@pytest.mark.parametrize("interpreter", [os.path.realpath(sys.executable), "/nonexistent/python"])
def test_half_an_environment_is_made_again(project: Project, interpreter: str):
    project.python.parent.mkdir(parents=True)
    project.python.symlink_to(interpreter)  # There is no pip behind it, or nothing at all.
    home = Path(os.path.realpath(sys.executable)).parent
    (project.root / ".venv" / "pyvenv.cfg").write_text(f"home = {home}\n")
    code, out, errors = project.run()
    assert (code, out) == (0, "1.0 /\n"), errors
    assert "creating" in errors


def test_what_lies_in_the_callers_directory_is_not_imported(used: Project, tmp_path: Path):
    (tmp_path / "probe.py").write_text("raise SystemExit('not ours')")
    said = subprocess.run(
        [used.root / "scripts" / "loomproxy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, f"1.0 {tmp_path}\n"), said.stderr


def test_a_link_to_the_script_works(used: Project, tmp_path: Path):
    (tmp_path / "loom").symlink_to(used.root / "scripts" / "loomproxy")
    said = subprocess.run(
        [tmp_path / "loom", "x"], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr


def test_a_named_interpreter_that_is_too_old_is_refused(project: Project, tmp_path: Path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, _, errors = project.run(LOOMPROXY_PYTHON=str(old))
    assert code == 1
    assert f"LOOMPROXY_PYTHON: {old} is not a CPython of 3.11 or later" in errors


class Machine:
    """A short PATH, and a Python without ensurepip until the played apt-get brings it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.modules = directory / "modules"
        self.modules.mkdir(parents=True)
        self.missing = self.modules / "ensurepip.py"
        self.missing.write_text("raise ImportError('split off')\n")
        needed = (
            "bash",
            "cat",
            "cmp",
            "cp",
            "env",
            "flock",
            "mkdir",
            "mv",
            "readlink",
            "rm",
            "touch",
        )
        for name in needed:
            found = shutil.which(name)
            assert found is not None, name
            (directory / name).symlink_to(found)
        self.user(0)

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        (self.directory / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.directory / name).chmod(0o755)

    def user(self, number: int) -> None:
        """Who uses the machine."""
        self.program("id", f"echo {number}")

    def apt_get(self) -> None:
        """Play an apt-get that brings ensurepip once it has read the list of packages."""
        listed = self.directory / "listed"
        self.program(
            "apt-get",
            f'echo "apt-get $*"; case "$1" in update) touch "{listed}" ;;'
            f' install) [ -e "{listed}" ] && rm -f "{self.missing}" ;; esac',
        )

    def run(self, project: Project) -> tuple[int, str, str]:
        """Use the project on this machine."""
        return project.run(PATH=str(self.directory), PYTHONPATH=str(self.modules))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with Debian's bare python3."""
    return Machine(tmp_path / "machine")


def test_what_debian_splits_off_from_python_is_installed(project: Project, machine: Machine):
    machine.apt_get()
    machine.user(1000)
    machine.program("sudo", 'echo "sudo $*"; exec "$@"')
    code, out, errors = machine.run(project)
    assert (code, out) == (0, "1.0 /\n"), errors
    install = "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    wanted = f"sudo {install} python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    assert [line for line in errors.splitlines() if line.startswith("sudo")] == [
        wanted,
        "sudo apt-get update",
        wanted,
    ]


def test_a_missing_command_is_installed_by_the_name_of_its_package(
    tmp_path: Path, machine: Machine
):
    machine.program("apt-get", 'echo "apt-get $*"')
    machine.program("nginx", "")
    script = f'. "{ROOT}/scripts/bootstrap.sh"; debian_commands nginx node go frobs'
    said = subprocess.run(
        [machine.directory / "bash", "-c", script, ROOT / "scripts" / "test"],
        env={"PATH": str(machine.directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "installing Debian packages: nodejs golang-go frobs" in said.stderr
    assert "install -y --no-install-recommends nodejs golang-go frobs" in said.stderr


def test_a_user_who_may_not_install_is_told_what_to_run(project: Project, machine: Machine):
    machine.apt_get()
    machine.user(1000)
    code, _, errors = machine.run(project)
    assert code == 1
    assert "not root and no sudo here" in errors
    assert "apt-get install" in errors.splitlines()[-1]


def test_another_system_than_debian_is_told_what_is_missing(project: Project, machine: Machine):
    code, _, errors = machine.run(project)
    assert code == 1
    assert "this is not a Debian system" in errors
    assert "-venv" in errors

"""The single file, built once for all its tests, and a user who has nothing but an interpreter."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import build_zipapp
import pytest

from tests.support import pythons

START_WITHIN_S = 60.0

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it is built from this tree."""
    target = tmp_path_factory.mktemp("zipapp") / "loomproxy.pyz"
    build_zipapp.build(target)
    return target


@pytest.fixture(params=pythons.VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """Each interpreter that the file is made for."""
    return require(request.param)


@pytest.fixture
def any_python() -> str:
    """One interpreter that the file is made for."""
    return next(path for version in pythons.VERSIONS if (path := pythons.find(version)))


def require(version: str) -> str:
    """The interpreter of a version, or no test."""
    path = pythons.find(version)
    if path is None:
        pytest.skip(f"no python{version} on this machine")
    return path


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a home and nothing else."""
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}


@pytest.fixture
def start(user: dict[str, str], tmp_path: Path) -> Start:
    """Start a command as that user, in an empty directory."""
    place = tmp_path / "place"
    place.mkdir()

    def run(*command: str | Path, **changed: str | None) -> subprocess.CompletedProcess[str]:
        environment = {**user, **changed}
        return subprocess.run(
            [str(part) for part in command],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=place,
            capture_output=True,
            text=True,
            timeout=START_WITHIN_S,
            check=False,
        )

    return run

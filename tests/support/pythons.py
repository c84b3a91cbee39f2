"""The interpreters of this machine, by version: those on PATH and those of a version manager."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")
OLD_VERSIONS = ("3.10", "3.9", "3.8", "3.7", "3.6")


@functools.cache
def find(version: str) -> str | None:
    """The interpreter of a version; None when this machine has none that starts."""
    name = f"python{version}"
    on_path = [
        shutil.which(name, path=place) for place in os.environ.get("PATH", "").split(os.pathsep)
    ]
    kept = [str(path) for path in sorted(_kept().glob(f"{version}.*/bin/{name}"))]
    for candidate in [*on_path, *kept]:
        if candidate is not None and _starts(candidate):
            return candidate
    return None


def _starts(candidate: str) -> bool:
    """A shim may be there without an interpreter behind it."""
    return (
        subprocess.run(
            [candidate, "-c", ""], capture_output=True, timeout=60, check=False
        ).returncode
        == 0
    )


def _kept() -> Path:
    """Where pyenv keeps its interpreters; a place that does not exist when there is no pyenv."""
    root = os.environ.get("PYENV_ROOT", "")
    if not root and shutil.which("pyenv"):
        said = subprocess.run(
            ["pyenv", "root"], capture_output=True, text=True, timeout=60, check=False
        )
        root = said.stdout.strip()
    return Path(root or "/nonexistent", "versions")

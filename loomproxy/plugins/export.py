"""The SDK on disk, for guests: `loomproxy.plugins.sdk` in a directory that PYTHONPATH can name.

A guest gets the SDK and nothing else of ours: where we are imported from lie also our dependencies,
and in a zipapp's cache they would come into the guest's way. So a small tree is written: the
packages on the way to the SDK, empty but for our version, and the SDK itself, as its files are. A
guest needs the standard library for it, and no more.
"""

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import loomproxy

SDK: Final = "loomproxy.plugins.sdk"

_SUFFIXES: Final = (".py", ".pyi", ".typed")
_DIRECTORY_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
# Guests may run as other users, and our umask may be a strict one. There is no secret in it.


def export_sdk(into: Path, package: str = SDK) -> Path:
    """Write `package` below `into`, and return `into`, for PYTHONPATH.

    What is there is written over, so that a new version of ours replaces an old one's. OSError when
    it cannot be written, ModuleNotFoundError when there is no such package.
    """
    source = importlib.resources.files(package)
    version = f"__version__ = {loomproxy.__version__!r}\n".encode()
    place = into
    _directory(place)
    *above, own = package.split(".")
    for name in above:
        place /= name
        _directory(place)
        _file(place / "__init__.py", version if place.parent == into else b"")
    _directory(place / own)
    _copy(source, place / own)
    return into


def _copy(source: Traversable, into: Path) -> None:
    """All of a package: its modules, their types, and packages in it."""
    for item in source.iterdir():
        if item.is_file() and item.name.endswith(_SUFFIXES):
            _file(into / item.name, item.read_bytes())
        elif item.is_dir() and (item / "__init__.py").is_file():
            _directory(into / item.name)
            _copy(item, into / item.name)


def _directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(_DIRECTORY_MODE)


def _file(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all: a guest may be importing it."""
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(data)
    half.chmod(_FILE_MODE)
    half.replace(path)

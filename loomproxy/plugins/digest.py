"""Whether the files of a plugin are others than before: one digest over its folder.

Contents count, not dates: a checkout or a `touch` that changes nothing reloads nothing. What a
plugin, its interpreter or an editor writes beside its files is not of the plugin, and is left out;
watching leaves out the same.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILES_MAX: Final = 10_000
"""How many files count; of a larger folder those that come first by name."""

FILE_BYTES_MAX: Final = 64 << 20
"""Of a larger file its size and the moment of its last change count, not its contents."""

_IGNORED: Final = re.compile(
    r"__pycache__|\.git|\.hg|\.svn|\.venv|venv|node_modules|\.idea|\.vscode|\..*_cache"
    r"|.*\.py[cod]|.*\.(?:log|pid|sock|tmp|swp|swo|swx|swpx|part)|.*~|\.#.*|#.*#|4913"
    r"|.*\.(?:db|sqlite3?)(?:-journal|-wal|-shm)?|\.DS_Store|___jb_.*"
)


def ignored(name: str) -> bool:
    """Whether a file or folder called `name` is none of the plugin's own."""
    return _IGNORED.fullmatch(name) is not None


def counts(path: Path, root: Path) -> bool:
    """Whether a change of `path`, below `root`, is a change of a plugin."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return False
    return not any(ignored(part) for part in parts)


def digest(directory: Path) -> str:
    """The digest of all that counts in `directory`; what cannot be read counts as such."""
    whole = hashlib.blake2b(digest_size=16)
    for seen, path in enumerate(_files(str(directory))):
        if seen >= FILES_MAX:
            break
        whole.update(os.path.relpath(path, directory).encode(errors="surrogateescape") + b"\0")
        whole.update(_of_file(Path(path)) + b"\0")
    return whole.hexdigest()


def _files(directory: str) -> Iterator[str]:
    """All files below, in an order that is always the same; links to folders are not followed."""
    for where, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not ignored(name))
        for name in sorted(files):
            if not ignored(name):
                yield f"{where}/{name}"


def _of_file(path: Path) -> bytes:
    try:
        found = path.stat()
        if not path.is_file():
            return b"no file"
        mode = b"x" if found.st_mode & 0o111 else b"-"
        if found.st_size > FILE_BYTES_MAX:
            return mode + f"{found.st_size} {found.st_mtime_ns}".encode()
        with path.open("rb") as file:
            return mode + hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        return type(error).__name__.encode()

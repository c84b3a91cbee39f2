"""Which plugins there are: every folder below a directory that holds a manifest.

    plugins/acme/plugin.yaml         found
    plugins/team/beta/plugin.json    found: at any depth, down to DEPTH_MAX
    plugins/gone/plugin.yaml         with a file `disabled` beside it: found, and marked
    plugins/new -> /srv/new          followed: people do link folders in
    plugins/.git, node_modules …     passed over

Links to folders are followed wherever they lead, and no folder is visited twice, whatever leads
there; so a link to a parent ends the walk there. Folders are visited level by level, each in the
order of its names: what is deep and large never hides what lies above it.

What is wrong stays with whom it concerns. Two manifests in one folder: neither is taken, because
nobody can tell which one its author means. Two folders with one provider_type: the first by path is
kept and the other refused, so that a copy put beside a plugin that serves does not end it; one that
is disabled gives way to one that is not, wherever it lies. Every refusal names both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.problem import Problem, Problems
from loomproxy.plugins.manifest import NAMES, Found, claimed, read

DEPTH_MAX: Final = 8
"""Folders within one another, below the directory itself."""

ENTRIES_MAX: Final = 10_000
"""Files and folders that are looked at. Reading so many names takes some milliseconds."""

DISABLED: Final = "disabled"
"""The file whose presence beside a manifest says that nobody wants this plugin."""

PASSED_OVER: Final = frozenset(("node_modules", "__pycache__"))
"""Folders, besides hidden ones, that hold other people's files by the thousand."""


class Discovery(msgspec.Struct, frozen=True):
    """What was found, and what was not taken and why."""

    found: dict[str, Found]  # by provider_type, sorted
    refused: dict[str, Problems]  # by the path of a manifest, or of a folder that cannot be read
    disabled: frozenset[str]  # provider_types whose folder holds a file `disabled`
    claims: dict[str, str] = {}  # of a refused manifest: the provider_type that it names, if any


class _Folder(msgspec.Struct, frozen=True):
    """A folder with at least one manifest."""

    path: Path
    manifests: tuple[str, ...]  # their names, sorted
    disabled: bool


def discover(directory: Path, environ: Mapping[str, str]) -> Discovery:
    """All plugins below `directory`, which may be one itself; `environ` is for `${NAME}`.

    A directory that is not there holds none: that is told, and nothing is created. Files are read,
    for about a millisecond for each plugin: an event loop has it done by a thread.
    """
    survey = _Survey(directory)
    survey.walk()
    sorting = _Sorting(dict(survey.refused))
    for folder in sorted(survey.folders, key=lambda folder: folder.path):
        sorting.put(folder, _read(folder, environ))
    return sorting.done()


class _Sorting:
    """What becomes of each folder with a manifest; they come in the order of their paths."""

    def __init__(self, refused: dict[str, Problems]) -> None:
        self._refused = refused
        self._claims: dict[str, str] = {}
        self._disabled: set[str] = set()
        self._wanted: dict[str, Found] = {}
        self._unwanted: dict[str, Found] = {}

    def put(self, folder: _Folder, result: Found | Problems) -> None:
        """Take one folder's plugin, or note why not."""
        manifest = folder.path / folder.manifests[0]
        if isinstance(result, Found):
            self._take(result, disabled=folder.disabled)
        elif os.path.lexists(manifest):  # Else somebody removes it at this moment.
            self._refused[str(manifest)] = result
            names = {claimed(folder.path / name) for name in folder.manifests} - {""}
            if len(names) == 1:
                (self._claims[str(manifest)],) = names
                self._disabled |= names if folder.disabled else set()

    def _take(self, one: Found, *, disabled: bool) -> None:
        name = one.manifest.metadata.provider_type
        if disabled:
            self._unwanted.setdefault(name, one)
        elif name not in self._wanted:
            self._wanted[name] = one
        else:
            self._refused[str(one.path)] = _taken(name, self._wanted[name], one)
            self._claims[str(one.path)] = name

    def done(self) -> Discovery:
        """All of it. A plugin that is wanted goes before one that is not."""
        found = {**self._unwanted, **self._wanted}
        disabled = (self._disabled | set(self._unwanted)) - set(self._wanted)
        return Discovery(
            dict(sorted(found.items())), self._refused, frozenset(disabled), self._claims
        )


def _read(folder: _Folder, environ: Mapping[str, str]) -> Found | Problems:
    if len(folder.manifests) > 1:
        seen = f"{' and '.join(folder.manifests)} stand in one folder"
        do = "Keep the one that is meant."
        problem = Problem(str(folder.path), seen, "one manifest in a folder", do)
        return Problems((problem,))
    return read(folder.path / folder.manifests[0], environ)


def _taken(name: str, first: Found, other: Found) -> Problems:
    seen = f"{name} is the provider_type of {first.path}, and of {other.path}, too"
    do = f"Change one of them, remove one folder, or put a file `{DISABLED}` into it."
    expected = "another provider_type in each folder"
    return Problems((Problem("metadata.provider_type", seen, expected, do),))


class _Survey:
    """One walk over the folders below a directory, level by level."""

    def __init__(self, directory: Path) -> None:
        self.refused: dict[str, Problems] = {}  # what cannot be looked at
        self.folders: list[_Folder] = []  # with a manifest
        self._directory = directory
        self._visited: set[tuple[int, int]] = set()  # by device and inode
        self._entries_left = ENTRIES_MAX

    def walk(self) -> None:
        """Look at every folder, as far as the bounds go."""
        level = [self._directory]
        for _ in range(DEPTH_MAX + 1):
            below: list[Path] = []
            for path in level:
                below += self._tried(path)
                if self._entries_left < 0:
                    self._cut(f"it holds more than {ENTRIES_MAX} files and folders")
                    return
            level = below
        for path in level:
            if not self._is_known(path):
                self._cut(f"{_shown(path)} lies more than {DEPTH_MAX} folders below it")
                return

    def _tried(self, path: Path) -> list[Path]:
        try:
            return self._folder(path)
        except FileNotFoundError as error:
            if path != self._directory:  # It was there a moment ago, so somebody removes it.
                return []
            seen = f"it cannot be read ({error.strerror})"
        except OSError as error:
            seen = f"it cannot be read ({error.strerror})"
        except UnicodeEncodeError:
            seen = "its name is not UTF-8"
        do = "Create it, or mend its name, owner and mode."
        self._refuse(path, seen, "a folder that we may read", do)
        return []

    def _folder(self, path: Path) -> list[Path]:
        """Look at one folder; return those in it."""
        here = Path(os.path.realpath(path, strict=True))
        str(here).encode()  # What cannot be written down cannot be told of either.
        identity = _identity(here)
        if identity in self._visited:
            return []
        self._visited.add(identity)
        names, folders = _looked_at(here, self._entries_left)
        self._entries_left -= len(names)
        manifests = tuple(name for name in NAMES if name in names and not (here / name).is_dir())
        if manifests:
            self.folders.append(_Folder(here, manifests, DISABLED in names))
        return folders

    def _is_known(self, path: Path) -> bool:
        try:
            return _identity(path) in self._visited
        except OSError:  # It is being removed.
            return True

    def _cut(self, seen: str) -> None:
        expected = f"at most {ENTRIES_MAX} files and folders, {DEPTH_MAX} deep"
        do = "Move what is no plugin elsewhere; what lies deepest was not looked at."
        self._refuse(self._directory, seen, expected, do)

    def _refuse(self, path: Path, seen: str, expected: str, do: str) -> None:
        where = _shown(path)
        self.refused[where] = Problems((Problem(where, seen, expected, do),))


def _identity(path: Path) -> tuple[int, int]:
    at = path.stat()
    return at.st_dev, at.st_ino


def _looked_at(path: Path, entries_max: int) -> tuple[set[str], list[Path]]:
    """The names in a folder, and the folders among them to walk, in order.

    Where there are more than `entries_max` names, one more than that is told.
    """
    names, folders = set(), []
    with os.scandir(path) as entries:
        for entry in entries:
            names.add(entry.name)
            if len(names) > entries_max:
                break
            if not _is_passed_over(entry.name) and _is_folder(entry):
                folders.append(path / entry.name)
    return names, sorted(folders)


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in PASSED_OVER


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")

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
from collections.abc import Iterable, Iterator, Mapping
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

    A directory that is not there holds none: that is told, and nothing is created.
    """
    refused: dict[str, Problems] = {}
    claims: dict[str, str] = {}
    good: list[tuple[bool, Found]] = []
    disabled: set[str] = set()
    for folder in sorted(_folders(directory, refused), key=lambda folder: folder.path):
        manifest = folder.path / folder.manifests[0]
        result = _read(folder, environ)
        if isinstance(result, Found):
            good.append((folder.disabled, result))
            continue
        refused[str(manifest)] = result
        names = {claimed(folder.path / name) for name in folder.manifests} - {""}
        if len(names) == 1:
            (claims[str(manifest)],) = names
            disabled |= names if folder.disabled else set()
    found: dict[str, Found] = {}
    for is_disabled, one in sorted(good, key=lambda pair: pair[0]):  # Stable: by path within.
        name = one.manifest.metadata.provider_type
        if name not in found:
            found[name] = one
            disabled |= {name} if is_disabled else set()
        elif not is_disabled:
            refused[str(one.path)] = _taken(name, found[name], one)
            claims[str(one.path)] = name
    return Discovery(dict(sorted(found.items())), refused, frozenset(disabled), claims)


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


def _folders(directory: Path, refused: dict[str, Problems]) -> Iterator[_Folder]:
    """Every folder with a manifest; what cannot be looked at is put into `refused`."""
    visited: set[tuple[int, int]] = set()
    entries_left = ENTRIES_MAX
    level = [directory]
    for _ in range(DEPTH_MAX + 1):
        below: list[Path] = []
        for path in level:
            try:
                here = path.resolve(strict=True)
                at = here.stat()
                if (at.st_dev, at.st_ino) in visited:
                    continue
                visited.add((at.st_dev, at.st_ino))
                names, folders = _looked_at(here, entries_left)
            except OSError as error:
                refused[str(path)] = _unreadable(path, error)
                continue
            entries_left -= len(names)
            below += folders
            yield from _with_manifests(here, names)
            if entries_left < 0:
                refused[str(directory)] = _too_much(
                    directory, f"it holds more than {ENTRIES_MAX} files and folders"
                )
                return
        level = below
    if level:
        seen = f"{level[0]} lies more than {DEPTH_MAX} folders below it"
        refused[str(directory)] = _too_much(directory, seen)


def _looked_at(path: Path, entries_max: int) -> tuple[list[str], list[Path]]:
    """The names in a folder, and the folders among them to walk.

    Where there are more than `entries_max` names, one more than that is told.
    """
    names, folders = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > entries_max:
                break
            if not _is_passed_over(entry.name) and _is_folder(entry):
                folders.append(path / entry.name)
    return sorted(names), sorted(folders)


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in PASSED_OVER


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _with_manifests(path: Path, names: Iterable[str]) -> Iterator[_Folder]:
    known = set(names)
    manifests = tuple(name for name in NAMES if name in known and not (path / name).is_dir())
    if manifests:
        yield _Folder(path, manifests, DISABLED in known)


def _unreadable(path: Path, error: OSError) -> Problems:
    seen = f"it cannot be read ({error.strerror})"
    do = "Create it, or mend its owner and mode."
    return Problems((Problem(str(path), seen, "a folder that we may read", do),))


def _too_much(directory: Path, seen: str) -> Problems:
    expected = f"at most {ENTRIES_MAX} files and folders, {DEPTH_MAX} deep"
    do = "Move what is no plugin elsewhere; what lies deepest was not looked at."
    return Problems((Problem(str(directory), seen, expected, do),))

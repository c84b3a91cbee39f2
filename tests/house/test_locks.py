"""What is pinned is locked, what is locked is used, and each dependency says why it is here."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_NAMES = {"pyyaml": "yaml"}  # Where a package is imported under another name than its own.
ENTRY = re.compile(r"^([\w.-]+)==(\S+)(.*)", re.MULTILINE)


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package in a lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        match = ENTRY.match(entry)
        assert match is not None, entry
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
        found[normal(match[1])] = (match[2], hashes)
    return found


def pins(requirements: list[str]) -> dict[str, str]:
    """Name and version of requirements that are pinned; anything looser is an error here."""
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", each) for each in requirements]
    assert all(matches), requirements
    return {normal(match[1]): match[2] for match in matches if match}


GROUPS = {
    "runtime": PROJECT["project"]["dependencies"],
    "dev": PROJECT["dependency-groups"]["dev"],
    "load": PROJECT["dependency-groups"]["load"],
    "fuzz": PROJECT["dependency-groups"]["fuzz"],
}


@pytest.mark.parametrize("name", GROUPS)
def test_direct_dependencies_are_pinned_and_locked_at_that_version(name):
    lock = locked(name)
    for package, version in pins(GROUPS[name]).items():
        assert lock[package][0] == version


@pytest.mark.parametrize("name", GROUPS)
def test_every_locked_package_has_hashes(name):
    assert [package for package, (_, hashes) in locked(name).items() if not hashes] == []


def test_one_environment_can_hold_all_locks():
    runtime, dev = locked("runtime"), locked("dev")
    assert {package: dev[package] for package in runtime} == runtime
    for other in (locked("load"), locked("fuzz")):
        shared = dev.keys() & other.keys()
        assert {package: other[package] for package in shared} == {
            package: dev[package] for package in shared
        }


def test_every_dependency_is_imported_by_us():
    imported = set()
    for path in (ROOT / "loomproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    wanted = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in pins(GROUPS["runtime"])}
    assert wanted - imported == set()


def test_every_dependency_says_why_it_is_here():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r'\s+"[\w.-]+==', line):
            assert re.match(r"\s+# [A-Z].+\.$", lines[number - 1]), line

"""Manifests for tests: the shortest of each kind, and what becomes of one in a file."""

import json
from pathlib import Path
from typing import Any

from loomproxy.config.problem import Problem, Problems
from loomproxy.plugins.manifest import Found, Manifest, read

METADATA: dict[str, Any] = {
    "name": "Acme",
    "version": "1.0.0",
    "plugin_api_version": "1.0.0",
    "provider_type": "acme",
}
PROCESS: dict[str, Any] = {"metadata": METADATA, "command": "./plugin.py"}
REMOTE: dict[str, Any] = {"metadata": METADATA, "endpoint": "http://127.0.0.1:9/base"}
BUILTIN: dict[str, Any] = {**REMOTE, "type": "builtin"}


def written(folder: Path, tree: object, name: str = "plugin.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(tree))  # Which is YAML, too.
    return path


def good(folder: Path, tree: object, environ: dict[str, str] | None = None) -> Manifest:
    found = read(written(folder, tree), environ or {})
    assert isinstance(found, Found), str(found)
    return found.manifest


def bad(folder: Path, tree: object, environ: dict[str, str] | None = None) -> dict[str, Problem]:
    problems = read(written(folder, tree), environ or {})
    assert isinstance(problems, Problems), problems
    return {problem.path: problem for problem in problems.items}


def with_metadata(**more: Any) -> dict[str, Any]:
    return {**PROCESS, "metadata": {**METADATA, **more}}


def with_field(**more: Any) -> dict[str, Any]:
    return with_metadata(config_schema=[{"name": "a", "type": "string", **more}])

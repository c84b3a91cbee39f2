"""Runs each core module's own tests and holds the module to full branch coverage by them alone.

A line that only another module's tests reach is a line whose own tests nobody would see fail.
Modules that share their tests are measured in one run, and two runs go at a time.
"""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import coverage
from core_tests import core_modules, own_tests

ROOT: Final = Path(__file__).resolve().parent.parent
SETTINGS: Final = str(ROOT / "pyproject.toml")
RUNS_AT_ONCE: Final = (
    2  # More only pays on machines with more cores than a test machine usually has.
)
RUN_TIMEOUT_S: Final = 300  # For the tests of one module, which take seconds.


def measure(tests: tuple[Path, ...], modules: list[Path]) -> list[str]:
    """Run some tests; return what they leave uncovered of the modules, in words."""
    with tempfile.TemporaryDirectory() as directory:
        data, report = Path(directory) / "data", Path(directory) / "report.json"
        command = [sys.executable, "-m", "pytest", "--quiet", "--no-header"]
        command += ["-p", "no:cacheprovider", "--cov-branch", "--cov-report=", *map(str, tests)]
        command += [f"--cov={dotted(module)}" for module in modules]
        environment = os.environ | {
            "COVERAGE_FILE": str(data),
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Or each run compiles pytest anew.
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            return [f"the tests {' '.join(map(str, tests))} failed:\n{done.stdout}{done.stderr}"]
        files = reported(data, report, modules)
    return [gap for module in modules for gap in gaps(module, files.get(str(module)))]


def dotted(module: Path) -> str:
    """Return the name by which a module is imported."""
    return ".".join(module.with_suffix("").parts).removesuffix(".__init__")


def reported(data: Path, report: Path, modules: list[Path]) -> dict[str, Any]:
    """Return what was measured of the modules, by their paths; nothing when none was imported."""
    measured = coverage.Coverage(data_file=str(data), config_file=SETTINGS)
    measured.load()
    with contextlib.suppress(coverage.exceptions.NoDataError):
        measured.json_report(morfs=[str(ROOT / module) for module in modules], outfile=str(report))
    found = json.loads(report.read_text())["files"] if report.exists() else {}
    return {os.path.relpath(ROOT / path, ROOT): facts for path, facts in found.items()}


def gaps(module: Path, measured: dict[str, Any] | None) -> list[str]:
    """Return the lines and branches of one module that were not run, in words."""
    if measured is None:
        return [f"{module}: its tests never import it"]
    lines = [f"{module}:{line} is never run by its own tests" for line in measured["missing_lines"]]
    missing = set(measured["missing_lines"])
    branches = [
        f"{module}:{start} never goes to {f'line {end}' if end > 0 else 'its end'} in its own tests"
        for start, end in measured["missing_branches"]
        if start not in missing
    ]
    return lines + branches


def main() -> int:
    """Measure every core module; 0 when each is covered by its own tests."""
    groups: dict[tuple[Path, ...], list[Path]] = defaultdict(list)
    for module in core_modules(ROOT):
        groups[tuple(own_tests(ROOT, module))].append(module)
    problems = [f"{module}: has no test file" for module in groups.pop((), [])]
    with concurrent.futures.ThreadPoolExecutor(RUNS_AT_ONCE) as runs:
        for found in runs.map(measure, groups.keys(), groups.values()):
            problems += found
    for problem in problems:
        print(problem, file=sys.stderr)
    modules = sum(map(len, groups.values()))
    print(
        f"coverage of core: {modules} modules by {len(groups)} sets of tests, {len(problems)} gaps"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

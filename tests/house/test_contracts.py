"""The import contracts hold, and each of them would see what it is there for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """What the contracts say about a tree."""
    return subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONSAFEPATH": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_contracts_hold():
    said = lint(ROOT)
    assert said.returncode == 0, said.stdout
    assert "6 kept, 0 broken" in said.stdout


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """A tree with every module of ours, none of which imports anything."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in (ROOT / "loomproxy").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    return tmp_path


def test_an_empty_house_keeps_them(skeleton: Path):
    said = lint(skeleton)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("loomproxy/core/units.py", "import asyncio", "core is sans-I/O"),
        ("loomproxy/core/pool.py", "import time", "core is sans-I/O"),
        ("loomproxy/core/pool.py", "import random", "core is sans-I/O"),
        ("loomproxy/core/units.py", "import loomproxy.core.fault", "The floors of core"),
        ("loomproxy/core/pool.py", "import loomproxy.core.http1.wire", "The floors of core"),
        ("loomproxy/core/newcomer.py", "", "The floors of core"),
        ("loomproxy/newcomer.py", "", "The floors:"),
        ("loomproxy/core/pool.py", "import loomproxy.config.model", "The floors:"),
        ("loomproxy/worker/main.py", "import loomproxy.node.main", "The floors:"),
        ("loomproxy/node/main.py", "import loomproxy.worker.main", "The floors:"),
        ("loomproxy/channel.py", "import loomproxy.node.main", "The floors:"),
        ("loomproxy/worker/downstream.py", "import h11", "h11, uvloop and asyncpg"),
        ("loomproxy/node/sockets.py", "import uvloop", "h11, uvloop and asyncpg"),
        ("loomproxy/node/cluster.py", "import asyncpg", "h11, uvloop and asyncpg"),
        ("loomproxy/worker/main.py", "import loomproxy.cluster.store", "The data plane"),
        ("loomproxy/worker/main.py", "import loomproxy.plugins.manager", "The data plane"),
    ],
)
def test_a_door_that_must_stay_shut(skeleton: Path, module: str, line: str, contract: str):
    (skeleton / module).write_text(f"{line}\n")
    said = lint(skeleton)
    assert said.returncode != 0
    (broken,) = (text for text in said.stdout.splitlines() if " BROKEN" in text)
    assert broken.startswith(contract)


def test_siblings_that_need_each_other_are_seen(skeleton: Path):
    (skeleton / "loomproxy/node/main.py").write_text("import loomproxy.node.sockets\n")
    (skeleton / "loomproxy/node/sockets.py").write_text("import loomproxy.node.main\n")
    said = lint(skeleton)
    assert "No cycles between siblings BROKEN" in said.stdout

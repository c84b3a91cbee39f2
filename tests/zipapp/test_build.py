"""The build: the same bytes every time, everything in it that must be, nothing that need not be."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import build_zipapp
import pytest

PLACES = ("loomproxy", "scripts", "requirements", "pyproject.toml", "zipapp.spec")


def copied_tree(to: Path) -> Path:
    """This tree at another place, with the wheels that were already fetched."""
    to.mkdir()
    for place in PLACES:
        source = build_zipapp.ROOT / place
        if source.is_dir():
            shutil.copytree(source, to / place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / place)
    (to / ".cache").mkdir()
    (to / ".cache" / "wheels").symlink_to(build_zipapp.ROOT / ".cache" / "wheels")
    return to


def run_build(
    tree: Path, *, umask: int = 0o022, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Build in another process."""
    return subprocess.run(
        [sys.executable, tree / "scripts" / "build_zipapp.py"],
        capture_output=True,
        text=True,
        timeout=300,
        umask=umask,
        env={**os.environ, "PYTHONPATH": str(tree / "scripts"), **environment},
        check=False,
    )


def build_in(tree: Path, **how: Any) -> bytes:
    """Build in another process and return the bytes."""
    said = run_build(tree, **how)
    assert said.returncode == 0, said.stderr
    return (tree / "dist" / "loomproxy.pyz").read_bytes()


def test_two_builds_at_two_places_by_two_users_give_the_same_bytes(pyz: Path, tmp_path: Path):
    one = build_in(copied_tree(tmp_path / "one"), TZ="Asia/Tokyo", PYTHONHASHSEED="1")
    other = build_in(
        copied_tree(tmp_path / "another-place"),
        umask=0o077,
        TZ="UTC",
        PYTHONHASHSEED="2",
        LC_ALL="C",
    )
    assert one == other
    assert one == pyz.read_bytes()


def test_another_content_has_another_name_in_the_cache(tmp_path: Path, any_python: str):
    tree = copied_tree(tmp_path / "tree")
    cache = tmp_path / "cache"
    for version in ("0.1.0", "9.9.9"):
        (tree / "loomproxy" / "__init__.py").write_text(
            f'"""Changed."""\n\n__version__ = "{version}"\n'
        )
        build_in(tree)
        said = subprocess.run(
            [any_python, tree / "dist" / "loomproxy.pyz", "--version"],
            env={"PATH": os.environ["PATH"], "LOOMPROXY_CACHE": str(cache)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert version in said.stdout
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_every_interpreter_and_machine_finds_its_native_parts(pyz: Path):
    names = zipfile.ZipFile(pyz).namelist()
    spec = build_zipapp.read_spec()
    for native in ("msgspec/_core", "orjson/orjson", "uvloop/loop", "yaml/_yaml"):
        for python in spec.pythons:
            for machine in spec.machines:
                tag = f"cpython-{python.replace('.', '')}-{machine}-linux-gnu"
                assert f"site-packages/{native}.{tag}.so" in names


def test_our_sources_and_the_licences_of_others_are_in_it_and_no_tests(pyz: Path):
    names = zipfile.ZipFile(pyz).namelist()
    assert "site-packages/loomproxy/__main__.py" in names
    for package in ("click", "h11", "msgspec", "orjson", "prometheus_client", "pyyaml", "uvloop"):
        assert any(
            f"site-packages/{package}-" in name and "LICENSE" in name.upper() for name in names
        ), package
    spec = build_zipapp.read_spec()
    assert not [name for name in names if spec.is_left_out(name.removeprefix("site-packages/"))]
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyx", ".pyi"))]


def test_two_wheels_that_disagree_about_a_file_are_refused(tmp_path: Path):
    build_zipapp.lay(tmp_path, "package/module.py", b"one", origin="one.whl")
    build_zipapp.lay(tmp_path, "package/module.py", b"one", origin="same.whl")
    with pytest.raises(build_zipapp.BuildError, match=r"other\.whl: package/module\.py differs"):
        build_zipapp.lay(tmp_path, "package/module.py", b"other", origin="other.whl")


def test_a_wheel_whose_names_lead_out_of_the_tree_is_refused(tmp_path: Path):
    with pytest.raises(build_zipapp.BuildError, match="leads out of the tree"):
        build_zipapp.lay(tmp_path / "tree", "../outside.py", b"", origin="bad.whl")
    assert not (tmp_path / "outside.py").exists()


def test_a_key_that_the_spec_does_not_know_is_refused(tmp_path: Path):
    tree = copied_tree(tmp_path / "tree")
    with (tree / "zipapp.spec").open("a") as spec:
        spec.write("\nwheel = 3\n")
    said = run_build(tree)
    assert said.returncode == 1
    assert "wheel" in said.stderr
    assert "Traceback" not in said.stderr

"""A trimmed library is shorter and still loads; what is no library stays as it is."""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec._core
import pytest
import uvloop.loop
from elf_trim import trimmed


@pytest.mark.parametrize("module", [uvloop.loop, msgspec._core], ids=lambda module: module.__name__)
def test_a_trimmed_library_loads(module, tmp_path: Path):
    whole = Path(module.__file__).read_bytes()
    short = trimmed(whole)
    assert len(short) <= len(whole)
    package = tmp_path / module.__name__.partition(".")[0]
    shutil.copytree(Path(module.__file__).parent, package)
    (package / Path(module.__file__).name).write_bytes(short)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        f"import {module.__name__} as module; print(module.__file__)"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.strip().startswith(str(tmp_path))


def test_debugging_symbols_are_most_of_a_library_that_has_them():
    whole = Path(uvloop.loop.__file__).read_bytes()
    assert len(trimmed(whole)) < len(whole) / 4


def test_trimming_twice_is_trimming_once():
    once = trimmed(Path(msgspec._core.__file__).read_bytes())
    assert trimmed(once) == once


@pytest.mark.parametrize(
    "data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x02" + bytes(100)]
)
def test_what_is_no_library_of_ours_stays_as_it_is(data: bytes):
    assert trimmed(data) == data

"""What an instance keeps on its own disk: the old or the new, never half of either."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loomproxy.cluster.lastgood import Kept, LastGood, LastGoodError
from loomproxy.cluster.store import DOCUMENT_BYTES_MAX, digest_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> LastGood:
    return LastGood(tmp_path / "state" / "published.json")


def test_what_was_saved_is_there_again_for_us_alone(file: LastGood) -> None:
    assert file.load() is None
    file.save(3, "routes: []\n# ü\n")
    assert file.load() == Kept(3, digest_of("routes: []\n# ü\n"), "routes: []\n# ü\n")
    file.save(4, None)
    assert file.load() == Kept(4, "", None)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.path.parent.iterdir()) == [file.path], "nothing is left beside it"


def test_the_largest_document_is_kept(file: LastGood) -> None:
    worst = "\x01" * DOCUMENT_BYTES_MAX  # JSON writes six bytes for each
    file.save(1, worst)
    kept = file.load()
    assert kept is not None
    assert kept.document == worst


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b"routes", b"rootes"),
        lambda data: b"\xff" + data,
        lambda data: data.replace(b'"number":3', b'"number":-1'),
        lambda data: b"[]",
    ],
)
def test_what_is_damaged_is_said_to_be_and_not_used(file: LastGood, damage) -> None:
    file.save(3, "routes: []")
    file.path.write_bytes(damage(file.path.read_bytes()))
    with pytest.raises(LastGoodError, match="expected what this program has written"):
        file.load()
    file.save(4, "routes: []")
    assert file.load() is not None


def test_a_place_that_cannot_be_used_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    file = LastGood(tmp_path / "state" / "published.json")
    with pytest.raises(LastGoodError, match="state_directory"):
        file.save(1, None)
    with pytest.raises(LastGoodError):
        file.load()
    (tmp_path / "folder").mkdir()
    with pytest.raises(LastGoodError):
        LastGood(tmp_path / "folder").load()


def test_a_full_disk_leaves_the_old_one(file: LastGood) -> None:
    file.save(1, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(LastGoodError, match="cannot be written"):
            file.save(2, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    kept = file.load()
    assert kept is not None
    assert kept.document == "old"
    assert list(file.path.parent.iterdir()) == [file.path]


WRITER = """
import sys
from pathlib import Path
from loomproxy.cluster.lastgood import LastGood
file, number = LastGood(Path(sys.argv[1])), 0
while True:
    number += 1
    file.save(number, f"{number} " * 20_000)
    print(number, flush=True)
"""


def test_who_is_killed_while_it_writes_has_the_old_or_the_new(file: LastGood) -> None:
    for kills in range(1, 6):
        writer = subprocess.Popen(
            (sys.executable, "-c", WRITER, str(file.path)),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        with writer.stdout as said:
            for _ in range(kills * 3):
                last = int(said.readline())
            writer.kill()
            writer.wait()
        kept = file.load()
        assert kept is not None
        assert kept.number >= last
        assert kept.document == f"{kept.number} " * 20_000

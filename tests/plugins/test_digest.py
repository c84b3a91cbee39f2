"""What is a change of a plugin, and what is not."""

from pathlib import Path

import pytest

from loomproxy.plugins import digest as subject
from loomproxy.plugins.digest import counts, digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    (folder / "lib").mkdir(parents=True)
    (folder / "plugin.py").write_text("one")
    (folder / "lib" / "more.py").write_text("two")
    return folder


def test_contents_names_and_modes_count(folder: Path) -> None:
    seen = {digest(folder)}

    def differs() -> bool:
        now = digest(folder)
        before = now in seen
        seen.add(now)
        return not before

    (folder / "plugin.py").write_text("One")
    assert differs()
    (folder / "lib" / "more.py").rename(folder / "lib" / "less.py")
    assert differs()
    (folder / "plugin.py").chmod(0o755)
    assert differs()
    (folder / "lib" / "less.py").unlink()
    assert differs()
    (folder / "link").symlink_to("nowhere")
    assert differs()


def test_dates_and_what_is_made_beside_the_files_do_not(folder: Path) -> None:
    before = digest(folder)
    (folder / "plugin.py").touch()
    for name in ("__pycache__/plugin.cpython-311.pyc", ".git/HEAD", "node_modules/x/index.js"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("x")
    for name in ("its.log", "a.sock", ".plugin.py.swp", "plugin.py~", "cache.db-wal", "4913"):
        (folder / name).write_text("x")
    assert digest(folder) == before


def test_large_files_count_by_their_size_and_date(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "FILE_BYTES_MAX", 2)
    before = digest(folder)
    assert digest(folder) == before
    (folder / "plugin.py").write_text("longer")
    assert digest(folder) != before


def test_of_too_many_files_the_first_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "FILES_MAX", 1)
    before = digest(folder)
    (folder / "lib" / "more.py").write_text("three")
    assert digest(folder) == before
    (folder / "plugin.py").write_text("three")
    assert digest(folder) != before


def test_changes_that_count_are_below_the_root_and_not_ignored() -> None:
    root = Path("/plugins")
    assert counts(Path("/plugins/acme/plugin.py"), root)
    assert counts(Path("/plugins/acme/disabled"), root)
    assert not counts(Path("/plugins/acme/__pycache__/plugin.pyc"), root)
    assert not counts(Path("/plugins/acme/.plugin.py.swp"), root)
    assert not counts(Path("/elsewhere/plugin.py"), root)


def test_no_folder_is_a_digest_too(tmp_path: Path) -> None:
    assert digest(tmp_path / "none") == digest(tmp_path / "neither")

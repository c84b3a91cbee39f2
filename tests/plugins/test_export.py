"""The SDK in a directory of its own: all of it, and nothing else of ours."""

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import loomproxy
from loomproxy.plugins.export import export_sdk

TREE = {
    "kit/__init__.py": "",
    "kit/sdk/__init__.py": "from kit.sdk.deep import words\nsaid = words.SAID",
    "kit/sdk/py.typed": "",
    "kit/sdk/notes.txt": "not needed",
    "kit/sdk/deep/__init__.py": "",
    "kit/sdk/deep/words.py": "SAID = 'hello'",
    "kit/sdk/loose/notes.py": "not a package, and not needed",
}


@pytest.fixture(params=["tree", "zip"])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package to export, from a tree or from within a zip."""
    if request.param == "zip":
        source = tmp_path / "source.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, text in TREE.items():
                archive.writestr(name, text)
    else:
        source = tmp_path / "source"
        for name, text in TREE.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
    monkeypatch.syspath_prepend(str(source))
    for name in [name for name in sys.modules if name.partition(".")[0] == "kit"]:
        monkeypatch.delitem(sys.modules, name)
    return "kit.sdk"


def files(top: Path) -> list[str]:
    """What is below it, links and half-written files too."""
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


def test_guest_can_import_the_package_and_nothing_else(kit: str, tmp_path: Path) -> None:
    into = tmp_path / "made" / "sdk"
    assert export_sdk(into, kit) == into
    export_sdk(into, kit)  # over what is there
    assert files(into) == [
        "kit/__init__.py",
        "kit/sdk/__init__.py",
        "kit/sdk/deep/__init__.py",
        "kit/sdk/deep/words.py",
        "kit/sdk/py.typed",
    ]
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import kit, kit.sdk; print(kit.__version__, kit.sdk.said)"],
        env={"PYTHONPATH": str(into)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [loomproxy.__version__, "hello"]


def test_another_user_may_read_it(kit: str, tmp_path: Path) -> None:
    into = export_sdk(tmp_path / "sdk", kit)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (into, *into.rglob("*"))}
    assert modes == {0o755, 0o644}


def test_package_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_kit"):
        export_sdk(tmp_path / "sdk", "no_such_kit.sdk")
    assert not (tmp_path / "sdk").exists()

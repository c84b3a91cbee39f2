"""What `plugins new` writes: whole folders that pass at once, and nothing over what was there."""

import asyncio
import filecmp
import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import loomproxy
from loomproxy.cli.plugins_local import new
from loomproxy.plugins.conformance.examine import examine
from loomproxy.plugins.conformance.target import target
from loomproxy.plugins.conformance.verdict import Mark
from loomproxy.plugins.scaffold.scaffold import ScaffoldError, scaffold

TREE = Path(loomproxy.__file__).parent.parent


def test_a_new_python_plugin_keeps_the_contract_at_once(tmp_path: Path) -> None:
    made = scaffold("acme", "python", tmp_path)
    subject = target(str(made.folder), dict(os.environ))
    verdicts = asyncio.run(examine(subject), debug=False)
    assert [f"{one.clause}: {one.detail}" for one in verdicts if not one.ok] == []
    assert sum(one.mark is Mark.PASS for one in verdicts) >= len(verdicts) - 3


@pytest.mark.parametrize("lang", ["node", "go"])
def test_our_examples_are_what_new_writes(tmp_path: Path, lang: str) -> None:
    made = scaffold(f"example-{lang}", lang, tmp_path)
    example = TREE / "examples" / "plugins" / f"example-{lang}"
    assert filecmp.cmpfiles(made.folder, example, made.files, shallow=False)[1:] == ([], [])


@pytest.mark.parametrize("lang", ["python", "node", "go"])
def test_no_placeholder_is_left_and_every_name_is_text(tmp_path: Path, lang: str) -> None:
    made = scaffold("007", lang, tmp_path / "deep" / "er")
    for name in made.files:
        assert "@NAME@" not in (made.folder / name).read_text()
    found = target(str(made.folder), {}).found
    assert found is not None
    assert found.manifest.metadata.provider_type == "007"


@pytest.mark.parametrize("name", ["Acme", "a_b", "-a", "", "../up", "a/b", "a" * 64, "a\n"])
def test_a_bad_name_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="provider_type"):
        scaffold(name, "python", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    mine = tmp_path / "acme" / "plugin.py"
    mine.write_text("mine")
    with pytest.raises(ScaffoldError, match="it is there already"):
        scaffold("acme", "python", tmp_path)
    assert mine.read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(ScaffoldError, match="cannot be written"):
        scaffold("acme", "python", tmp_path / "file" / "below")


def test_the_command_says_what_comes_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(new, ["acme", "--lang", "go", "--dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    build, test = done.output.splitlines()[-2:]
    assert "go build" in build
    assert test.strip() == f"loomproxy plugins test {tmp_path / 'acme'}"
    again = CliRunner().invoke(new, ["acme", "--dir", str(tmp_path)])
    assert (again.exit_code, "it is there already" in again.stderr) == (1, True)
    assert CliRunner().invoke(new, ["acme", "--lang", "cobol"]).exit_code == 2


def test_the_templates_are_in_the_zipapp() -> None:
    sources = tomllib.loads((TREE / "zipapp.spec").read_text())["sources"]
    laid = {path for pattern in sources for path in TREE.glob(pattern)}
    templates = set((TREE / "loomproxy/plugins/scaffold/templates").rglob("*.*"))
    assert templates
    assert templates <= laid

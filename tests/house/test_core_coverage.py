"""The coverage check sees what a module's own tests leave out, and tests that fail."""

from pathlib import Path

import coverage_core
import pytest

MODULE = '''"""A module with a branch."""


def sign(number: int) -> str:
    """Tell the sign."""
    text = ""
    if number < 0:
        text = "-"
    return text
'''

TEST = """
from loomproxy.core.sign import sign

def test_sign():
    {body}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house with one core module."""
    (tmp_path / "loomproxy" / "core").mkdir(parents=True)
    (tmp_path / "tests" / "core").mkdir(parents=True)
    for package in ("loomproxy", "loomproxy/core"):
        (tmp_path / package / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "loomproxy" / "core" / "sign.py").write_text(MODULE)
    monkeypatch.setattr(coverage_core, "ROOT", tmp_path)
    return tmp_path


def check(tree: Path, body: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the check over the tree with this test."""
    (tree / "tests" / "core" / "test_sign.py").write_text(TEST.format(body=body))
    code = coverage_core.main()
    return code, capsys.readouterr().err


def test_full_coverage_is_silent(tree: Path, capsys):
    assert check(tree, "assert [sign(1), sign(-1)] == ['', '-']", capsys) == (0, "")


def test_a_line_that_is_not_run_is_seen(tree: Path, capsys):
    code, said = check(tree, "assert sign(1) == ''", capsys)
    assert code == 1
    assert "loomproxy/core/sign.py:8 is never run by its own tests" in said


def test_a_branch_that_is_not_taken_is_seen(tree: Path, capsys):
    code, said = check(tree, "assert sign(-1) == '-'", capsys)
    assert code == 1
    assert said == "loomproxy/core/sign.py:7 never goes to line 9 in its own tests\n"


def test_tests_that_fail_are_seen(tree: Path, capsys):
    code, said = check(tree, "assert [sign(1), sign(-1)] == ['', '+']", capsys)
    assert code == 1
    assert "tests/core/test_sign.py failed" in said


def test_a_module_without_tests_is_seen(tree: Path, capsys):
    assert coverage_core.main() == 1
    assert "loomproxy/core/sign.py: has no test file" in capsys.readouterr().err

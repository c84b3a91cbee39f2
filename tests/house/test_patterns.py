"""No pattern of ours repeats a group possessively: CPython 3.11.0 to 3.11.4 match those wrongly.

Debian 12 has one of these. A group that fails half-way leaves what it had read as read, so that
`(?:ab)*+c` takes `ac`; one character or class at a time is repeated rightly everywhere.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[^}]*\})\+")


def possessive_groups(source: str) -> list[int]:
    """The lines of the patterns in a source that repeat a group possessively."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if "(" in text and POSSESSIVE_GROUP.search(CLASS.sub("x", text)):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        (rb"(?:ab)*+c", True),
        (rb"(?:[a)]b)++", True),
        (rb"(a){1,2}+", True),
        (rb"(?:a b)?+", True),
        (rb"(?:[ab]*+c)*", False),
        (rb"[!()*+,]x", False),
        (rb"(?:a\)++)", False),
        (rb"(?:a++)+", False),
    ],
)
def test_a_possessive_group_is_seen(pattern: bytes, seen: bool):
    assert bool(possessive_groups(f"x = {pattern!r}")) is seen


def test_we_have_none():
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "loomproxy").rglob("*.py")
        for line in possessive_groups(path.read_text())
        if "safe=" not in path.read_text().splitlines()[line - 1]
    }
    assert found == set()

"""What no pattern of ours does.

None repeats a group possessively: CPython 3.11.0 to 3.11.4 match those wrongly, and Debian 12 has
one of these. A group that fails half-way leaves what it had read as read, so that `(?:ab)*+c` takes
`ac`; one character or class at a time is repeated rightly everywhere.

None repeats lazily: what follows is tried behind each repetition, so that the time grows with the
square of what a peer sends when that is something repeated, too. A value of 60 kB of spaces once
kept a worker busy for eight seconds.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[^}]*\})\+")
LAZY = re.compile(r"(?:[])}*+.x]|\\[dDsSwW])(?:[*+]|\{[^}]*\})\?")


def lines_with(kind: re.Pattern[str], source: str) -> list[int]:
    """The lines of the patterns in a source that repeat something in this way."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if "(" in text and kind.search(CLASS.sub("x", text)):
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
    assert bool(lines_with(POSSESSIVE_GROUP, f"x = {pattern!r}")) is seen


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        (rb"(a):([^\r]*?)[ \t]*\r", True),
        (rb"(.+?)b", True),
        (rb"(\s{2,9}?)b", True),
        (rb"(?:ab)*?c", True),
        (rb"(?:[ab]*)?", False),
        (rb"(?:a+(?:b)?)", False),
        (rb"([*+]?)", False),
        (rb"(\.?)", False),
    ],
)
def test_a_lazy_repetition_is_seen(pattern: bytes, seen: bool):
    assert bool(lines_with(LAZY, f"x = {pattern!r}")) is seen


@pytest.mark.parametrize("kind", [POSSESSIVE_GROUP, LAZY], ids=["possessive", "lazy"])
def test_we_have_none(kind: re.Pattern[str]):
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "loomproxy").rglob("*.py")
        for line in lines_with(kind, path.read_text())
        if "safe=" not in path.read_text().splitlines()[line - 1]
    }
    assert found == set()

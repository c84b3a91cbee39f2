"""Two things that no pattern of ours does.

It does not repeat lazily: what stands behind is then tried anew at each byte, and where that may
begin with the same bytes a head full of spaces costs the square of its length.

And it does not repeat a group possessively: CPython 3.11.0 to 3.11.4 match those wrongly, and
Debian 12 has one of these. A group that fails half-way leaves what it had read as read, so that
`(?:ab)*+c` takes `ac`; one character or class at a time is repeated rightly everywhere.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
LAZY = re.compile(r"(?<!\\)[.x)][*+]\?|(?<!\\)\}\?")
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[^}]*\})\+")


def places(wanted: re.Pattern[str], source: str) -> list[int]:
    """The lines of the patterns in a source that hold what is wanted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if "(" in text and wanted.search(CLASS.sub("x", text)):
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
    assert bool(places(POSSESSIVE_GROUP, f"x = {pattern!r}")) is seen


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        (rb"([^a]*?)[ ]*", True),
        (rb"(a).+?b", True),
        (rb"(?:ab)*?", True),
        (rb"([ab]{1,3}?)", True),
        (rb"(a)(?:b)?", False),
        (rb"([*?])", False),
        (rb"(a\)*+\?)", False),
        (rb"([ab]*+)(?:x)?", False),
    ],
)
def test_a_lazy_repetition_is_seen(pattern: bytes, seen: bool):
    assert bool(places(LAZY, f"x = {pattern!r}")) is seen


@pytest.mark.parametrize("wanted", [POSSESSIVE_GROUP, LAZY], ids=["possessive group", "lazy"])
def test_we_have_none(wanted: re.Pattern[str]):
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / "loomproxy").rglob("*.py")
        for line in places(wanted, path.read_text())
        if "safe=" not in path.read_text().splitlines()[line - 1]
    }
    assert found == set()

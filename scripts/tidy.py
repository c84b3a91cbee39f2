"""Holds the tree to the rules of style that no ready-made checker knows.

Each rule is a function from the tree to the problems it sees, each with its place, what was seen,
and what to do: sizes of functions and files, tests of core that belong to their modules, modules
that somebody imports, words of the glossary, comments that promise later work, reasons beside every
silenced check, one title per document, and locks that name no registry.
"""

import ast
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from core_tests import core_modules, orphans, own_tests

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHON_PLACES: Final = ("loomproxy", "scripts", "loadtest", "tests")
DOCUMENT_PLACES: Final = ("docs", "loadtest", "conf", "deploy", "examples")
FUNCTION_LINES_MAX: Final = 60  # A screen: what is longer is not seen at once.
FILE_LINES_MAX: Final = 450  # A sitting: what is longer is not read at once.
REASON_WORDS_MIN: Final = 2  # One word after a silenced check is a name, not a reason.

Problems = Iterator[str]

_LATER: Final = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
_SILENCER: Final = re.compile(
    r"no"
    r"qa(?::\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?|type:\s*ig"
    r"nore(?:\[[^]]*\])?|pragma:\s*no (?:cover|branch)"
)
_NAME_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def python_files(root: Path) -> list[Path]:
    """Return our Python files, relative to the root."""
    return sorted(
        path.relative_to(root) for place in PYTHON_PLACES for path in (root / place).rglob("*.py")
    )


def documents(root: Path) -> list[Path]:
    """Return our documents, relative to the root."""
    found = [path for place in DOCUMENT_PLACES for path in (root / place).rglob("*.md")]
    return sorted(path.relative_to(root) for path in [*root.glob("*.md"), *found])


def sizes(root: Path) -> Problems:
    """A function fits on a screen, a file into a sitting."""
    for path in python_files(root):
        text = (root / path).read_text()
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{path}: has {lines} lines, {FILE_LINES_MAX} at most. Split it."
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield f"{path}:{node.lineno}: {node.name} has {lines} lines. Split it."


def tests_of_core(root: Path) -> Problems:
    """Every core module has tests of its own, and no test of core is nobody's."""
    for module in core_modules(root):
        if not own_tests(root, module):
            place = Path("tests", *module.parent.parts[1:], f"test_{module.name}")
            yield f"{module}: has no test file. Write {place}."
    for test in orphans(root):
        yield f"{test}: is no module's own test. Name it after the module that it tests."


def imported(root: Path) -> Problems:
    """Every module is imported by another one, or is where a program starts."""
    names = {}
    for path in sorted((root / "loomproxy").rglob("*.py")):
        relative = path.relative_to(root).with_suffix("")
        if relative.name not in {"__init__", "__main__"}:
            names[".".join(relative.parts)] = path.relative_to(root)
    used = {name for path in (root / "loomproxy").rglob("*.py") for name in _imports(path)}
    for name, path in names.items():
        if name not in used:
            yield f"{path}: no module imports it. Use it or remove it."


def _imports(path: Path) -> Iterator[str]:
    """Return the names that a file imports, those inside strings for importlib among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("loomproxy."):
            yield str(node.value).partition(":")[0]


def words(root: Path) -> Problems:
    """What has a word in the glossary is not called by another one."""
    instead = tomllib.loads((ROOT / "scripts" / "words.toml").read_text())
    for path in python_files(root):
        for name, line in _own_names(ast.parse((root / path).read_text())):
            for part in _NAME_PART.findall(name):
                if part.lower() in instead:
                    yield f"{path}:{line}: {name} says {part!r}. Say {instead[part.lower()]}."


def _own_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Return the names that a file gives, with their lines; what it merely uses others named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def comments(root: Path) -> Problems:
    """A comment promises no later work, and one that silences a check says why."""
    for path in python_files(root):
        with (root / path).open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT:
                    yield from _comment(f"{path}:{token.start[0]}", token.string)


def _comment(place: str, text: str) -> Problems:
    """Judge one comment."""
    later = _LATER.search(text)
    if later:
        yield f"{place}: {later[0]} promises later work. Do it, or say what holds today."
    silencer = _SILENCER.search(text)
    if silencer and len(re.findall(r"\w+", _SILENCER.sub("", text))) < REASON_WORDS_MIN:
        yield f"{place}: {silencer[0]!r} has no reason. Say why, in the same comment."


def titles(root: Path) -> Problems:
    """A document begins with its one title."""
    for path in documents(root):
        text = _FENCE.sub("", (root / path).read_text())
        found = len(re.findall(r"^# \S", text, re.MULTILINE))
        if found != 1 or not text.startswith("# "):
            yield f"{path}: has {found} titles. Begin it with one line `# …`, and have no other."


def locks(root: Path) -> Problems:
    """A lock names packages and hashes, never the registry that it was made from."""
    for path in sorted((root / "requirements").glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if "://" in line or line.startswith("-"):
                yield f"{path.relative_to(root)}:{number}: names a place. Run scripts/lock."


RULES: Final[tuple[Callable[[Path], Problems], ...]] = (
    sizes,
    tests_of_core,
    imported,
    words,
    comments,
    titles,
    locks,
)


def main() -> int:
    """Apply all rules; print all problems; 0 when there is none."""
    problems = [problem for rule in RULES for problem in rule(ROOT)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

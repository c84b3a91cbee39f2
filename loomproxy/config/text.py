"""From text to a tree of plain values: YAML, JSON and TOML, each as strict as the others.

A tree is made of dicts with text keys, lists, text, numbers, booleans and None. No key may stand
twice in one mapping; depth and size are bounded, aliases counted as often as they are used, so that
a few lines cannot grow into gigabytes.

YAML is read as its version 1.2 does (core schema, §10.3.2): `off`, `yes` and `0660` without quotes
are text, text and a number, not what version 1.1 made of them. Tags are refused.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Final, Protocol

import yaml

from loomproxy.config.problem import Problem
from loomproxy.config.walk import shown

Tree = dict[object, object]


class _Mark(Protocol):
    """A place in a text, counted from 0, as either of the two loaders says it."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


TEXT_CHARS_MAX: Final = 4 << 20
"""Of a configuration. Thousands of routes take less than a tenth of it."""

NODES_MAX: Final = 200_000
"""Values in a configuration, aliases counted as often as they are used."""

DEPTH_MAX: Final = 32
"""Mappings and lists within one another; ours need less than ten."""

DIGITS_MAX: Final = 18
"""Of a number in YAML; one with more is taken for text."""

_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEAN: Final = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_WHOLE: Final = re.compile(rf"[-+]?[0-9]{{1,{DIGITS_MAX}}}")
_REAL: Final = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
)
# The time that tomllib takes for one key grows with the square of its parts.
_DEEP_KEY: Final = re.compile(
    r"(?:^|[\[{,])[ \t]*"
    rf"""(?:(?:[0-9A-Za-z_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEPTH_MAX}}}""",
    re.MULTILINE,
)
_PLAIN_TAGS: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))
_MERGE: Final = "<<"

# The C loader is ten times as fast; it is not in every build of PyYAML.
_LOADER: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class UnreadableError(ValueError):
    """The text as a whole cannot be read; carries the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def tree_of(
    text: str,
    file: str,
    problems: list[Problem],
    *,
    keys: tuple[str, ...] = ("listeners", "pools", "routes"),
) -> Tree:
    """The tree of a text in the format that the name of `file` ends with.

    Problems that leave something to go on with are added to `problems`; others raise
    UnreadableError. `keys` are some that it may begin with, to be shown.
    """
    suffix = PurePath(file).suffix.lower()
    read = _READERS.get(suffix)
    if read is None:
        expected = f"a name that ends in {', '.join(_READERS)}"
        do = "Name the file after its format."
        raise _unreadable(file, "the name does not say the format", expected, do)
    if len(text) > TEXT_CHARS_MAX:
        seen = f"it has more than {TEXT_CHARS_MAX} characters"
        raise _unreadable(file, seen, "a smaller file", "Use wildcards and prefixes.")
    try:
        tree = read(text, file, problems)
    except RecursionError:
        seen = "it is nested too deeply"
        expected = f"at most {DEPTH_MAX} levels"
        raise _unreadable(file, seen, expected, "Look for a stray bracket.") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        expected = f"keys such as {', '.join(keys)}"
        raise _unreadable(file, "it is not a mapping", expected, f"Begin with `{keys[0]}:`.")
    return tree


def _unreadable(file: str, seen: str, expected: str, do: str) -> UnreadableError:
    return UnreadableError(Problem(file, seen, expected, do))


def _twice(where: str, name: str) -> Problem:
    return Problem(
        where, f"the key {shown(name)} stands here again", "each key once", "Take one of them out."
    )


def _json(text: str, file: str, problems: list[Problem]) -> object:
    def pairs(items: list[tuple[str, object]]) -> Tree:
        tree: Tree = {}
        for name, value in items:
            if name in tree:
                problems.append(_twice(file, name))
            tree.setdefault(name, value)
        return tree

    try:
        return _bounded(json.loads(text, object_pairs_hook=pairs), file)
    except json.JSONDecodeError as error:
        where = f"{file}:{error.lineno}:{error.colno}"
        raise _unreadable(where, _claim(error.msg), "valid JSON", "Mend it there.") from None
    except UnreadableError:
        raise
    except ValueError:
        raise _unreadable(file, "a number is too long", "shorter ones", "Mend it.") from None


def _toml(text: str, file: str, _problems: list[Problem]) -> object:
    if _DEEP_KEY.search(text):
        raise _too_deep(file)
    try:
        return _bounded(tomllib.loads(text), file)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        found = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        where = f"{file}:{found[1]}:{found[2]}" if found else file
        claim = _claim(message or str(error))
        raise _unreadable(where, claim, "valid TOML", "Mend it there.") from None
    except UnreadableError:
        raise
    except ValueError:
        raise _unreadable(file, "a value is out of range", "a smaller one", "Mend it.") from None


def _bounded(tree: object, file: str) -> object:
    if is_too_deep(tree):
        raise _too_deep(file)
    return tree


def is_too_deep(tree: object) -> bool:
    """Whether a tree is nested more deeply than any of ours."""
    level: Iterable[object] = [tree]
    for _ in range(DEPTH_MAX + 1):
        level = [item for value in level for item in _items(value)]
        if not level:
            return False
    return True


def _too_deep(where: str) -> UnreadableError:
    seen = f"it is nested more than {DEPTH_MAX} levels deep"
    return _unreadable(where, seen, "fewer levels", "Look for a stray bracket.")


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _yaml(text: str, file: str, problems: list[Problem]) -> object:
    try:
        _check_depth(text, file)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _place(file, mark) if mark else file
        claim = _claim(error.problem or "it is not valid")
        do = "Mend it there, or in the line above."
        raise _unreadable(where, claim, "valid YAML", do) from None
    except yaml.YAMLError as error:
        claim = _claim(str(error).splitlines()[0] if str(error) else "it is not valid")
        raise _unreadable(file, claim, "valid YAML", "Mend it.") from None
    except UnreadableError:
        raise
    except ValueError:
        # The C loader refuses lone surrogates in its own words.
        raise _unreadable(file, "it is not Unicode text", "UTF-8", "Save it as UTF-8.") from None
    return None if node is None else _Yaml(file, problems).value(node, 0)


def _check_depth(text: str, file: str) -> None:
    """Refuse deep nesting before anything recursive meets it: the C loader overflows its stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            assert event.start_mark is not None, "an event comes from a place"
            raise _too_deep(_place(file, event.start_mark))


class _Yaml:
    """From the nodes of one YAML text to values."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        self.nodes = 0

    def value(self, node: yaml.Node, depth: int) -> object:
        """The value of a node and all below it."""
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            seen = "it is nested too deeply, or holds too many values"
            expected = f"at most {DEPTH_MAX} levels and {NODES_MAX} values"
            where = _place(self.file, node.start_mark)
            raise _unreadable(where, seen, expected, "Look for aliases that hold one another.")
        if node.tag not in _PLAIN_TAGS:
            seen = f"it has the tag {shown(str(node.tag))}"
            self.problems.append(
                Problem(_place(self.file, node.start_mark), seen, "no tags", "Take it out.")
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        assert isinstance(node, yaml.ScalarNode), "YAML has three kinds of nodes"
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Tree:
        tree: Tree = {}
        merged: Tree = {}
        for key, item in node.value:
            where = _place(self.file, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(
                    Problem(where, "a key is a mapping or a list", "text", "Put it in quotes.")
                )
                continue
            value = self.value(item, depth + 1)
            name = str(key.value)
            if name == _MERGE and not key.style:
                self._merge(merged, value, where)
            elif name in tree:
                self.problems.append(_twice(where, name))
            else:
                tree[name] = value
        return {**merged, **tree}

    def _merge(self, merged: Tree, value: object, where: str) -> None:
        """`<<: *other`: what the other says, where this mapping says nothing."""
        for other in value if isinstance(value, list) else [value]:
            if not isinstance(other, dict):
                do = "Write `<<: *anchor`, or take it out."
                self.problems.append(Problem(where, "<< names no mapping", "an alias", do))
                continue
            for name, item in other.items():
                merged.setdefault(name, item)


def _scalar(node: yaml.ScalarNode) -> object:
    text = str(node.value)
    if node.style:  # In quotes or a block: text, whatever it looks like.
        return text
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _REAL.fullmatch(text) else text


def _place(file: str, mark: _Mark) -> str:
    return f"{file}:{mark.line + 1}:{mark.column + 1}"


def _claim(message: str) -> str:
    """A parser's message as a claim: on one line, short, without its full stop."""
    text = " ".join(message.split())[:200].rstrip(".")
    return text[:1].lower() + text[1:] if text else "it is not valid"


_READERS: Final[dict[str, Callable[[str, str, list[Problem]], object]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
    ".toml": _toml,
}

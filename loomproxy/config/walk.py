"""From a tree of plain values to the structs of the model, and everything wrong on the way.

The walk never stops at a problem: it notes it, puts a blank of the right type in the place, and
goes on, so that one run tells all. Lists keep their length, so that every path stays true. Whoever
gets a struct with problems uses it for further checks at most.
"""

import difflib
import math
import re
from collections.abc import Callable
from typing import Final, TypeVar

from loomproxy.config.key import Base
from loomproxy.config.kinds import KINDS
from loomproxy.config.problem import Problem
from loomproxy.config.reference import Resolved, Sources
from loomproxy.config.shape import (
    Anything,
    Group,
    Key,
    Leaf,
    Many,
    Maybe,
    Shape,
    Table,
    Word,
    in_words,
    limits_in_words,
)
from loomproxy.core.units import duration_s, size_bytes

SHOWN_CHARS_MAX: Final = 60
"""Of a value, in a problem."""

_SHOWN_BITS_MAX: Final = 128

PROBLEMS_MAX: Final = 200
"""More are not told apart: nobody reads them, and a hostile file must not fill the memory."""

_BARE_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{SHOWN_CHARS_MAX}}}")

_COUSINS: Final = {
    "algorithm": "balance",
    "backend": "pool",
    "backends": "pools",
    "bind": "address",
    "frontends": "listeners",
    "health_check": "probe",
    "lb_policy": "balance",
    "listen": "listeners",
    "locations": "routes",
    "prefix": "path_prefix",
    "regex": "path_regex",
    "rules": "routes",
    "servers": "endpoints",
    "strategy": "balance",
    "targets": "endpoints",
    "upstream": "pool",
    "upstreams": "pools",
    "url": "address",
}
"""What other proxies call it."""

_StructT = TypeVar("_StructT", bound=Base)


class Unreadable:
    """A value that is wrong and was told of already: a blank, without another problem."""


UNREADABLE: Final = Unreadable()
ANYTHING: Final = Anything()


class Walk:
    """One walk over one tree."""

    def __init__(self, sources: Sources, *, passes_over: bool = False) -> None:
        """`passes_over`: keys that are not known are no problem, but not looked at either."""
        self.problems: list[Problem] = []
        self._sources = sources
        self._passes_over = passes_over

    def note(self, path: str, seen: str, expected: str, do: str) -> None:
        """Remember a problem."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(path or "the file", seen, expected, do))

    def struct(self, struct: type[_StructT], tree: dict[object, object]) -> _StructT:
        """A struct of the model from the keys of `tree` that are its own; others are left alone."""
        return self._built(struct, tree, "")

    def refuse_unknown(self, tree: dict[object, object], keys: list[Key], path: str) -> None:
        """Note every key of `tree` that is none of `keys`."""
        known = {key.name for key in keys}
        for name in tree:
            if not (isinstance(name, str) and name in known):
                self._unknown(name, known, path)

    def _unknown(self, name: object, known: set[str], path: str) -> None:
        text = str(name)
        near = difflib.get_close_matches(text[:SHOWN_CHARS_MAX], sorted(known), n=1)
        cousin = _COUSINS.get(text)
        if not near and cousin in known:
            near = [cousin]
        do = f"Did you mean {near[0]}?" if near else "Take it out."
        expected = "one of " + ", ".join(sorted(known)) if known else "no keys"
        self.note(joined(path, name), "this key is unknown", expected, do)

    def read(self, shape: Shape, value: object, path: str) -> object:
        """The value that `shape` has at `path`; its blank when that cannot be read."""
        if isinstance(value, str):
            value = self._resolved(value, path)
        if isinstance(value, Unreadable):
            return blank(shape)
        match shape:
            case Leaf():
                return self._leaf(shape, value, path)
            case Many():
                return self._many(shape, value, path)
            case Table():
                return self._table(shape, value, path)
            case Group():
                return self._group(shape, value, path)
            case Maybe() | Anything():
                return self._loosely(shape, value, path)

    def _loosely(self, shape: Maybe | Anything, value: object, path: str) -> object:
        if isinstance(shape, Anything):
            return self._anything(value, path)
        return None if value is None else self.read(shape.item, value, path)

    def _anything(self, value: object, path: str) -> object:
        """A value as it is, but for its references; its depth was bounded by the reader."""
        if isinstance(value, list):
            return [
                self.read(ANYTHING, item, f"{path}[{index}]") for index, item in enumerate(value)
            ]
        if isinstance(value, dict):
            return {
                str(name): self.read(ANYTHING, item, joined(path, name))
                for name, item in value.items()
            }
        return value

    def _resolved(self, text: str, path: str) -> str | Unreadable:
        if isinstance(text, Resolved):
            return text
        try:
            resolved = self._sources.resolve(text)
            resolved.encode()
        except UnicodeEncodeError:
            self.note(path, "the text holds half a surrogate pair", "Unicode text", "Mend it.")
            return UNREADABLE
        except ValueError as error:
            self.note(
                path,
                f"{shown(text)} {error}",
                "${NAME}, ${NAME:-default} or ${file:/path}",
                "Set it, give a default, or write $${ for a literal ${.",
            )
            return UNREADABLE
        return resolved

    def _many(self, shape: Many, value: object, path: str) -> tuple[object, ...]:
        if isinstance(value, list):
            return tuple(
                self.read(shape.item, item, f"{path}[{index}]") for index, item in enumerate(value)
            )
        if shape.one_or_many and value is not None and not isinstance(value, dict):
            return (self.read(shape.item, value, path),)
        self.note(path, f"{shown(value)} is not a list", "a list", "Begin each item with a dash.")
        return ()

    def _table(self, shape: Table, value: object, path: str) -> dict[str, object]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.note(
                path, f"{shown(value)} is not a mapping", "names with values", "Write `name: …`."
            )
            return {}
        result = {}
        for name, item in value.items():
            where = joined(path, name)
            text = name if isinstance(name, str) else str(name)
            self._leaf(shape.name, text, where)
            result[text] = self.read(shape.item, item, where)
        return result

    def _group(self, shape: Group, value: object, path: str) -> Base:
        if isinstance(value, str) and shape.shorthand:
            value = {shape.shorthand: value}
        tree: dict[object, object] = {}
        if isinstance(value, dict):
            tree = value
        elif value is not None:
            known = ", ".join(key.name for key in shape.keys)
            self.note(
                path, f"{shown(value)} is not a mapping", f"the keys {known}", "Write `key: …`."
            )
            tree = {key.name: UNREADABLE for key in shape.keys if key.required}
        if not self._passes_over:
            self.refuse_unknown(tree, list(shape.keys), path)
        return self._built(shape.struct, tree, path)

    def _built(self, struct: type[_StructT], tree: dict[object, object], path: str) -> _StructT:
        values: dict[str, object] = {}
        for key in Group(struct).keys:
            where = joined(path, key.name)
            if key.name in tree:
                values[key.attribute] = self._given(key, tree[key.name], where)
            elif key.required:
                self.note(where, "it is missing", "a value", f"Write it: {key.description}")
                values[key.attribute] = blank(key.shape)
        return struct(**values)

    def _given(self, key: Key, value: object, path: str) -> object:
        """The value of a key that is there; a key without a value (`pools:`) is its default."""
        if value is None and not key.required:
            return key.default
        return self.read(key.shape, value, path)

    def _leaf(self, leaf: Leaf, value: object, path: str) -> object:
        try:
            return _leaf_value(leaf, value)
        except _Wrong as wrong:
            private = leaf.kind in KINDS and KINDS[leaf.kind].private
            claim = wrong.claim
            if isinstance(value, Resolved):
                claim = claim.partition(" (")[0]  # What follows may repeat a secret.
            seen = f"{shown(value, private=private)} {claim}"
            self.note(path, seen, wrong.expected, leaf.advice or wrong.do)
            return blank(leaf)


class _Wrong(Exception):
    def __init__(self, claim: str, expected: str, do: str) -> None:
        super().__init__(claim)
        self.claim, self.expected, self.do = claim, expected, do


def _leaf_value(leaf: Leaf, value: object) -> object:
    word = _word(leaf.words, value)
    if word is not None:
        return word
    if not leaf.kind:
        words = " or ".join(str(word) for word in leaf.words)
        raise _Wrong("is none of the words", words, "Write one of them.")
    if leaf.kind == "flag":
        return _flag(value)
    if leaf.kind in _NUMBERS:
        return _number(leaf, value)
    return _text(leaf, value)


def _word(words: tuple[Word, ...], value: object) -> Word | None:
    """The word that `value` is. Text from a reference may stand for a number; True is not 1."""
    for word in words:
        if type(value) is type(word) and value == word:
            return word
        if isinstance(value, Resolved) and value == str(word):
            return word
    return None


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, Resolved) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _Wrong("is neither true nor false", "true or false", "Write true or false.")


def _text(leaf: Leaf, value: object) -> str:
    kind = KINDS[leaf.kind]
    if not isinstance(value, str):
        raise _Wrong("is not text", kind.expected, 'Put it in quotes, as in "0660".')
    try:
        return str(kind.read(str(value)))
    except ValueError as error:
        raise _Wrong(str(error), kind.expected, kind.do) from None


def _number(leaf: Leaf, value: object) -> float:
    expected = limits_in_words(leaf)
    if leaf.words:
        expected = f"{expected}, or {' or '.join(str(word) for word in leaf.words)}"
    try:
        number = _NUMBERS[leaf.kind](value)
    except (ValueError, OverflowError):
        claim = f"is no {_NOUNS.get(leaf.kind, leaf.kind)}"
        raise _Wrong(claim, expected, _EXAMPLES[leaf.kind]) from None
    if number < leaf.low:
        claim = f"is below {in_words(leaf.kind, leaf.low)}"
        raise _Wrong(claim, expected, "Raise it.")
    if number > leaf.high:
        claim = f"is above {in_words(leaf.kind, leaf.high)}"
        raise _Wrong(claim, expected, "Lower it.")
    return number


def _whole(value: object) -> int:
    if isinstance(value, Resolved):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004 -- a wrong value of a file, not of a caller
    return value


def _real(value: object) -> float:
    if isinstance(value, Resolved):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise ValueError
    return float(value)


def _with_unit(
    value: object, read: Callable[[str], float], plain: Callable[[object], float]
) -> float:
    """Text with a unit, or a number without one."""
    if isinstance(value, str):
        try:
            return read(str(value))
        except ValueError:
            pass  # A reference may stand for a plain number.
    return plain(value)


def _size(value: object) -> float:
    return _with_unit(value, size_bytes, _whole)


def _duration(value: object) -> float:
    return _with_unit(value, duration_s, _real)


_NUMBERS: Final[dict[str, Callable[[object], float]]] = {
    "count": _whole,
    "number": _real,
    "size": _size,
    "duration": _duration,
}
_NOUNS: Final = {"count": "whole number"}
_EXAMPLES: Final = {
    "count": "Write it in digits, without quotes.",
    "number": "Write it in digits, without quotes.",
    "size": "Write 64KiB, 10MB, 1GiB or a number of bytes.",
    "duration": "Write 250ms, 5s, 2m, 1h or a number of seconds.",
}


def blank(shape: Shape) -> object:
    """What stands in a place that could not be read, so that the walk can go on."""
    match shape:
        case Leaf():
            return _blank_leaf(shape)
        case Many():
            return ()
        case Table():
            return {}
        case Maybe() | Anything():
            return None
        case Group():
            return shape.struct(
                **{key.attribute: blank(key.shape) for key in shape.keys if key.required}
            )


def _blank_leaf(leaf: Leaf) -> object:
    if leaf.words:
        return leaf.words[0]
    if leaf.kind == "flag":
        return False
    return leaf.low if leaf.kind in _NUMBERS else ""


def joined(path: str, name: object) -> str:
    """`path.name`, with quotes where the name needs them, and cut where it is long."""
    text = str(name)
    if not _BARE_NAME.fullmatch(text):
        text = shown(text)
    return f"{path}.{text}" if path else text


def shown(value: object, *, private: bool = False) -> str:
    """A value as a problem may show it: short, on one line, never a secret."""
    if isinstance(value, str):
        return _shown_text(value, private=private)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    huge = isinstance(value, int) and value.bit_length() > _SHOWN_BITS_MAX
    if huge or (private and not isinstance(value, bool)):
        # Python refuses to write very long ones out; and digits without quotes may be a secret.
        return "a huge number" if huge else "the number"
    return _cut(str(value).lower() if isinstance(value, bool) else str(value))


def _shown_text(value: str, *, private: bool) -> str:
    if isinstance(value, Resolved):
        return f"what {shown(value.origin)} stands for"
    if private or ("://" in value and "@" in value):
        return "the text"  # A URL may hold a password.
    text = _cut(value)
    if not text.isprintable():
        return ascii(text)
    return f'"{text}"' if not text or " " in text else text


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"

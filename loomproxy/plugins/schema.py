"""A plugin's configuration, held to the `config_schema` of its metadata.

`configure` takes what the operator wrote and gives back what POST /initialize delivers: every value
of its field's type, defaults filled in; or everything that is wrong. `check` holds a schema itself
to the same rules, so that a default which its own field would refuse is found when the manifest is
read, not when somebody leaves a key out.

What values are:

* *string*: text; lengths are counted in code points, and `""` is a value like any other.
* *int*: a whole number of at most 64 bits. `3.0` is none, nor is `true`.
* *float*: a finite number; a whole one will do. `true` is none.
* *bool*: `true` or `false`.

Text that a reference stands for (`${ACME_TIMEOUT}`) is read as its field's type, for a variable of
the environment can be nothing but text. Other text never is. A key whose value is null is a key
that was not written.

Patterns run on at most PATTERN_TEXT_CHARS_MAX characters. One can still be written so that it
takes for ever; it comes from a manifest, and whoever installs a plugin lets its author run whole
programs. Patterns that come over the wire are never run.

No problem repeats a value that is `sensitive`, or that a reference stands for.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from loomproxy.config.problem import Problem, Problems
from loomproxy.config.reference import Resolved
from loomproxy.config.walk import PROBLEMS_MAX, SHOWN_CHARS_MAX, joined, shown
from loomproxy.plugins.contract import ConfigField, Validation

MASK: Final = "***"

FIELDS_MAX: Final = 256
"""Keys of one plugin's configuration; the largest that we know of has about forty."""

ENUM_MAX: Final = 1024
"""Values to choose from."""

STRING_CHARS_MAX: Final = 64 << 10
"""Of one value: as much as a file that a reference names may hold."""

PATTERN_TEXT_CHARS_MAX: Final = 8192
"""Of a value that a pattern is held against."""

_SHOWN_MAX: Final = 20
"""Names, or values to choose from, in one problem."""

_ABOUT_CHARS_MAX: Final = 200
_INT_BITS_MAX: Final = 63

_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,19}")
_REAL: Final = re.compile(
    r"[-+]?(?:[0-9]{1,64}(?:\.[0-9]{0,64})?|\.[0-9]{1,64})(?:[eE][-+]?[0-9]{1,4})?"
)

Value = str | int | float | bool


class _Wrong(Exception):
    """What is wrong with a value; the claim never repeats it."""

    def __init__(self, claim: str, expected: str, do: str) -> None:
        super().__init__(claim)
        self.claim, self.expected, self.do = claim, expected, do


def configure(
    schema: tuple[ConfigField, ...], given: Mapping[str, object], path: str
) -> dict[str, object] | Problems:
    """What a plugin is told, in the order of its schema; or all that is wrong with `given`.

    `path` is where `given` stands, as in `plugins.config.acme`. A field that is not required, not
    given and without a default is left out. Text that is required and empty is missing: that is
    what a variable which nobody set stands for.
    """
    problems = _unknown(schema, given, path)
    config: dict[str, object] = {}
    for field in schema:
        where = joined(path, field.name)
        value = given.get(field.name)
        if field.required and value in (None, ""):
            do = f"Write it{_about(field)}"
            seen = "it is missing" if value is None else "it is empty"
            problems.append(Problem(where, seen, _NOUNS[field.type], do))
            continue
        value = field.default if value is None else value
        if value is None:
            continue
        typed, wrong = _read(field, value, where)
        problems += wrong
        config[field.name] = typed
    return Problems(tuple(problems[:PROBLEMS_MAX])) if problems else config


def masked(schema: tuple[ConfigField, ...], config: Mapping[str, object]) -> dict[str, object]:
    """A configuration as operators may see it: sensitive values, and all that is unknown, as `***`.

    A value that a reference stands for is shown as the reference.
    """
    plain = {field.name for field in schema if not field.sensitive}
    return {name: _masked(value) if name in plain else MASK for name, value in config.items()}


def _masked(value: object) -> object:
    if isinstance(value, Resolved):
        return value.origin
    if isinstance(value, str) and "://" in value and "@" in value:
        return MASK  # A URL may hold a password.
    return value if value is None or isinstance(value, str | int | float) else MASK


def check(schema: tuple[ConfigField, ...], path: str) -> list[Problem]:
    """What is wrong with a schema at `path`, beyond what one key can say."""
    problems: list[Problem] = []
    if len(schema) > FIELDS_MAX:
        seen, expected = f"it has {len(schema)} fields", f"at most {FIELDS_MAX}"
        problems.append(Problem(path, seen, expected, "Make it shorter."))
    names: set[str] = set()
    for index, field in enumerate(schema[:FIELDS_MAX]):
        where = f"{path}[{index}]"
        if field.name in names:
            seen = f"the field {shown(field.name)} stands here again"
            problems.append(
                Problem(f"{where}.name", seen, "each field once", "Take one of them out.")
            )
        names.add(field.name)
        problems += _check_field(field, where)
    return problems


def _check_field(field: ConfigField, where: str) -> list[Problem]:
    problems = _check_rules(field, field.validation or Validation(), f"{where}.validation")
    if not problems and field.default is not None:
        _, problems = _read(field, field.default, f"{where}.default")
    return problems


def _check_rules(field: ConfigField, rules: Validation, where: str) -> list[Problem]:
    problems = [
        Problem(
            joined(where, rule),
            f"it says nothing about a value of type {field.type}",
            f"it where the type is {' or '.join(types)}",
            "Take it out, or change the type.",
        )
        for rule, types in _RULES.items()
        if field.type not in types and getattr(rules, rule) is not None
    ]
    for low, high in (("min_length", "max_length"), ("min", "max")):
        least, most = getattr(rules, low), getattr(rules, high)
        if least is not None and most is not None and least > most:
            seen = f"{shown(least)} is above the {high}, so that no value is ever good"
            expected = f"at most {shown(most)}"
            problems.append(Problem(joined(where, low), seen, expected, "Exchange the two."))
    if rules.enum is not None:
        problems += _check_enum(field, rules.enum, f"{where}.enum")
    return problems


def _check_enum(field: ConfigField, enum: tuple[object, ...], where: str) -> list[Problem]:
    if not 0 < len(enum) <= ENUM_MAX:
        seen = f"it has {len(enum)} values"
        expected = f"1 to {ENUM_MAX} values"
        return [Problem(where, seen, expected, "Take it out, or say what may be chosen.")]
    problems = []
    for index, item in enumerate(enum):
        if field.type == "int" and isinstance(item, float) and item.is_integer():
            continue  # Values are compared, and 1.0 is 1.
        try:
            _TYPES[field.type](item)
        except _Wrong as wrong:
            place = f"{where}[{index}]"
            seen = f"{_shown(field, item)} {wrong.claim}"
            problems.append(Problem(place, seen, wrong.expected, wrong.do))
    return problems


def _unknown(
    schema: tuple[ConfigField, ...], given: Mapping[str, object], path: str
) -> list[Problem]:
    known = sorted(field.name for field in schema)
    expected = _one_of(known) if known else "no keys: the plugin takes none"
    problems = []
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name)[:SHOWN_CHARS_MAX], known, n=1)
            do = f"Did you mean {near[0]}?" if near else "Take it out."
            problems.append(Problem(joined(path, name), "this key is unknown", expected, do))
        if len(problems) == PROBLEMS_MAX:
            break
    return problems


def _about(field: ConfigField) -> str:
    about = field.description.rstrip(".")
    if len(about) > _ABOUT_CHARS_MAX:
        about = about[:_ABOUT_CHARS_MAX] + "…"
    return f": {about}." if about else "."


def _read(field: ConfigField, value: object, where: str) -> tuple[object, list[Problem]]:
    """The value as its field's type, and every rule that it breaks."""
    try:
        typed = _TYPES[field.type](value)
    except _Wrong as wrong:
        seen = f"{_shown(field, value)} {wrong.claim}"
        return None, [Problem(where, seen, wrong.expected, wrong.do)]
    seen = _shown(field, value)
    return typed, [
        Problem(where, f"{seen} {wrong.claim}", wrong.expected, wrong.do)
        for wrong in _broken(field, typed)
    ]


def _shown(field: ConfigField, value: object) -> str:
    return "the value" if field.sensitive else shown(value)


def _broken(field: ConfigField, value: Value) -> list[_Wrong]:
    """The rules that a value of the right type breaks."""
    rules = field.validation or Validation()
    wrong = []
    if isinstance(value, str):
        wrong += _of_text(rules, value)
    elif not isinstance(value, bool):
        wrong += _of_number(rules, value)
    if rules.enum is not None and not any(_same(field, value, item) for item in rules.enum):
        expected = _one_of(() if field.sensitive else rules.enum)
        wrong.append(_Wrong("is none of the values to choose from", expected, "Write one of them."))
    return wrong


def _of_text(rules: Validation, text: str) -> list[_Wrong]:
    wrong = []
    low, high = rules.min_length, rules.max_length
    if low is not None and len(text) < low:
        wrong.append(_Wrong("is too short", f"at least {low} characters", "Make it longer."))
    if high is not None and len(text) > high:
        wrong.append(_Wrong("is too long", f"at most {high} characters", "Make it shorter."))
    if rules.pattern is None:
        return wrong
    if len(text) > PATTERN_TEXT_CHARS_MAX:
        expected = f"at most {PATTERN_TEXT_CHARS_MAX} characters, as for all with a pattern"
        wrong.append(_Wrong("is too long", expected, "Make it shorter."))
    elif not re.fullmatch(rules.pattern, text):
        expected = f"text that wholly matches {rules.pattern}"
        wrong.append(_Wrong("does not match the pattern", expected, "Mend it."))
    return wrong


def _of_number(rules: Validation, value: float) -> list[_Wrong]:
    wrong = []
    if rules.min is not None and value < rules.min:
        wrong.append(_Wrong("is too small", f"at least {rules.min:.15g}", "Raise it."))
    if rules.max is not None and value > rules.max:
        wrong.append(_Wrong("is too large", f"at most {rules.max:.15g}", "Lower it."))
    return wrong


def _one_of(items: Sequence[object]) -> str:
    """Some things to choose from, as a noun phrase."""
    if not items:
        return "a value that its enum names"
    more = ", …" if len(items) > _SHOWN_MAX else ""
    return f"one of {', '.join(shown(item) for item in items[:_SHOWN_MAX])}{more}"


def _same(field: ConfigField, value: Value, item: object) -> bool:
    """By value: 1 is 1.0, but True is not 1, and text is never a number."""
    if isinstance(item, Resolved):
        try:
            item = _TYPES[field.type](item)
        except _Wrong:
            return False
    if isinstance(value, bool) or isinstance(item, bool):
        return value is item
    return value == item


def _string(value: object) -> Value:
    noun = _NOUNS["string"]
    if not isinstance(value, str):
        raise _Wrong("is not text", noun, 'Put it in quotes, as in "5".')
    if len(value) > STRING_CHARS_MAX:
        raise _Wrong("is too long", f"at most {STRING_CHARS_MAX} characters", "Make it shorter.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("holds half a surrogate pair", noun, "Mend it.") from None
    return str(value)


def _int(value: object) -> Value:
    noun = _NOUNS["int"]
    if isinstance(value, Resolved) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("is no whole number", noun, "Write it in digits, without quotes.")
    if value.bit_length() > _INT_BITS_MAX:
        raise _Wrong("has more than 64 bits", noun, "Write a smaller one.")
    return value


def _float(value: object) -> Value:
    wrong = _Wrong("is no number", _NOUNS["float"], "Write it in digits, without quotes.")
    if isinstance(value, Resolved) and _REAL.fullmatch(value):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except OverflowError:
        raise wrong from None
    if not math.isfinite(number):
        raise wrong
    return number


def _bool(value: object) -> Value:
    if isinstance(value, Resolved) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _Wrong("is neither true nor false", _NOUNS["bool"], "Write true or false.")
    return value


_TYPES: Final[dict[str, Callable[[object], Value]]] = {
    "string": _string,
    "int": _int,
    "float": _float,
    "bool": _bool,
}
_NOUNS: Final = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
_RULES: Final = {
    "min_length": ("string",),
    "max_length": ("string",),
    "pattern": ("string",),
    "min": ("int", "float"),
    "max": ("int", "float"),
}

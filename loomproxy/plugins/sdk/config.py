"""A plugin's configuration: a dataclass, the `config_schema` that it means, and its instance.

The proxy checks a configuration before it delivers it, by the same rules; here they are applied
again, because a plugin may also be run by hand.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from loomproxy.plugins.sdk.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

_KEY: Final = "loomproxy.plugins.sdk"  # in a field's metadata
_TYPES: Final = {"str": "string", "int": "int", "float": "float", "bool": "bool"}
_OPTIONAL: Final = re.compile(
    r"(?:typing\.)?Optional\[(\w+)\]|(\w+)\s*\|\s*None|None\s*\|\s*(\w+)|(\w+)"
)
_FLOAT_MAX: Final = sys.float_info.max
_SAID: Final = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}

T = TypeVar("T")


class Rules(TypedDict, total=False):
    """What a value must satisfy besides its type, as `option` takes it."""

    min: float | None
    max: float | None
    min_length: int | None
    max_length: int | None
    pattern: str | None
    enum: Sequence[Any] | None


@dataclasses.dataclass(frozen=True)
class NoConfig:
    """The configuration of a plugin that has none."""


def option(
    default: Any = dataclasses.MISSING,
    description: str = "",
    *,
    secret: bool = False,
    **rules: Unpack[Rules],
) -> Any:
    """Return a field of the configuration's dataclass. Without a default it is required.

    `min`, `max`: of a number, both still allowed. `min_length`, `max_length`: of text, in code
    points. `pattern`: what the whole text must match. `enum`: the only values.
    """
    more = {"description": description, "sensitive": secret}
    told = {name: value for name, value in rules.items() if value is not None}
    if isinstance(told.get("pattern"), str):
        re.compile(str(told["pattern"]))
    return dataclasses.field(
        default=default, repr=not secret, metadata={_KEY: {**more, "validation": told}}
    )


def secret(
    description: str = "", default: Any = dataclasses.MISSING, **rules: Unpack[Rules]
) -> Any:
    """Return a field that is shown in no log, no answer and no `repr`; required by default."""
    return option(default, description, secret=True, **rules)


def schema_of(kind: type) -> list[dict[str, Any]]:
    """Return the `config_schema` of a dataclass, in the contract's words."""
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"config={kind.__name__}: is no dataclass. Write @dataclass above it.")
    return [_field_schema(kind, field) for field in dataclasses.fields(kind) if field.init]


def _field_schema(kind: type, field: dataclasses.Field[Any]) -> dict[str, Any]:
    if field.default_factory is not dataclasses.MISSING:
        raise TypeError(f"{kind.__name__}.{field.name}: has a default_factory. Write a default.")
    more = field.metadata.get(_KEY, {})
    schema = {
        "name": field.name,
        "type": _type_of(kind, field),
        "required": field.default is dataclasses.MISSING,
        "description": more.get("description", ""),
        "sensitive": more.get("sensitive", False),
    }
    if field.default is not dataclasses.MISSING and field.default is not None:
        schema["default"] = field.default
    rules = more.get("validation", {})
    if rules:
        schema["validation"] = {
            name: list(value) if name == "enum" else value for name, value in rules.items()
        }
    return schema


def _type_of(kind: type, field: dataclasses.Field[Any]) -> str:
    """Return the contract's word for an annotation: `str`, `int | None` or `Optional[float]`.

    It is read as text: what `from __future__ import annotations` leaves of it on every Python.
    """
    annotation: Any = field.type
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    found = _OPTIONAL.fullmatch(text.strip())
    word = next(filter(None, found.groups()), "") if found else ""
    if word not in _TYPES:
        raise TypeError(
            f"{kind.__name__}.{field.name}: is {text}. A configuration is flat: use str, int, "
            "float or bool, each perhaps with `| None`."
        )
    return _TYPES[word]


def configure(kind: type[T], given: Any) -> T:
    """Return the instance that a configuration means; `invalid_request` names every problem."""
    if not isinstance(given, dict):
        raise PluginError("invalid_request", "The configuration is no JSON object.")
    schema = {field["name"]: field for field in schema_of(kind)}
    problems = [f"{name}: there is no such key." for name in given if name not in schema]
    values: dict[str, Any] = {}
    for name, field in schema.items():
        if name in given and not (given[name] is None and not field["required"]):
            problems += (f"{name}: {problem}" for problem in _problems(field, given[name]))
            values[name] = given[name]
        elif field["required"]:
            problems.append(f"{name}: is required. Set it under plugins.config.")
    if problems:
        raise PluginError(
            "invalid_request",
            "The configuration is not valid: " + " ".join(problems),
            details={"problems": problems},
        )
    for name, value in values.items():
        if schema[name]["type"] == "float" and value is not None:
            values[name] = float(value)
    return kind(**values)


def _problems(field: dict[str, Any], value: Any) -> Iterator[str]:
    """Yield what is wrong with one value. A secret is never repeated."""
    if not _has_type(field["type"], value):
        yield f"is not {_SAID[field['type']]}."
        return
    if field["required"] and value == "":
        yield "is empty."
    rules = field.get("validation", {})
    shown = "the value" if field["sensitive"] else repr(value)
    for rule, bound in rules.items():
        if not _satisfies(rule, bound, value):
            yield f"{shown} does not satisfy {rule}: {bound!r}."


def _has_type(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "float":
        return isinstance(value, (int, float)) and -_FLOAT_MAX <= value <= _FLOAT_MAX
    return isinstance(value, {"string": str, "int": int, "bool": bool}[kind])


def _satisfies(rule: str, bound: Any, value: Any) -> bool:
    if rule == "enum":
        return value in bound
    if isinstance(value, str):
        checks: dict[str, Callable[[], bool]] = {
            "min_length": lambda: len(value) >= bound,
            "max_length": lambda: len(value) <= bound,
            "pattern": lambda: re.fullmatch(bound, value) is not None,
        }
    else:
        checks = {"min": lambda: value >= bound, "max": lambda: value <= bound}
    return checks[rule]() if rule in checks else True

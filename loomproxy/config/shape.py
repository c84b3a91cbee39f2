"""The structs of the model, read back as data: what the walker, the schema and the docs go by.

A shape is what may stand in one place of the configuration. Text of a kind, numbers with bounds and
words to choose from are leaves (`Leaf`); the rest is made of them.
"""

import functools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from loomproxy.config.key import Base

Word = str | int


class Leaf(msgspec.Struct, frozen=True):
    """One value: words to choose from, or something of a kind."""

    kind: str  # a name in `kinds.KINDS`, or count, size, number, duration, flag; "": words only
    words: tuple[Word, ...] = ()
    low: float = 0.0
    high: float = 0.0
    advice: str = ""


class Many(msgspec.Struct, frozen=True):
    """A list; `one_or_many`: one item may stand for it."""

    item: "Shape"
    one_or_many: bool = False


class Table(msgspec.Struct, frozen=True):
    """A mapping whose keys are the user's."""

    name: Leaf
    item: "Shape"


class Maybe(msgspec.Struct, frozen=True):
    """A shape, or nothing (null)."""

    item: "Shape"


class Anything(msgspec.Struct, frozen=True):
    """Any value at all: it is for somebody else to read."""


class Group(msgspec.Struct, frozen=True):
    """A mapping whose keys are ours; `shorthand`: text stands for a group with this key alone."""

    struct: type[Base]
    shorthand: str = ""

    @property
    def keys(self) -> tuple["Key", ...]:
        """Its keys, in the order of the model."""
        return keys_of(self.struct)

    @property
    def about(self) -> str:
        """What it is, in prose."""
        return " ".join((self.struct.__doc__ or "").split())


Shape = Leaf | Many | Table | Maybe | Anything | Group


class Key(msgspec.Struct, frozen=True):
    """One key of a group."""

    name: str  # as users write it
    attribute: str  # of the struct
    shape: Shape
    description: str
    required: bool
    default: object  # None where required


@functools.cache
def keys_of(struct: type[Base]) -> tuple[Key, ...]:
    """The keys of one struct of the model."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(_key(field, hints[field.name]) for field in msgspec.structs.fields(struct))


def _key(field: msgspec.structs.FieldInfo, annotation: object) -> Key:
    _, meta = _unwrapped(annotation)
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    else:
        default = None if field.required else field.default
    return Key(
        name=field.encode_name,
        attribute=field.name,
        shape=shape_of(annotation),
        description=meta.description or "",
        required=field.required,
        default=default,
    )


def shape_of(annotation: object) -> Shape:
    """The shape of one annotation of the model."""
    inner, meta = _unwrapped(annotation)
    extra = meta.extra or {}
    if inner is Any:
        return Anything()
    if isinstance(inner, type) and issubclass(inner, Base):
        return Group(inner, extra.get("shorthand", ""))
    origin, arguments = get_origin(inner), get_args(inner)
    if origin is tuple:
        return Many(shape_of(arguments[0]), extra.get("one_or_many", False))
    if origin is dict:
        name = shape_of(arguments[0])
        assert isinstance(name, Leaf), "a key of a table is text"
        return Table(name, shape_of(arguments[1]))
    if origin in (Union, types.UnionType):
        return _choice(arguments, meta)
    return _leaf(inner, extra)


def _choice(arguments: tuple[object, ...], meta: msgspec.Meta) -> Shape:
    """`X | None`, or words beside something of a kind."""
    if type(None) in arguments:
        (rest,) = (argument for argument in arguments if argument is not type(None))
        return Maybe(shape_of(Annotated[rest, meta]))
    leaves = [shape_of(argument) for argument in arguments]
    words = tuple(word for leaf in leaves if isinstance(leaf, Leaf) for word in leaf.words)
    (kind,) = (leaf for leaf in leaves if isinstance(leaf, Leaf) and leaf.kind)
    return msgspec.structs.replace(kind, words=words)


def _leaf(inner: object, extra: dict[str, object]) -> Leaf:
    if get_origin(inner) is Literal:
        return Leaf("", get_args(inner))
    if inner is bool:
        return Leaf("flag")
    return msgspec.convert(
        {name: extra[name] for name in ("kind", "low", "high", "advice") if name in extra}, Leaf
    )


def _unwrapped(annotation: object) -> tuple[object, msgspec.Meta]:
    """A type and what the model says of it."""
    if get_origin(annotation) is not Annotated:
        return annotation, msgspec.Meta()
    inner, *metas = get_args(annotation)
    # The last is the outermost: what a key says of itself beats what its type says in general.
    return inner, metas[-1]


def limits_in_words(leaf: Leaf) -> str:
    """What a leaf with bounds expects, as a noun phrase."""
    low, high = in_words(leaf.kind, leaf.low), in_words(leaf.kind, leaf.high)
    return {
        "count": f"a whole number from {low} to {high}",
        "number": f"a number from {low} to {high}",
        "size": f"a size from {low} to {high}",
        "duration": f"a duration from {low} to {high}",
    }[leaf.kind]


def in_words(kind: str, value: float) -> str:
    """A number of a kind as people write it: 4s, 64KiB, 1024."""
    if kind == "duration" and not value:
        return "0s"
    if kind == "duration":
        return _in_units(value, (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001)))
    if kind == "size":
        return _in_units(
            value, (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
        )
    return f"{value:.15g}"


def _in_units(value: float, units: tuple[tuple[str, float], ...]) -> str:
    """In the largest unit that needs no fraction, of those that leave more than one."""
    for name, unit in units:
        count = round(value / unit, 9)
        if count >= 1 and count == int(count) and (count > 1 or name != "m"):
            return f"{int(count)}{name}"
    return f"{value:.15g}"

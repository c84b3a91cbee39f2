"""How a key of the configuration is described: its kind, bounds and advice beside its type.

`config.static` and `config.dynamic` are written in these words; the loader, the documentation and
the schema read them back through `config.shape`.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0

COUNT_MAX: Final = 1_000_000_000
"""No count is larger: a bound for what has no better one."""

SIZE_BYTES_MAX: Final = 1 << 40
"""No size is larger: 1 TiB."""


def _key(attribute: str) -> str:
    """The key as users write it: the unit of a duration stands in its value."""
    if attribute.endswith("_per_s"):  # A rate: a bare number, so its unit stays.
        return attribute
    return attribute.removesuffix("_s")


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_key):
    """What all structs of the model share."""


def group(description: str, *, one_or_many: bool = False, shorthand: str = "") -> Meta:
    """A key whose type says all that can be checked.

    `one_or_many`: a single value stands for a list of one. `shorthand`: text stands for a struct
    with this key.
    """
    return Meta(description=description, extra={"one_or_many": one_or_many, "shorthand": shorthand})


def text(description: str = "", kind: str = "text", *, advice: str = "") -> Meta:
    """Text of a kind that `config.kinds` knows; `advice` is what to do when it is wrong."""
    return Meta(description=description, extra={"kind": kind, "advice": advice})


def duration(description: str, *, low: float = 0.001, high: float = DAY_S) -> Meta:
    """Seconds, from `low` to `high`."""
    return _bounded("duration", description, low, high)


def size(description: str, *, low: int = 1, high: int = SIZE_BYTES_MAX) -> Meta:
    """Bytes, from `low` to `high`."""
    return _bounded("size", description, low, high)


def count(description: str, *, low: int = 1, high: int = COUNT_MAX, advice: str = "") -> Meta:
    """A whole number, from `low` to `high`."""
    return _bounded("count", description, low, high, advice)


def number(description: str, *, low: float, high: float) -> Meta:
    """Any number, from `low` to `high`."""
    return _bounded("number", description, low, high)


def _bounded(kind: str, description: str, low: float, high: float, advice: str = "") -> Meta:
    extra = {"kind": kind, "low": low, "high": high, "advice": advice}
    return Meta(description=description, extra=extra)


HeaderName = Annotated[str, text(kind="header_name")]
HeaderChangeName = Annotated[str, text(kind="header_change")]
HeaderValue = Annotated[str, text(kind="header_value")]
HeaderTemplate = Annotated[str, text(kind="header_template")]
Name = Annotated[str, text(kind="name")]
UrlPath = Annotated[str, text(kind="url_path")]

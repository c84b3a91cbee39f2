"""What a request must say for a route to be for it.

Paths are compared in the one normal form that RFC 3986 §6.2.2 calls equal anyway: `%61dmin` is
`admin`, `%2f` is `%2F` and still not a slash. And a run of slashes counts as one, and the
parameters of a segment (`/admin;v=1`) do not count, because many upstreams take it so. Otherwise a
route that guards `/admin` could be walked around.
"""

import enum
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from loomproxy.core.message import RequestHead, fields


class PathKind(enum.Enum):
    """How a route compares the path."""

    EXACT = "exact"
    REGEX = "regex"  # found anywhere in the path; `^` and `$` anchor it
    PREFIX = "prefix"  # whole segments: /api is a prefix of /api and /api/x, not of /apix
    ANY = "any"


class ValueKind(enum.Enum):
    """How a route compares the value of a header or query parameter."""

    PRESENT = "present"  # any value, an empty one too
    EXACT = "exact"
    REGEX = "regex"


class Condition(msgspec.Struct, frozen=True):
    """What one header or query parameter must say. Of several with one name, any may hold."""

    name: bytes  # a header's in lower case; a parameter's decoded, case kept
    kind: ValueKind = ValueKind.PRESENT
    value: bytes = b""  # the exact value, or the regular expression

    def test(self) -> Callable[[bytes], bool]:
        """A function that says whether one value holds."""
        if self.kind is ValueKind.PRESENT:
            return _always
        if self.kind is ValueKind.EXACT:
            return self.value.__eq__
        return _finds(re.compile(self.value))


class Match(msgspec.Struct, frozen=True):
    """Which requests a route is for: every part must hold; an empty part always does."""

    hosts: tuple[bytes, ...] = ()  # lower case, no port: b"example.com", or b"*.example.com"
    path_kind: PathKind = PathKind.ANY
    paths: tuple[bytes, ...] = ()  # any of them; empty exactly for ANY
    methods: frozenset[bytes] = frozenset()
    headers: tuple[Condition, ...] = ()  # all of them
    query: tuple[Condition, ...] = ()  # all of them
    listeners: frozenset[str] = frozenset()


class Remainder:
    """What is left to ask of a request once host and path of a match hold."""

    __slots__ = ("always", "headers", "methods", "query")

    def __init__(self, match: Match) -> None:
        self.methods = match.methods
        self.headers = [(condition.name, condition.test()) for condition in match.headers]
        self.query = [(condition.name, condition.test()) for condition in match.query]
        self.always = not (self.methods or self.headers or self.query)

    def holds(self, head: RequestHead) -> bool:
        """Whether method, headers and query hold too."""
        if self.methods and head.method not in self.methods:
            return False
        if self.headers and not _hold(self.headers, fields(head.block)):
            return False
        return not self.query or _hold(self.query, parameters(head.query))


def normal_path(path: bytes) -> bytes:
    """`path` in the form that routes compare: as it is where it holds no `%`, `//` or `;`."""
    if b";" in path:
        path = _PARAMETERS.sub(b"", path)
    return normal_escapes(_SLASHES.sub(b"/", path) if b"//" in path else path)


def normal_escapes(path: bytes) -> bytes:
    """`path` with each escape in its one normal form (RFC 3986 §6.2.2)."""
    if b"%" not in path:
        return path
    return _ENCODED.sub(_normal_octet, path)


def normal_prefix(prefix: bytes) -> bytes:
    """A prefix in the form that routes compare: /api/ and /api mean the same; `/` is b""."""
    return normal_path(prefix).rstrip(b"/")


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The (name, value) pairs of a query, decoded as HTML forms write them (`+` is a space)."""
    pairs = []
    for piece in query.replace(b"+", b" ").split(b"&"):
        name, _, value = piece.partition(b"=")
        pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def _hold(
    conditions: list[tuple[bytes, Callable[[bytes], bool]]], pairs: list[tuple[bytes, bytes]]
) -> bool:
    """Whether every condition holds for some pair of its name."""
    return all(
        any(have == name and test(value) for have, value in pairs) for name, test in conditions
    )


def _always(_value: bytes) -> bool:
    return True


def _finds(pattern: re.Pattern[bytes]) -> Callable[[bytes], bool]:
    search = pattern.search
    return lambda value: search(value) is not None


_PARAMETERS: Final = re.compile(rb";[^/]*+")  # RFC 3986 §3.3
_SLASHES: Final = re.compile(rb"//+")
_ENCODED: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986 §2.3


def _normal_octet(encoded: re.Match[bytes]) -> bytes:
    octet = int(encoded[0][1:], 16)
    return bytes((octet,)) if octet in _UNRESERVED else encoded[0].upper()

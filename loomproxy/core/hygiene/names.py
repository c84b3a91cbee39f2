"""Which fields may not pass, and how their lines are cut out of a block."""

import re
from collections.abc import Collection, Iterable
from typing import Final

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
    )
)
"""Fields that end at this hop (RFC 9110 §7.6.1, §11.7; RFC 7540 §3.2.1). Trailer is end-to-end
since RFC 9110."""
IDENTITY: Final = frozenset((b"forwarded", b"x-real-ip", b"x-forwarded", b"x-forwarded-for"))
"""Fields that say who the client is; any other name that begins with `x-forwarded-` is one too."""
OVERRIDES: Final = frozenset((b"x-original-url", b"x-rewrite-url"))
"""Fields whose path some frameworks take instead of the request's: from a stranger they would lead
around every route (CVE-2018-14773)."""
SHADOWED: Final = (
    HOP_BY_HOP
    | IDENTITY
    | OVERRIDES
    | {b"host", b"content-length", b"expect", b"trailer", b"proxy", b"via", b"x-request-id"}
    | {b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"}
)
"""Names that another name must not turn into where a recipient takes `_` or `.` for `-`."""
OURS_ALONE: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
"""Names that header operations cannot touch: they frame and route the message."""
_NEVER_NOMINATED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_END_TO_END: Final = (
    IDENTITY
    | {b"host", b"authorization", b"cookie", b"origin", b"referer", b"range", b"date"}
    | {b"cache-control", b"pragma", b"expect", b"max-forwards", b"via", b"x-request-id"}
)
_END_TO_END_PREFIXES: Final = (b"content-", b"if-", b"sec-", b"x-forwarded-")
_ANY_MARK: Final = b"[^0-9A-Za-z:\r\n]"
TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_TRAILERS: Final = (
    SHADOWED
    | {b"authorization", b"cookie", b"set-cookie", b"www-authenticate", b"authentication-info"}
    | {b"cache-control", b"max-forwards", b"age", b"date", b"expires", b"location", b"vary"}
    | {b"retry-after", b"warning", b"pragma", b"range", b"content-encoding", b"content-type"}
    | {b"content-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-range"}
    | {b"if-unmodified-since"}
)


def any_case(*names: bytes, any_mark: bool = False) -> bytes:
    """A pattern for any of `names` in any letter case; alternatives share their beginnings.

    With `any_mark` each mark in a name stands for every mark: CGI, WSGI and PHP take `X_User` and
    `X-User` for one field.
    """
    by_first: dict[int, list[bytes]] = {}
    for name in names:
        by_first.setdefault(name[0] if name else -1, []).append(name[1:])
    parts: list[bytes] = []
    for first, rests in sorted(by_first.items(), reverse=True):
        if first < 0:
            parts.append(b"")
            continue
        letter = bytes((first,))
        lower, upper = letter.lower(), letter.upper()
        one = b"[%b%b]" % (upper, lower) if lower != upper else re.escape(letter)
        if any_mark and not letter.isalnum():
            one = _ANY_MARK
        parts.append(one + (any_case(*rests, any_mark=any_mark) if any(rests) else b""))
    return parts[0] if len(parts) == 1 else b"(?:%b)" % b"|".join(parts)


def cutter(
    names: Iterable[bytes], prefixes: tuple[bytes, ...], *, any_mark: bool = False
) -> re.Pattern[bytes]:
    """What finds the lines of `names` in LF + block; a literal first, so `re` uses memchr."""
    begins = [any_case(*sorted(names), any_mark=any_mark) + b":"]
    begins += [any_case(prefix, any_mark=any_mark) + b"[^:\r]*+:" for prefix in prefixes]
    return re.compile(rb"\n(?:%b)[^\n]*+(?=\n)" % b"|".join(begins))


def nominations(connection: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
    """What Connection says: close, keep-alive, upgrade, further names in lower case."""
    common = _CONNECTION_COMMON.get(connection)
    return common if common is not None else _nominations(connection)


def _nominations(connection: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
    options = {option.strip(b" \t") for option in connection.lower().split(b",")}
    names = options - HOP_BY_HOP - _NEVER_NOMINATED - {b"close", b""}
    return (
        b"close" in options,
        b"keep-alive" in options,
        b"upgrade" in options,
        tuple(sorted(name for name in names if TOKEN.fullmatch(name))),
    )


def misnominated(connection: bytes) -> bytes:
    """What a request's Connection names though it is for all recipients; b"" when nothing is.

    Who may take such a field away from us could take it away from the upstream too: a check of
    origin, a condition, the credentials of a hop before us.
    """
    if connection in _CONNECTION_COMMON:
        return b""
    for option in connection.lower().split(b","):
        name = option.strip(b" \t")
        if name in _END_TO_END or name.startswith(_END_TO_END_PREFIXES):
            return name
    return b""


def usual_nominations(connection: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]] | None:
    """As `nominations`, of the few values that nearly all clients send; None for any other."""
    return _CONNECTION_COMMON.get(connection)


def without(block: bytes, names: tuple[bytes, ...]) -> bytes:
    """`block` without the fields `names` (lower case)."""
    gone = frozenset(names)
    lines = block.splitlines(keepends=True)
    return b"".join([line for line in lines if line[: line.index(b":")].lower() not in gone])


def values_of(block: bytes, name: bytes) -> list[bytes]:
    """Every value of `name` (lower case)."""
    return [
        line[len(name) + 1 :].strip(b" \t\r\n")
        for line in block.splitlines()
        if line[: len(name) + 1].lower() == name + b":"
    ]


def trailers(block: bytes, also: Collection[bytes] = ()) -> bytes:
    """`block` without fields that frame, route, authenticate or control (RFC 9110 §6.5.1).

    Nor those in `also` (lower case), which the operator has taken into his own hands: a recipient
    that merges trailers into the head would take the sender's word for the operator's.
    """
    if not block:
        return b""
    kept = _TRAILER_CUT.sub(b"", b"\n" + block)
    return (cutter(also, (), any_mark=True).sub(b"", kept) if also else kept)[1:]


_CONNECTION_COMMON: Final = {
    value: _nominations(value)
    for value in (
        *(b"keep-alive", b"Keep-Alive", b"close", b"Close", b""),
        *(b"Upgrade", b"upgrade", b"keep-alive, Upgrade"),
    )
}
_TRAILER_CUT: Final = cutter(_FORBIDDEN_TRAILERS, (b"x-forwarded-",), any_mark=True)

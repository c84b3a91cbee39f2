"""What a request is for: its target in one form, its authority, and a path without tricks.

Routes, rewrites and the upstream must all see the same path. So every target is brought into origin
form (or `*`), begins with exactly one slash, and is refused where the upstream could resolve it to
another path than our routes saw: dot segments in any disguise, backslashes, broken escapes, NUL.
What is left is passed on as it came: an escape stays an escape, `//` within a path stays `//`.
"""

import ipaddress
import re
from typing import Final

from loomproxy.core.http1.refuse import malformed, shown

_AUTHORITY: Final = re.compile(
    rb"((?:[0-9A-Za-z_~-]+(?:\.[0-9A-Za-z_~-]+)*\.?)|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?"
)
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_DOT_SEGMENT: Final = re.compile(rb"(?:/|%2[Ff]|%5[Cc])(?:\.|%2[Ee]){1,2}(?:/|;|%2[Ff]|%5[Cc]|\Z)")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_PORT_MAX: Final = 65535


def authority_of(said: bytes) -> bytes:
    """`said` if it is a host with an optional port, as Host and absolute targets have it."""
    match = _AUTHORITY.fullmatch(said)
    if match is None or int(match[2] or b"0") > _PORT_MAX:
        malformed(f"{shown(said)} is not a host with an optional port")
    if said.startswith(b"["):
        try:
            ipaddress.IPv6Address(match[1][1:-1].decode())
        except ValueError:
            malformed(f"{shown(said)} is not an IPv6 address in brackets")
    return said


def host_of(authority: bytes) -> bytes:
    """The host in lower case, without port and without the dot that ends an absolute name."""
    match = _AUTHORITY.fullmatch(authority)
    return match[1].lower().removesuffix(b".") if match else b""


def origin_form(method: bytes, target: bytes, authority: bytes) -> tuple[bytes, bytes, bool]:
    """Origin or asterisk form, the authority, and whether the target gave that.

    `authority` is that of Host, found valid, or b"" where there is none.
    """
    if b"#" in target:
        malformed("the target holds a fragment")
    if target == b"*":
        if method != b"OPTIONS":
            malformed("the target * came with a method other than OPTIONS")
        return target, authority, False
    named, rest = b"", target
    if not target.startswith(b"/"):
        named, rest = _absolute(target, authority)
        if not rest and method == b"OPTIONS":
            # RFC 9112 §3.2.4: the last proxy sends the asterisk form.
            return b"*", authority or named, not authority
    # `//name/path` is an authority to whoever resolves it as a reference (RFC 3986 §4.2).
    rest = b"/" + rest.lstrip(b"/")
    return rest, authority or named, bool(named) and not authority


def checked_path(path: bytes) -> bytes:
    """`path`, unless the upstream could resolve it to another one than our routes saw."""
    if b"\\" in path:
        malformed("the path holds a backslash")
    if _BAD_ESCAPE.search(path):
        malformed("the path holds an invalid percent-encoding")
    if _DOT_SEGMENT.search(path):
        malformed("the path holds a dot segment")
    return path


def _absolute(target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """The authority of a target in absolute form, and what follows it."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        what = (
            "has a scheme we do not speak" if _SCHEME.match(target) else "is not a request target"
        )
        malformed(f"the target {shown(target)} {what}")
    scheme, named, rest = match.groups()
    if b"@" in named:
        # RFC 9110 §4.2.4: treat userinfo in a reference from an untrusted source as an error.
        malformed("the target holds user information")
    authority_of(named)
    if authority and _normal(scheme, named) != _normal(scheme, authority):
        malformed(f"the target's host {shown(named)} is not the Host {shown(authority)}")
    return named, rest


def _normal(scheme: bytes, authority: bytes) -> tuple[bytes, int]:
    """Host and port of an authority that was found valid, for comparison."""
    match = _AUTHORITY.fullmatch(authority)
    assert match is not None
    port = int(match[2] or (b"443" if scheme.lower() == b"https" else b"80"))
    return match[1].lower().removesuffix(b"."), port

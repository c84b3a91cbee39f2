"""What hygiene is told: by the operator, about the connection, and about one exchange."""

import enum
import ipaddress
import re
from typing import Final

import msgspec

from loomproxy.core.hygiene.names import OURS_ALONE, TOKEN

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


class Peer(msgspec.Struct, frozen=True, gc=False):
    """What is known of one downstream connection."""

    ip: bytes  # b"" on a Unix socket
    port: int
    trusted: bool  # may say who the client is: the policy's `trusted` or `trusts_unix` says so
    scheme: bytes = b"http"
    local_port: int = 0  # 0: none, a Unix socket
    listener: str = ""


class Family(enum.StrEnum):
    """The two ways in which a proxy says for whom it asks."""

    X_FORWARDED = "x_forwarded"  # X-Forwarded-* and X-Real-IP
    RFC7239 = "rfc7239"  # Forwarded


class ForwardPolicy(msgspec.Struct, frozen=True):
    """What we tell upstreams about the client, and whom we believe.

    Of a trusted peer one family is believed, the one it is known to write: of the other it may have
    passed on what its client said.
    """

    x_forwarded: bool = True  # X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP
    forwarded: bool = False  # Forwarded (RFC 7239)
    via: bytes = b"loomproxy"  # our pseudonym in Via (RFC 9110 §7.6.3); b"": no Via
    request_id_header: bytes = b"X-Request-ID"  # b"": none
    trusted: tuple[Network, ...] = ()
    trusts_unix: bool = False  # peers on Unix sockets are trusted
    believe: Family = Family.X_FORWARDED


class HeaderOps(msgspec.Struct, frozen=True):
    """What the operator wants of the fields of a head: remove, then set (replace), then add.

    Values may hold `{client_ip}`, `{request_id}`, `{host}`, `{scheme}`, `{path}` and `{route}`.
    Names and values must be valid (`ops_problem` says); names in `OURS_ALONE` are ignored.
    """

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: tuple[bytes, ...] = ()


def touched(ops: HeaderOps | None) -> frozenset[bytes]:
    """The names (lower case) that `ops` sets or removes: the sender has no say in them."""
    if ops is None:
        return frozenset()
    return frozenset(name.lower() for name in (*ops.remove, *(name for name, _ in ops.set)))


class Values(msgspec.Struct, frozen=True, gc=False):
    """What placeholders stand for in one exchange."""

    client_ip: bytes = b""
    request_id: bytes = b""
    host: bytes = b""
    scheme: bytes = b"http"
    path: bytes = b""
    route: bytes = b""


def ops_problem(ops: HeaderOps) -> str:
    """Why `ops` cannot be used, or ""."""
    pairs = (*ops.set, *ops.add, *((name, b"") for name in ops.remove))
    for name, value in pairs:
        if not TOKEN.fullmatch(name):
            return f"{name!r} is not a field name"
        if name.lower() in OURS_ALONE:
            return f"{name!r} frames or routes the message and is set by the proxy alone"
        if not _VALUE.fullmatch(value):
            return f"{value!r} is not a field value"
    return ""

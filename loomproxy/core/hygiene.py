"""What a proxy must strip, add and refuse in heads (RFC 9110 §7.6, RFC 9112), and who the client is.

A head that arrived is a canonical block. What must not pass is cut out of it by one compiled pattern; what we
say ourselves is appended. Nothing is done per field. Which pattern, and which lines the operator wants added, depends
on the forward policy, on the route's operations and on whether we trust the peer: that is compiled once into a
*plan* and found again by identity.

What never passes: hop-by-hop fields, those that Connection nominates, `Proxy` (CVE-2016-5385), and, unless the
peer is trusted, everything by which a client could claim to be somebody else (Forwarded, X-Forwarded-*,
X-Real-IP). Framing and Host are always written by us, once.
"""

import http
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from loomproxy.core.message import SWITCHING_PROTOCOLS, Framing, RequestHead, ResponseHead

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HeaderOps(msgspec.Struct, frozen=True):
    """What the operator wants of the fields of a head: remove, then set (replace), then add.

    Values may hold `{client_ip}`, `{request_id}`, `{host}`, `{scheme}`, `{path}` and `{route}`. Names and values
    must be valid (`ops_problem` says); names in `OURS_ALONE` are ignored.
    """

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: tuple[bytes, ...] = ()


class Peer(msgspec.Struct, frozen=True, gc=False):
    """What is known of one downstream connection."""

    ip: bytes  # b"" on a Unix socket
    port: int
    trusted: bool  # may say who the client is: its address is in the policy's `trusted`
    scheme: bytes = b"http"
    local_port: int = 0  # 0: none, a Unix socket
    listener: str = ""


class ForwardPolicy(msgspec.Struct, frozen=True):
    """What we tell upstreams about the client, and whom we believe."""

    x_forwarded: bool = True  # X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP
    forwarded: bool = False  # Forwarded (RFC 7239)
    via: bytes = b"loomproxy"  # our pseudonym in Via (RFC 9110 §7.6.3); b"": no Via
    request_id_header: bytes = b"X-Request-ID"  # b"": none
    trusted: tuple[Network, ...] = ()


class Values(msgspec.Struct, frozen=True, gc=False):
    """What placeholders stand for in one exchange."""

    client_ip: bytes = b""
    request_id: bytes = b""
    host: bytes = b""
    scheme: bytes = b"http"
    path: bytes = b""
    route: bytes = b""


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
"""Fields that end at this hop (RFC 9110 §7.6.1, §11.7; RFC 7540 §3.2.1). Trailer is end-to-end since RFC 9110."""

IDENTITY: Final = frozenset((b"forwarded", b"x-real-ip", b"x-forwarded", b"x-forwarded-for"))
"""Fields that say who the client is; any other name that begins with `x-forwarded-` is one too."""

SHADOWED: Final = (
    HOP_BY_HOP
    | IDENTITY
    | {b"host", b"content-length", b"expect", b"trailer", b"proxy", b"via", b"x-request-id"}
    | {b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix"}
)
"""Names that another name must not turn into where a recipient takes `_` or `.` for `-`."""

OURS_ALONE: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
"""Names that header operations cannot touch: they frame and route the message."""

_FORBIDDEN_TRAILERS: Final = (
    SHADOWED
    | {b"authorization", b"cookie", b"set-cookie", b"www-authenticate", b"authentication-info"}
    | {b"cache-control", b"max-forwards", b"age", b"date", b"expires", b"location", b"vary"}
    | {b"retry-after", b"warning", b"pragma", b"range", b"content-encoding", b"content-type"}
    | {b"content-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-range"}
    | {b"if-unmodified-since"}
)
_NEVER_NOMINATED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_WITH_CONTENT: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_STATUS_NO_CONTENT: Final = 204
_STATUS_FINAL_MIN: Final = 200
_STATUS_UPGRADE_REQUIRED: Final = 426
_HOPS_MAX: Final = 32  # of X-Forwarded-For, that are looked at: longer chains are made up
_PLANS_MAX: Final = 256  # routes times policies in use; all are forgotten when there are more
_STRIPPED_MAX: Final = 32  # blocks remembered per plan
_STRIPPED_BYTES_MAX: Final = 1024  # of a block that is remembered: 64 KiB per plan

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_REQUEST_ID: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_PLACEHOLDER: Final = re.compile(rb"\{(client_ip|request_id|host|scheme|path|route)\}")
_HOST_AND_PORT: Final = re.compile(rb"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_FORWARDED_FOR: Final = re.compile(rb"(?i:(?:^|[;,])[ \t]*for)=(\"[^\"]*\"|[^;, \t]*)")
_ADDRESS: Final = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+|(.*)", re.DOTALL)


def any_case(*names: bytes) -> bytes:
    """A pattern for any of `names` in any letter case, quick to give up: alternatives share their beginnings."""
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
        parts.append(one + (any_case(*rests) if any(rests) else b""))
    return parts[0] if len(parts) == 1 else b"(?:%b)" % b"|".join(parts)


def nominations(connection: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
    """What a Connection value says: close, keep-alive, upgrade, and further hop-by-hop names in lower case."""
    common = _CONNECTION_COMMON.get(connection)
    return common if common is not None else _nominations(connection)


def _nominations(connection: bytes) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
    options = {option.strip(b" \t") for option in connection.lower().split(b",")}
    names = options - HOP_BY_HOP - _NEVER_NOMINATED - {b"close", b""}
    return (
        b"close" in options,
        b"keep-alive" in options,
        b"upgrade" in options,
        tuple(sorted(name for name in names if _TOKEN.fullmatch(name))),
    )


_CONNECTION_COMMON: Final = {
    value: _nominations(value)
    for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close", b"Upgrade", b"upgrade", b"")
}


def ops_problem(ops: HeaderOps) -> str:
    """Why `ops` cannot be used, or ""."""
    pairs = (*ops.set, *ops.add, *((name, b"") for name in ops.remove))
    for name, value in pairs:
        if not _TOKEN.fullmatch(name):
            return f"{name!r} is not a field name"
        if name.lower() in OURS_ALONE:
            return f"{name!r} frames or routes the message and is set by the proxy alone"
        if not _VALUE.fullmatch(value):
            return f"{value!r} is not a field value"
    return ""


class _Lines:
    """Field lines of the operator's: ready, or with placeholders."""

    __slots__ = ("_names", "_text")

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        text = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        self._names = tuple(name.decode() for name in _PLACEHOLDER.findall(text))
        self._text = _PLACEHOLDER.sub(b"%b", text.replace(b"%", b"%%")) if self._names else text

    def resolved(self, values: Values) -> bytes:
        if not self._names:
            return self._text
        return self._text % tuple(getattr(values, name) for name in self._names)


class _Plan:
    """How the heads of one policy, one set of operations and one kind of peer are treated."""

    __slots__ = ("_cut", "_dropped", "_stripped", "key_objects", "lines")

    def __init__(self, names: Iterable[bytes], prefixes: tuple[bytes, ...], ops: HeaderOps | None) -> None:
        drops: set[bytes] = set()
        pairs: list[tuple[bytes, bytes]] = []
        if ops is not None:
            ours = [*ops.set, *ops.add]
            drops = {name.lower() for name in (*ops.remove, *(name for name, _ in ops.set))} - OURS_ALONE
            pairs = [pair for pair in ours if pair[0].lower() not in OURS_ALONE]
        self._cut = _cutter({*names, *drops} - {b""}, prefixes)
        self._dropped = _cutter(drops, ()) if drops else None
        self.lines = _Lines(pairs) if pairs else None
        self._stripped: dict[bytes, bytes] = {}
        self.key_objects: tuple[object, object] = (None, None)

    def strip(self, block: bytes) -> bytes:
        """`block` without what must not pass."""
        stripped = self._stripped.get(block)
        if stripped is None:
            stripped = self._cut.sub(b"", b"\n" + block)[1:]
            if len(block) <= _STRIPPED_BYTES_MAX:
                if len(self._stripped) >= _STRIPPED_MAX:
                    self._stripped.clear()
                self._stripped[block] = stripped
        return stripped

    def finish(self, own: bytes, values: Values) -> bytes:
        """Our own lines after the operator's operations."""
        if self._dropped is not None:
            own = self._dropped.sub(b"", b"\n" + own)[1:]
        return own + self.lines.resolved(values) if self.lines is not None else own


def _cutter(names: Iterable[bytes], prefixes: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """What finds the lines of `names` in LF + block. It begins with a literal, so that `re` searches by memchr."""
    begins = [any_case(*sorted(names)) + b":"]
    begins += [any_case(prefix) + b"[^:\r]*+:" for prefix in prefixes]
    return re.compile(rb"\n(?:%b)[^\n]*+(?=\n)" % b"|".join(begins))


_plans: dict[tuple[int, int, str], _Plan] = {}


def _plan(policy: ForwardPolicy, ops: HeaderOps | None, kind: str) -> _Plan:
    """The plan for these objects. It holds them, so that their identities stay theirs."""
    key = (id(policy), id(ops), kind)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _PLANS_MAX:
            _plans.clear()
        names, prefixes = _request_names(policy, kind) if kind in _REQUEST_KINDS else _response_names(policy, kind)
        plan = _Plan(names, prefixes, ops)
        plan.key_objects = (policy, ops)
        _plans[key] = plan
    return plan


_FROM_TRUSTED: Final = "request of a trusted peer"
_FROM_ANYBODY: Final = "request"
_REQUEST_KINDS: Final = (_FROM_TRUSTED, _FROM_ANYBODY)
_WITH_LENGTH: Final = "response that keeps its length"
_WITHOUT_LENGTH: Final = "response"


def _request_names(policy: ForwardPolicy, kind: str) -> tuple[set[bytes], tuple[bytes, ...]]:
    names = {*OURS_ALONE, b"proxy", policy.request_id_header.lower()}
    if kind == _FROM_ANYBODY:
        return names | IDENTITY, (b"x-forwarded-",)
    if policy.x_forwarded:
        names |= {b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto", b"x-forwarded-host"}
        names |= {b"x-forwarded-port"}
    if policy.forwarded:
        names.add(b"forwarded")
    return names, ()


def _response_names(policy: ForwardPolicy, kind: str) -> tuple[set[bytes], tuple[bytes, ...]]:
    names = {*HOP_BY_HOP, policy.request_id_header.lower()}
    return (names if kind == _WITH_LENGTH else names | {b"content-length"}), ()


def _without(block: bytes, names: tuple[bytes, ...]) -> bytes:
    """`block` without the fields `names` (lower case)."""
    lines = block.splitlines(keepends=True)
    return b"".join([line for line in lines if line[: line.index(b":")].lower() not in names])


def _all(block: bytes, name: bytes) -> list[bytes]:
    """Every value of `name` (lower case)."""
    return [
        line[len(name) + 1 :].strip(b" \t\r\n")
        for line in block.splitlines()
        if line[: len(name) + 1].lower() == name + b":"
    ]


def is_trusted(ip: bytes, trusted: tuple[Network, ...]) -> bool:
    """Whether `ip` (text) is an address in one of the networks. An IPv4-mapped address counts as IPv4."""
    address = _address(ip)
    return address is not None and any(address in network for network in trusted)


def _address(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def client_ip(block: bytes, peer: Peer, policy: ForwardPolicy) -> bytes:
    """The client's address as text.

    A trusted peer may say for whom it asks; whom it names may be trusted too, and so on from right to left, until
    somebody who is not, or who is not an address. An untrusted peer is the client, whatever it says.
    """
    found = peer.ip
    if not peer.trusted:
        return found
    for hop in reversed(_hops(block, policy)[-_HOPS_MAX:]):
        match = _ADDRESS.fullmatch(hop)
        assert match is not None
        address = _address(match[1] or match[2] or match[3])
        if address is None:
            break
        found = str(address).encode()
        if not any(address in network for network in policy.trusted):
            break
    return found


def _hops(block: bytes, policy: ForwardPolicy) -> list[bytes]:
    """For whom each proxy before us asked, the nearest last."""
    if policy.forwarded:
        said = b",".join(_all(block, b"forwarded"))
        if said:
            return [hop.strip(b'"') for hop in _FORWARDED_FOR.findall(said)]
    said = b",".join(_all(block, b"x-forwarded-for"))
    return [hop.strip(b" \t") for hop in said.split(b",")] if said else []


def request_id(block: bytes, peer: Peer, policy: ForwardPolicy, fresh: bytes) -> bytes:  # noqa: ARG001 - agreed
    """The id that came with the request when it is one token of at most 128 bytes, else `fresh`."""
    name = policy.request_id_header
    if not name:
        return fresh
    said = _all(block, name.lower()) if name.lower() in block.lower() else []
    return said[0] if len(said) == 1 and _REQUEST_ID.fullmatch(said[0]) else fresh


def request_up(  # noqa: PLR0913 - one call per head, with all that a head depends on
    head: RequestHead,
    *,
    peer: Peer,
    policy: ForwardPolicy,
    target: bytes,
    host: bytes | None,
    ops: HeaderOps | None,
    upgrade: bool,
    values: Values,
) -> bytes:
    """The whole request head for the upstream, blank line included.

    `target` is in origin form; `host` replaces the client's (None keeps it); with `upgrade` the client's Upgrade is
    passed on. Expect passes when a body follows: the upstream's 100 (Continue) is then relayed.
    """
    plan = _plan(policy, ops, _FROM_TRUSTED if peer.trusted else _FROM_ANYBODY)
    passed = plan.strip(head.block)
    if head.nominated:
        passed = _without(passed, head.nominated)
    own = b"".join(
        (
            _connection_up(head) if upgrade and head.upgrade else b"",
            _framing_up(head),
            _identity(head, peer, policy, values),
            b"%b: %b\r\n" % (policy.request_id_header, values.request_id)
            if policy.request_id_header and values.request_id
            else b"",
            b"Via: 1.%d %b\r\n" % (head.minor_version, policy.via) if policy.via else b"",
        )
    )
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (
        head.method,
        target,
        head.authority if host is None else host,
        passed,
        plan.finish(own, values),
    )


def _connection_up(head: RequestHead) -> bytes:
    return b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade


def _framing_up(head: RequestHead) -> bytes:
    if head.framing is Framing.NONE:
        # RFC 9110 §8.6: methods that anticipate content say that there is none.
        return b"Content-Length: 0\r\n" if head.method in _WITH_CONTENT else b""
    expect = b"Expect: 100-continue\r\n" if head.expect_continue else b""
    if head.framing is Framing.CHUNKED:
        return b"Transfer-Encoding: chunked\r\n" + expect
    return b"Content-Length: %d\r\n%b" % (head.body_bytes, expect)


def _identity(head: RequestHead, peer: Peer, policy: ForwardPolicy, values: Values) -> bytes:
    """Who asks, and what for, in the fields that the policy wants."""
    scheme, authority, port = peer.scheme, head.authority, b"%d" % peer.local_port
    forwarded_for = peer.ip
    forwarded = _forwarded(peer, authority) if policy.forwarded else b""
    if peer.trusted:
        scheme = _said(head.block, b"x-forwarded-proto", _TOKEN, scheme).lower()
        port = _said(head.block, b"x-forwarded-port", _PORT, port)
        authority = _said(head.block, b"x-forwarded-host", _HOST_AND_PORT, authority)
        forwarded_for = _joined([*_all(head.block, b"x-forwarded-for"), peer.ip])
        if forwarded:
            forwarded = _joined([*_all(head.block, b"forwarded"), forwarded])
    lines = b"Forwarded: %b\r\n" % forwarded if forwarded else b""
    if not policy.x_forwarded:
        return lines
    return b"%b%b%bX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\n" % (
        lines,
        b"X-Forwarded-For: %b\r\n" % forwarded_for if forwarded_for else b"",
        b"X-Real-IP: %b\r\n" % values.client_ip if values.client_ip else b"",
        scheme,
        authority,
        port,
    )


def _said(block: bytes, name: bytes, valid: re.Pattern[bytes], otherwise: bytes) -> bytes:
    """What a trusted peer said in `name`, if it said it once and validly."""
    values = _all(block, name)
    return values[0] if len(values) == 1 and valid.fullmatch(values[0]) else otherwise


def _joined(values: list[bytes]) -> bytes:
    return b", ".join([value for value in values if value])


def _forwarded(peer: Peer, authority: bytes) -> bytes:
    """Our element of Forwarded (RFC 7239 §4)."""
    node = peer.ip or b"unknown"
    if b":" in node:
        node = b'"[%b]"' % node
    host = b';host="%b"' % authority if authority else b""
    return b"for=%b%b;proto=%b" % (node, host, peer.scheme)


def response_down(  # noqa: PLR0913 - one call per head, with all that a head depends on
    head: ResponseHead,
    request: RequestHead,
    *,
    policy: ForwardPolicy,
    ops: HeaderOps | None,
    keep_alive: bool,
    framing: Framing,
    values: Values,
) -> bytes:
    """The whole response head for the client, blank line included, interim or final.

    `framing` is how the body will be sent: an HTTP/1.0 client gets CLOSE where the upstream sent chunks.
    """
    content_less = head.status < _STATUS_FINAL_MIN or head.status == _STATUS_NO_CONTENT
    keeps_length = framing in (Framing.LENGTH, Framing.NONE) and not content_less
    plan = _plan(policy, ops, _WITH_LENGTH if keeps_length else _WITHOUT_LENGTH)
    passed = plan.strip(head.block)
    if head.nominated:
        passed = _without(passed, head.nominated)
    own = b"".join(
        (
            _connection_down(head, request, keep_alive=keep_alive),
            b"Transfer-Encoding: chunked\r\n" if framing is Framing.CHUNKED else b"",
            b"%b: %b\r\n" % (policy.request_id_header, values.request_id)
            if policy.request_id_header and values.request_id
            else b"",
            b"Via: 1.%d %b\r\n" % (head.minor_version, policy.via) if policy.via else b"",
        )
    )
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (
        head.status,
        head.reason,
        passed,
        plan.finish(own, values),
    )


def _connection_down(head: ResponseHead, request: RequestHead, *, keep_alive: bool) -> bytes:
    if head.status == SWITCHING_PROTOCOLS:
        return b"Connection: upgrade\r\nUpgrade: %b\r\n" % (head.upgrade or request.upgrade)
    if head.is_interim:
        return b""
    if head.status == _STATUS_UPGRADE_REQUIRED and head.upgrade:
        # RFC 9110 §15.5.22: a 426 MUST say which protocols are required.
        close = b"" if keep_alive else b"close, "
        return b"Connection: %bupgrade\r\nUpgrade: %b\r\n" % (close, head.upgrade)
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"" if request.minor_version else b"Connection: keep-alive\r\n"


def trailers(block: bytes) -> bytes:
    """`block` without fields that frame, route, authenticate or control (RFC 9110 §6.5.1)."""
    return _TRAILER_CUT.sub(b"", b"\n" + block)[1:] if block else b""


_TRAILER_CUT: Final = _cutter(_FORBIDDEN_TRAILERS, (b"x-forwarded-",))


def local_response(  # noqa: PLR0913 - each of them shows in the head
    status: int,
    *,
    content_type: bytes,
    body: bytes,
    keep_alive: bool,
    head_only: bool,
    extra: bytes = b"",
) -> bytes:
    """A whole response of our own. `extra` is a canonical block; `head_only` answers HEAD.

    Connection is always said, so that an HTTP/1.0 client understands it too.
    """
    content_less = status < _STATUS_FINAL_MIN or status in (_STATUS_NO_CONTENT, 304)
    content = b"" if content_less else b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body))
    return b"HTTP/1.1 %d %b\r\n%b%bConnection: %b\r\n\r\n%b" % (
        status,
        phrase(status),
        content,
        extra,
        b"keep-alive" if keep_alive else b"close",
        b"" if head_only or content_less else body,
    )


def phrase(status: int) -> bytes:
    """The reason phrase of a registered status, else b""."""
    """The reason phrase that goes with `status`; b"" for one without a name."""
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""

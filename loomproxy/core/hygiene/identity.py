"""Who the client is, whom we believe, and what we tell upstreams about it."""

import ipaddress
import re
from typing import Final

from loomproxy.core.hygiene.names import TOKEN, values_of
from loomproxy.core.hygiene.policy import Family, ForwardPolicy, Network, Peer, Values
from loomproxy.core.message import RequestHead

_HOPS_MAX: Final = (
    32  # of X-Forwarded-For or Forwarded, that are looked at: longer chains are made up
)
_REQUEST_ID: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HOST_AND_PORT: Final = re.compile(rb"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_PAIR: Final = re.compile(
    rb"[ \t]*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)"
    rb"=(\"(?:[^\"\\]|\\.)*\"|[^\"\\,; \t]++)[ \t]*+(?:;|$)"
)
_ELEMENT: Final = re.compile(rb"(?:%b)+" % _PAIR.pattern)
_ADDRESS: Final = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+|(.*)", re.DOTALL)


def is_trusted(ip: bytes, trusted: tuple[Network, ...]) -> bool:
    """Whether `ip` (text) is in one of the networks. An IPv4-mapped address counts as IPv4."""
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

    A trusted peer may say for whom it asks; whom it names may be trusted too, and so on from right
    to left, until somebody who is not, or who is not an address. An untrusted peer is the client,
    whatever it says.
    """
    found = peer.ip
    if not peer.trusted:
        return found
    for hop in reversed(_hops(block, policy)[-_HOPS_MAX:]):
        match = _ADDRESS.fullmatch(hop)
        assert match is not None
        said = match[1] or match[2] or match[3]
        # A zone (RFC 4007 §11) means something on one host only, and can be any text.
        address = None if b"%" in said else _address(said)
        if address is None:
            break
        found = str(address).encode()
        if not any(address in network for network in policy.trusted):
            break
    return found


def _hops(block: bytes, policy: ForwardPolicy) -> list[bytes]:
    """For whom each proxy before us asked, the nearest last; only the believed family tells."""
    if policy.believe is Family.RFC7239:
        return _forwarded_hops(b",".join(values_of(block, b"forwarded")))
    said = b",".join(values_of(block, b"x-forwarded-for"))
    return [hop.strip(b" \t") for hop in said.split(b",")] if said else []


def _forwarded_hops(said: bytes) -> list[bytes]:
    """`for` of each element of Forwarded (RFC 7239 §4); b"" where it does not say so, once.

    It is read from the right, as trust goes, so that no quote that a client left open reaches into
    what the proxies after it said. What is no element is a part of one: a comma may be quoted.
    """
    hops: list[bytes] = []
    rest = b""
    for piece in reversed(said.rsplit(b",", _HOPS_MAX)):
        rest = piece + b"," + rest if rest else piece.strip(b" \t")
        if _ELEMENT.fullmatch(rest):
            asked = [value for name, value in _PAIR.findall(rest) if name.lower() == b"for"]
            hops.append(asked[0].strip(b'"') if len(asked) == 1 else b"")
            rest = b""
    if rest:
        hops.append(b"")
    return hops[::-1]


def request_id(head: RequestHead, policy: ForwardPolicy, fresh: bytes) -> bytes:
    """The id that came with the request when it is one token of at most 128 bytes, else `fresh`."""
    memo = head.memo
    if memo.said_id_for is not policy:
        memo.said_id = _said_id(head.block, policy)
        memo.said_id_for = policy
    return memo.said_id or fresh


def _said_id(block: bytes, policy: ForwardPolicy) -> bytes:
    name = policy.request_id_header.lower()
    said = values_of(block, name) if name and name in block.lower() else []
    return said[0] if len(said) == 1 and _REQUEST_ID.fullmatch(said[0]) else b""


def identity_lines(head: RequestHead, peer: Peer, policy: ForwardPolicy, values: Values) -> bytes:
    """Who asks, and what for, in the fields that the policy wants.

    What a trusted peer said in the believed family goes on; the other begins anew with this hop.
    """
    lines = _forwarded_line(head, peer, policy) if policy.forwarded else b""
    return lines + _x_forwarded_lines(head, peer, policy, values) if policy.x_forwarded else lines


def _forwarded_line(head: RequestHead, peer: Peer, policy: ForwardPolicy) -> bytes:
    own = _forwarded(peer, head.authority)
    if peer.trusted and policy.believe is Family.RFC7239:
        own = _joined([*values_of(head.block, b"forwarded"), own])
    return b"Forwarded: %b\r\n" % own


def _x_forwarded_lines(
    head: RequestHead, peer: Peer, policy: ForwardPolicy, values: Values
) -> bytes:
    scheme, authority = peer.scheme, head.authority
    port = b"%d" % peer.local_port if peer.local_port else b""
    forwarded_for = peer.ip
    if peer.trusted and policy.believe is Family.X_FORWARDED:
        scheme = _said(head.block, b"x-forwarded-proto", TOKEN, scheme).lower()
        port = _said(head.block, b"x-forwarded-port", _PORT, port)
        authority = _said(head.block, b"x-forwarded-host", _HOST_AND_PORT, authority)
        forwarded_for = _joined([*values_of(head.block, b"x-forwarded-for"), peer.ip])
    return b"%b%bX-Forwarded-Proto: %b\r\n%b%b" % (
        b"X-Forwarded-For: %b\r\n" % forwarded_for if forwarded_for else b"",
        b"X-Real-IP: %b\r\n" % values.client_ip if values.client_ip else b"",
        scheme,
        b"X-Forwarded-Host: %b\r\n" % authority if authority else b"",
        b"X-Forwarded-Port: %b\r\n" % port if port else b"",
    )


def _said(block: bytes, name: bytes, valid: re.Pattern[bytes], otherwise: bytes) -> bytes:
    """What a trusted peer said in `name`, if it said it once and validly."""
    values = values_of(block, name)
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

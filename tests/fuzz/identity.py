"""Who the client is, whatever it says."""

import ipaddress
import re
from typing import Final

from loomproxy.core.http1 import slow
from loomproxy.core.http1.framing import canonical_block
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import Family, ForwardPolicy, Peer, Values, client_ip, request_id
from loomproxy.core.hygiene.identity import identity_lines
from loomproxy.core.message import RequestHead, fields

_NAMES: Final = (
    b"Forwarded",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Real-IP",
    b"X-Request-ID",
    b"Via",
)
_TRUSTED: Final = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
_PEER: Final = b"10.0.0.1"
_CLIENT: Final = b"198.51.100.7"
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


def identity(given: bytes) -> None:
    """Nobody is believed but a trusted peer; what we say of the client is one valid line each."""
    block = canonical_block(_lines(given))
    if block is None:
        return
    for believe in Family:
        for ours in (True, False):
            policy = ForwardPolicy(
                x_forwarded=ours, forwarded=not ours, trusted=_TRUSTED, believe=believe
            )
            _judged(block, policy)


def _lines(given: bytes) -> bytes:
    """One field line of each line, whose first byte chooses the name."""
    lines = [line for line in given.replace(b"\r", b"").split(b"\n") if line]
    return b"".join(b"%b: %b\r\n" % (_NAMES[line[0] % len(_NAMES)], line[1:]) for line in lines)


def _judged(block: bytes, policy: ForwardPolicy) -> None:
    stranger = Peer(b"203.0.113.9", 1, trusted=False)
    friend = Peer(_PEER, 1, trusted=True, local_port=80)
    assert client_ip(block, stranger, policy) == stranger.ip
    ipaddress.ip_address(client_ip(block, friend, policy).decode())
    # The trusted peer names an untrusted address last: nothing before it may change that.
    added = (
        b"Forwarded: for=%b\r\n" if policy.believe is Family.RFC7239 else b"X-Forwarded-For: %b\r\n"
    )
    assert client_ip(block + added % _CLIENT, friend, policy) == _CLIENT
    read = slow.request(b"GET / HTTP/1.1\r\nHost: a\r\n" + block + b"\r\n", Limits())
    if not isinstance(read, RequestHead):
        return
    said = request_id(read, policy, b"fresh")
    assert _TOKEN.fullmatch(said)
    for peer in (stranger, friend):
        lines = identity_lines(read, peer, policy, Values(client_ip=_CLIENT, request_id=said))
        assert canonical_block(lines) == lines
        names = [name for name, _ in fields(lines)]
        assert len(set(names)) == len(names)
        if peer is stranger:
            assert stranger.ip in lines

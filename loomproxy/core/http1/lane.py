"""The common head, recognised by a few compiled patterns; None for any other, and `slow` decides.

The contract that makes this safe: **what the lane accepts, h11 reads the same way** (method,
target, fields and framing), and nothing that `slow` refuses. So it accepts less than the RFCs
allow: HTTP/1.1 (for responses also 1.0), CRLF, one space after each colon, no whitespace at the end
of a value, visible ASCII and obs-text, no field twice that may come once, plain host names. A
property test compares both on generated and mutated heads.

Speed comes from three things: the grammar is checked by one match that tries nothing twice; only
the few fields that framing and hop-by-hop rules need are picked out, by one search whose first byte
is a literal LF (which `re` finds with memchr); and what was picked from the block of a request is
kept by the caller, who offers it again when the next one on the connection carries the same block.

In the patterns characters are taken possessively, groups never are: before CPython 3.11.5 a
possessively repeated group that fails half-way leaves what it had read as read, so that it accepts
what it must not. What a group may begin with cannot follow it otherwise, so that a head that fails
is given up in steps as many as it has groups.
"""

import re
from typing import Final

from loomproxy.core.http1.framing import response_framing
from loomproxy.core.http1.limits import LENGTH_DIGITS_MAX, METHOD_BYTES_MAX, Limits
from loomproxy.core.hygiene import any_case, nominations, usual_nominations
from loomproxy.core.message import (
    CHUNKED,
    CLOSE,
    LENGTH,
    NONE,
    TUNNEL,
    Framing,
    RequestHead,
    ResponseHead,
)

_SEGMENT: Final = rb"[!$&'()*+,\-.0-9:;=@A-Z_a-z~]"
_ESCAPE: Final = rb"%(?!00|2[EeFf]|5[Cc])[0-9A-Fa-f]{2}"
_PATH: Final = rb"(?>(?:/(?!\.{1,2}(?:[/;? ]))%b*+(?:%b%b*+)*)+)" % (_SEGMENT, _ESCAPE, _SEGMENT)
_REQUEST_LINE: Final = re.compile(
    rb"([A-Z]{1,%d}+) (?!//)((%b)(?:\?([!\"$-~]*+))?) HTTP/1\.1\r\n" % (METHOD_BYTES_MAX, _PATH)
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?\r\n")

_VALUE: Final = rb"(?: [!-~\x80-\xff][\t -~\x80-\xff]*+(?<![ \t]))?"
# Request names with `_` or other marks go the slow way: some recipients take `Content_Length` for
# the real one.
_REQUEST_BLOCK: Final = re.compile(rb"(?:[0-9A-Za-z-]++:%b\r\n)+" % _VALUE)
_RESPONSE_BLOCK: Final = re.compile(rb"(?:[!#$%%&'*+.^_`|~0-9A-Za-z-]++:%b\r\n)*" % _VALUE)

_REQUEST_PICK: Final = re.compile(
    rb"\n(%b): ?([^\r]*+)"
    % any_case(
        b"host", b"content-length", b"connection", b"transfer-encoding", b"upgrade", b"expect"
    )
)
_RESPONSE_PICK: Final = re.compile(
    rb"\n(%b): ?([^\r]*+)"
    % any_case(b"content-length", b"connection", b"transfer-encoding", b"upgrade")
)
_AUTHORITY: Final = re.compile(
    rb"([0-9A-Za-z_-]++(?:\.[0-9A-Za-z_-]++)*)(?::(?:[1-5][0-9]{4}|6[0-4][0-9]{3}|[0-9]{1,4}))?"
)
_FIELD_BYTES_MIN: Final = (
    4  # `a:` and CRLF: a block with fewer bytes than that per field allowed needs no count
)
_UNUSUAL_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))
_STATUS_NO_CONTENT: Final = 204


def request(raw: bytes, limits: Limits, known: RequestHead | None) -> RequestHead | None:
    """Read the request head `raw` (blank line included), or return None.

    `known` is what this function returned for an earlier head on the connection, or None.
    """
    line = _REQUEST_LINE.match(raw)
    if line is None:
        return None
    method, target, path, query = line.groups(b"")
    if len(target) > limits.target_bytes_max or method in _UNUSUAL_METHODS:
        return None
    if method == b"OPTIONS" and b"max-forwards" in raw.lower():
        return None
    block = raw[line.end() : -2]
    if known is None or block != known.block:
        return _picked(raw, line, block, limits)
    return RequestHead(
        method,
        target,
        path,
        query,
        1,
        known.authority,
        known.host,
        known.framing,
        known.body_bytes,
        known.keep_alive,
        known.expect_continue,
        known.upgrade,
        (),
        known.block,
        known.memo,
    )


def _picked(raw: bytes, line: re.Match[bytes], block: bytes, limits: Limits) -> RequestHead | None:
    """The head with what was picked out of its block."""
    if not _REQUEST_BLOCK.fullmatch(block) or _too_many(block, limits):
        return None
    found = _REQUEST_PICK.findall(raw, line.end() - 1)
    picked = {name.lower(): value for name, value in found}
    authority = _AUTHORITY.fullmatch(picked.get(b"host", b""))
    if authority is None or len(picked) != len(found):
        return None
    length: tuple[Framing, int] | None = (NONE, 0)
    if b"content-length" in picked or b"transfer-encoding" in picked:
        length = _length(picked, limits)
    expect = picked.get(b"expect")
    if length is None or (expect is not None and expect.lower() != b"100-continue"):
        return None
    close, upgrade = False, b""
    connection = picked.get(b"connection")
    if connection is not None:
        usual = usual_nominations(connection)
        if usual is None:
            return None
        close, _, upgrades, _ = usual
        upgrade = picked.get(b"upgrade", b"").lower() if upgrades else b""
    return RequestHead(
        line[1],
        line[2],
        line[3],
        line[4] or b"",
        1,
        authority[0],
        authority[1].lower(),
        length[0],
        length[1],
        not close,
        expect is not None,
        upgrade,
        (),
        block,
    )


def _length(picked: dict[bytes, bytes], limits: Limits) -> tuple[Framing, int] | None:
    """Framing and length when they are beyond doubt and within bounds."""
    digits = picked.get(b"content-length")
    coding = picked.get(b"transfer-encoding")
    if digits is None:
        assert coding is not None
        return (CHUNKED, 0) if coding == b"chunked" else None
    if coding is not None or not digits.isdigit() or len(digits) > LENGTH_DIGITS_MAX:
        return None
    length = int(digits)
    if length > limits.body_bytes_max:
        return None
    return (LENGTH if length else NONE), length


def response(raw: bytes, method: bytes, limits: Limits) -> ResponseHead | None:
    """Read the response head `raw` (blank line included) that answers `method`, or return None."""
    line = _STATUS_LINE.match(raw)
    if line is None:
        return None
    minor, status_digits, reason = line.groups(b"")
    line_end = line.end()
    block = raw[line_end:-2]
    if not _RESPONSE_BLOCK.fullmatch(block) or _too_many(block, limits):
        return None
    found = _RESPONSE_PICK.findall(raw, line_end - 1)
    picked = {name.lower(): value for name, value in found}
    if len(picked) != len(found):
        return None
    minor_version = 1 if minor == b"1" else 0
    status = int(status_digits)
    chunked = False
    length: int | None = None
    if b"content-length" in picked or b"transfer-encoding" in picked:
        found_length = _length(picked, limits)
        if found_length is None:
            return None
        chunked = found_length[0] is CHUNKED
        length = None if chunked else found_length[1]
        if (chunked and not minor_version) or (status == _STATUS_NO_CONTENT and length != 0):
            return None
    framing = response_framing(status, method, length, chunked=chunked)
    keep_alive, upgrade, nominated = _persistence(picked, minor_version, framing)
    return ResponseHead(
        status,
        reason,
        minor_version,
        framing,
        (length or 0) if framing is LENGTH else 0,
        keep_alive,
        upgrade,
        nominated,
        block,
    )


def _persistence(
    picked: dict[bytes, bytes], minor_version: int, framing: Framing
) -> tuple[bool, bytes, tuple[bytes, ...]]:
    """Whether the connection outlives the response, its Upgrade, and what Connection nominates."""
    connection = picked.get(b"connection")
    ends_here = framing is CLOSE or framing is TUNNEL
    if connection is None:
        return minor_version == 1 and not ends_here, b"", ()
    close, keep, upgrades, nominated = nominations(connection)
    keep_alive = (minor_version == 1 or keep) and not close and not ends_here
    return keep_alive, picked.get(b"upgrade", b"").lower() if upgrades else b"", nominated


def _too_many(block: bytes, limits: Limits) -> bool:
    """Whether the block has more fields than `fields_max`."""
    most = limits.fields_max
    return len(block) > most * _FIELD_BYTES_MIN and block.count(b"\r\n") > most

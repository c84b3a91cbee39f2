"""Every head that the lane does not recognise: h11 reads it, behind our refusals.

h11 forgives what an endpoint may forgive and a proxy must not, because the next recipient may read
it otherwise: bare LF, Content-Length together with Transfer-Encoding, Transfer-Encoding on
HTTP/1.0, obs-fold, control characters in values, whitespace before a colon. Such heads are refused
before h11 sees them. So are names that become another name where `-`, `_` and `.` are one (CGI,
WSGI, PHP), and what `target` refuses. What passes leaves here in canonical form. `docs/http.md` has
all of it, with the reasons.
"""

import re
from typing import Final, NamedTuple

import h11

from loomproxy.core import fault as faults
from loomproxy.core.http1.framing import field_line, response_framing
from loomproxy.core.http1.limits import (
    CONNECTION_OPTIONS_MAX,
    HOPS_DIGITS_MAX,
    LENGTH_DIGITS_MAX,
    METHOD_BYTES_MAX,
    Limits,
    Refusal,
)
from loomproxy.core.http1.refuse import Unacceptable, malformed, shown, unacceptable
from loomproxy.core.http1.target import authority_of, checked_path, host_of, origin_form
from loomproxy.core.hygiene import SHADOWED, misnominated, nominations
from loomproxy.core.message import Framing, RequestHead, ResponseHead

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD: Final = re.compile(rb"\r\n[ \t]")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE: Final = re.compile(rb"HTTP/([0-9])\.([0-9]) [1-5][0-9][0-9](?: [^\r\n]*)?")
_STATUS_LINE_BEGIN: Final = b"HTTP/1."
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_ALPHANUMERIC: Final = re.compile(rb"[^0-9a-z]")
_LINE_ENDS_BYTES: Final = 2
_H11_WORDS_BYTES_MAX: Final = 120
_STATUS_NO_CONTENT: Final = 204
_UNSERVED: Final = frozenset((b"CONNECT", b"TRACE"))
"""Methods that are no gateway's to serve: a tunnel to anywhere (RFC 9110 §9.3.6), and a mirror that
shows a script what we add for the upstream (§9.3.8 forbids to echo what is sensitive)."""


class _Fields(NamedTuple):
    """The fields of a head, as h11 read them."""

    pairs: list[tuple[bytes, bytes]]  # names as written, values without outer whitespace

    def all(self, name: bytes) -> list[bytes]:
        """Every value of `name` (lower case)."""
        return [value for have, value in self.pairs if have.lower() == name]

    def only(self, name: bytes) -> bytes | None:
        """The value of a field that came at most once; None when it is absent."""
        values = self.all(name)
        assert len(values) <= 1
        return values[0] if values else None

    def listed(self, name: bytes) -> bytes:
        """All values of a list field as one."""
        return b",".join(self.all(name))

    def block(self) -> bytes:
        """The canonical block."""
        return b"".join([field_line(name, value) for name, value in self.pairs])


def request(raw: bytes, limits: Limits) -> RequestHead | Refusal:
    """Read the request head `raw`, blank line included."""
    try:
        return _request(raw, limits)
    except Unacceptable as unacceptable:
        return unacceptable.refusal


def response(raw: bytes, method: bytes, limits: Limits) -> ResponseHead | Refusal:
    """Read the response head `raw`, blank line included, that answers `method`."""
    try:
        return _response(raw, method, limits)
    except Unacceptable as unacceptable:
        return Refusal(faults.UPSTREAM_MALFORMED, unacceptable.refusal.detail)


def hopeless(data: bytes, at: int, searched: int, end: int) -> str:
    """Why the head in `data[at:end]`, not whole yet, can never become one; "" when it still can.

    What stands before `searched` has been looked at before, and is not looked at again: a head that
    trickles in must not cost more with each byte.
    """
    if not ord(" ") < data[at] <= ord("~"):
        return f"the head begins with {data[at : at + 8]!r}, not with a name"
    if _BARE_LF.search(data, max(at, searched), end):
        return "a line of the head ends in a bare LF"
    return ""


def no_answer(data: bytes, at: int) -> str:
    """Why what begins in `data[at:]` is no response of HTTP/1, whatever follows; "" when it may."""
    begin = data[at : at + len(_STATUS_LINE_BEGIN)]
    if _STATUS_LINE_BEGIN.startswith(begin):
        return ""
    return f"the answer begins with {begin!r}, not with {_STATUS_LINE_BEGIN!r}"


def _request(raw: bytes, limits: Limits) -> RequestHead:
    line, lines = _lines(raw, limits)
    method, target, minor_version = _request_line(line, limits)
    declared = _declared(lines, minor_version)
    _shadows(declared)
    event = _event(h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw)), raw)
    assert isinstance(event, h11.Request)
    fields = _fields_of(event, len(lines))
    authority = _host(fields, minor_version)
    target, authority, from_target = origin_form(method, target, authority)
    path, _, query = target.partition(b"?")
    if from_target:
        fields.pairs.insert(0, (b"Host", authority))
    framing, body_bytes = _request_framing(fields, limits)
    expect_continue = _expect(fields, minor_version)
    close, keep, upgrades, nominated = _nominations(fields)
    for_us = method == b"OPTIONS" and _hops_are_over(fields)
    return RequestHead(
        method=method,
        target=target,
        path=checked_path(path),
        query=query,
        minor_version=minor_version,
        authority=authority,
        host=host_of(authority),
        framing=framing,
        body_bytes=body_bytes,
        keep_alive=(minor_version == 1 or keep) and not close,
        expect_continue=expect_continue,
        # RFC 9110 §7.8: a server MUST ignore an Upgrade field received in an HTTP/1.0 request.
        upgrade=fields.listed(b"upgrade").lower() if upgrades and minor_version else b"",
        nominated=nominated,
        block=fields.block(),
        for_us=for_us,
    )


def _response(raw: bytes, method: bytes, limits: Limits) -> ResponseHead:
    line, lines = _lines(raw, limits)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        malformed(f"{shown(line)} is not a status line")
    if match[1] != b"1" or match[2] not in b"01":
        malformed(f"{shown(line)} is not of HTTP/1.0 or HTTP/1.1")
    minor_version = int(match[2])
    _declared(lines, minor_version)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw))
    # h11 accepts 101 only when an upgrade was proposed; whether it was is the exchange's question.
    proposal = [("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "x")]
    connection.send(h11.Request(method=method, target=b"/", headers=proposal))
    connection.send(h11.EndOfMessage())
    event = _event(connection, raw)
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    fields = _fields_of(event, len(lines))
    chunked, length = _length(fields, limits)
    framing = response_framing(event.status_code, method, length, chunked=chunked)
    close, keep, upgrades, nominated = nominations(fields.listed(b"connection"))
    # RFC 9112 §6.1, RFC 9110 §8.6: a 204 MUST NOT announce a body. Where one does, the body may
    # come after all, and must not be taken for the next answer.
    announced = event.status_code == _STATUS_NO_CONTENT and (chunked or bool(length))
    ends_here = announced or framing in (Framing.CLOSE, Framing.TUNNEL)
    return ResponseHead(
        status=event.status_code,
        reason=bytes(event.reason),
        minor_version=minor_version,
        framing=framing,
        body_bytes=length or 0 if framing is Framing.LENGTH else 0,
        keep_alive=(minor_version == 1 or keep) and not close and not ends_here,
        upgrade=fields.listed(b"upgrade").lower() if upgrades else b"",
        nominated=nominated,
        block=fields.block(),
    )


def _lines(raw: bytes, limits: Limits) -> tuple[bytes, list[bytes]]:
    """The start line and the field lines, after refusing what no line may hold."""
    why = hopeless(raw, 0, 0, len(raw))
    if why:
        malformed(why)
    if _BARE_CR.search(raw):
        malformed("a CR in the head is not followed by LF")
    control = _CONTROL.search(raw)
    if control:
        malformed(f"the head holds the control character {control[0]!r}")
    if _FOLD.search(raw):
        # RFC 9112 §5.2: a server MUST reject obs-fold or replace it.
        malformed("a field line is folded, or the first one begins with whitespace")
    line, *lines = raw.split(b"\r\n")[:-_LINE_ENDS_BYTES]
    if len(lines) > limits.fields_max:
        unacceptable(faults.HEAD_TOO_LARGE, f"{len(lines)} fields are more than fields_max")
    return line, lines


def _request_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        malformed(f"{shown(line)} is not a request line")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        unacceptable(faults.VERSION_UNSUPPORTED, f"{shown(line[-8:])} is not HTTP/1.0 or HTTP/1.1")
    if method in _UNSERVED or len(method) > METHOD_BYTES_MAX:
        unacceptable(faults.METHOD_UNSUPPORTED, f"the method is {shown(method)}")
    if len(target) > limits.target_bytes_max:
        unacceptable(faults.TARGET_TOO_LONG, f"the target has {len(target)} bytes")
    return method, target, int(minor)


def _declared(lines: list[bytes], minor_version: int) -> set[bytes]:
    """The names of all fields, in lower case, after refusing what h11 would forgive among them."""
    names: list[bytes] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name):
            # RFC 9112 §5.1: no whitespace is allowed between the field name and colon.
            malformed(f"{shown(line)} is not a field line")
        name = name.lower()
        if name == b"content-length":
            _number(value.strip(b" \t"))
        names.append(name)
    coding = b"transfer-encoding" in names
    if coding and not minor_version:
        # RFC 9112 §6.1: such a message MUST be treated as if the framing is faulty.
        malformed("Transfer-Encoding came with HTTP/1.0")
    if coding and b"content-length" in names:
        # RFC 9112 §6.1: a server MAY reject it; §11.2 says why a proxy should.
        malformed("Content-Length and Transfer-Encoding came together")
    for name in (b"content-length", b"transfer-encoding"):
        if names.count(name) > 1:
            malformed(f"{name.decode()} came {names.count(name)} times, expected once")
    return set(names)


def _number(digits: bytes) -> None:
    if not digits.isdigit():
        # h11 reads `5, 5` as 5, which RFC 9112 §6.3 allows; we need no such peers.
        malformed(f"Content-Length is {shown(digits)}, not one number")
    if len(digits) > LENGTH_DIGITS_MAX:
        unacceptable(faults.BODY_TOO_LARGE, f"Content-Length is {shown(digits)}")


def _shadows(names: set[bytes]) -> None:
    for name in names:
        plain = _NOT_ALPHANUMERIC.sub(b"-", name)
        if plain != name and (plain in SHADOWED or plain.startswith(b"x-forwarded-")):
            malformed(f"the field name {shown(name)} can be taken for {plain.decode()}")


def _event(connection: h11.Connection, raw: bytes) -> object:
    try:
        connection.receive_data(raw)
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        unsupported = error.error_status_hint == faults.CODING_UNSUPPORTED.status
        fault = faults.CODING_UNSUPPORTED if unsupported else faults.REQUEST_MALFORMED
        unacceptable(fault, str(error)[:_H11_WORDS_BYTES_MAX])


def _fields_of(
    event: h11.Request | h11.Response | h11.InformationalResponse, lines: int
) -> _Fields:
    fields = _Fields(list(event.headers.raw_items()))
    assert len(fields.pairs) == lines
    return fields


def _host(fields: _Fields, minor_version: int) -> bytes:
    authority = fields.only(b"host")
    if authority is None:
        # h11 has refused an HTTP/1.1 request without Host (RFC 9112 §3.2).
        assert not minor_version
        return b""
    return authority_of(authority)


def _length(fields: _Fields, limits: Limits) -> tuple[bool, int | None]:
    """Whether the body is chunked, and its announced length."""
    if fields.only(b"transfer-encoding") is not None:
        return True, None  # h11 has refused any coding but `chunked`
    digits = fields.only(b"content-length")
    if digits is None:
        return False, None
    if int(digits) > limits.body_bytes_max:
        unacceptable(faults.BODY_TOO_LARGE, f"Content-Length is {shown(digits)}")
    return False, int(digits)


def _request_framing(fields: _Fields, limits: Limits) -> tuple[Framing, int]:
    chunked, length = _length(fields, limits)
    if chunked:
        return Framing.CHUNKED, 0
    return (Framing.LENGTH, length) if length else (Framing.NONE, 0)


def _expect(fields: _Fields, minor_version: int) -> bool:
    """Whether 100-continue is expected; any other expectation is refused (RFC 9110 §10.1.1)."""
    expect = fields.listed(b"expect")
    if not expect or not minor_version:
        return False
    if expect.lower() != b"100-continue":
        unacceptable(faults.EXPECTATION_UNSUPPORTED, f"Expect is {shown(expect)}")
    return True


def _nominations(fields: _Fields) -> tuple[bool, bool, bool, tuple[bytes, ...]]:
    connection = fields.listed(b"connection")
    if connection.count(b",") >= CONNECTION_OPTIONS_MAX:
        malformed(f"Connection has more than {CONNECTION_OPTIONS_MAX} options")
    wrong = misnominated(connection)
    if wrong:
        # RFC 9110 §7.6.1: a sender MUST NOT nominate a field that is meant for all recipients.
        malformed(f"Connection names {shown(wrong)}, which does not end at this hop")
    return nominations(connection)


def _hops_are_over(fields: _Fields) -> bool:
    """Count Max-Forwards down (RFC 9110 §7.6.2); whether it was 0, so that the answer is ours."""
    said = fields.listed(b"max-forwards")
    if not fields.all(b"max-forwards"):
        return False
    if not said.isdigit() or len(said) > HOPS_DIGITS_MAX:
        malformed(f"Max-Forwards is {shown(said)}, not one number")
    left = int(said)
    fields.pairs[:] = [
        (name, b"%d" % max(0, left - 1)) if name.lower() == b"max-forwards" else (name, value)
        for name, value in fields.pairs
    ]
    return not left

"""The head of a request to a provider: ours, with a few lines of the client's.

A guest gets what it needs and no more. The client's credentials and cookies are for us; what it
accepts is ours to choose, for we read the answer. Of its lines only those pass that say for whom we
ask (which hygiene looks at next) and those that join traces of several programs together.
"""

import hashlib
import re
from typing import Final

from loomproxy.core.message import LENGTH, RequestHead, field

_PASSES: Final = re.compile(
    rb"(?:forwarded|x-forwarded-[^:\r\n]*+|x-real-ip|via):[^\n]*+\n", re.IGNORECASE
)
_TRACEPARENT: Final = re.compile(rb"[0-9a-e][0-9a-f]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE: Final = (b"-" + b"0" * 32 + b"-", b"-" + b"0" * 16 + b"-")
_TRACESTATE_BYTES_MAX: Final = 512
"""W3C Trace Context §3.3.1.1: so much SHOULD be passed on at least, and more is nobody's need."""


def lines_for_provider(request: RequestHead, request_id: bytes, seed: bytes) -> bytes:
    """The block of a client's lines that a provider gets, trace included; the same each attempt.

    `seed` differs with each exchange, whatever ids clients bring. To a provider the id is called
    X-Request-ID, whatever the operator calls it elsewhere; hygiene writes it once.
    """
    lines = request.block.splitlines(keepends=True)
    return b"%bX-Request-ID: %b\r\n%b" % (
        b"".join(line for line in lines if _PASSES.fullmatch(line)),
        request_id,
        _trace(request.block, request_id + seed),
    )


def _trace(block: bytes, seed: bytes) -> bytes:
    """The client's trace where it has a valid one (W3C Trace Context §3.2), else a new one."""
    parent = field(block, b"traceparent") or b""
    if _TRACEPARENT.fullmatch(parent) and not any(nothing in parent for nothing in _NO_TRACE):
        state = field(block, b"tracestate") or b""
        known = b"tracestate: %b\r\n" % state if 0 < len(state) <= _TRACESTATE_BYTES_MAX else b""
        return b"traceparent: %b\r\n%b" % (parent, known)
    dice = hashlib.blake2b(seed, digest_size=24).hexdigest().encode()
    return b"traceparent: 00-%b-%b-01\r\n" % (dice[:32], dice[32:])


def for_provider(
    request: RequestHead,
    lines: bytes,
    secrets: tuple[tuple[bytes, bytes], ...],
    *,
    target: bytes,
    body_bytes: int,
    stream: bool,
) -> RequestHead:
    """The head for one endpoint, before hygiene has passed it."""
    # RFC 9110 §12.5.3: who says nothing of codings accepts them all.
    block = b"Content-Type: application/json\r\nAccept: %b\r\nAccept-Encoding: identity\r\n%b%b" % (
        b"text/event-stream" if stream else b"application/json",
        lines,
        b"".join(b"%b: %b\r\n" % secret for secret in secrets),
    )
    return RequestHead(
        method=b"POST",
        target=target,
        path=target.partition(b"?")[0],
        query=target.partition(b"?")[2],
        minor_version=request.minor_version,  # As Via says: the version in which we were asked.
        authority=request.authority,
        host=request.host,
        framing=LENGTH,
        body_bytes=body_bytes,
        keep_alive=True,
        expect_continue=False,
        upgrade=b"",
        nominated=(),
        block=block,
    )

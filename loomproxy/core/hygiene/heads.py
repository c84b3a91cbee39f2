"""The heads that we send: to the upstream, to the client, and of our own."""

import http
import re
from collections.abc import Callable
from typing import Final

from loomproxy.core.hygiene.identity import identity_lines
from loomproxy.core.hygiene.plan import (
    FROM_ANYBODY,
    FROM_TRUSTED,
    THE_ID,
    WITH_LENGTH,
    WITHOUT_LENGTH,
    plan_for,
)
from loomproxy.core.hygiene.policy import ForwardPolicy, HeaderOps, Peer, Values
from loomproxy.core.message import (
    CHUNKED,
    LENGTH,
    NONE,
    SWITCHING_PROTOCOLS,
    Framing,
    RequestHead,
    ResponseHead,
)

_WITH_CONTENT: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_STATUS_NO_CONTENT: Final = 204
_STATUS_FINAL_MIN: Final = 200
_STATUS_UPGRADE_REQUIRED: Final = 426
_DATE: Final = re.compile(rb"\n[Dd][Aa][Tt][Ee]:")
_PHRASES: Final = {
    413: b"Content Too Large",
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
}
"""As RFC 9110 has them; Python before 3.13 has those of its predecessors."""


def request_up(  # noqa: PLR0913 - one call per head, with all that a head depends on
    head: RequestHead,
    *,
    peer: Peer,
    policy: ForwardPolicy,
    target: bytes,
    host: bytes | None,
    ops: HeaderOps | None,
    upgrade: bool,
    request_id: bytes,
    values: Callable[[], Values],
) -> bytes:
    """The whole request head for the upstream, blank line included.

    `target` is in origin form; `host` replaces the client's (None keeps it); with `upgrade` the
    client's Upgrade is passed on. Expect passes when a body follows: the upstream's 100 (Continue)
    is then relayed. `values` is asked only where this block has not passed in the same way before.
    """
    memo, method = head.memo, head.method
    depends_on = (policy, ops, peer, host, upgrade, method in _WITH_CONTENT, not request_id)
    if depends_on == memo.passed_for:
        memo.passed_for = depends_on  # Equal policies are the same from now on, after a reload.
        pieces = memo.passed
    else:
        plan = plan_for(policy, ops, FROM_TRUSTED if peer.trusted else FROM_ANYBODY)
        said = values()
        own = _own_up(head, peer, policy, said, upgrade=upgrade)
        authority = head.authority if host is None else host
        passed = plan.passed(head.block, head.nominated) + plan.finish(own, said)
        pieces = (b"Host: %b\r\n%b\r\n" % (authority, passed)).split(THE_ID)
        if plan.lasts:
            memo.passed, memo.passed_for = pieces, depends_on
    return b"".join((method, b" ", target, b" HTTP/1.1\r\n", request_id.join(pieces)))


def _own_up(
    head: RequestHead, peer: Peer, policy: ForwardPolicy, values: Values, *, upgrade: bool
) -> bytes:
    """The lines that we write ourselves into a request."""
    return b"".join(
        (
            _connection_up(head) if upgrade and head.upgrade else b"",
            _framing_up(head),
            identity_lines(head, peer, policy, values),
            _id_and_via(head, policy, values),
        )
    )


def _connection_up(head: RequestHead) -> bytes:
    return b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade


def _framing_up(head: RequestHead) -> bytes:
    if head.framing is NONE:
        # RFC 9110 §8.6: methods that anticipate content say that there is none.
        return b"Content-Length: 0\r\n" if head.method in _WITH_CONTENT else b""
    expect = b"Expect: 100-continue\r\n" if head.expect_continue else b""
    if head.framing is CHUNKED:
        return b"Transfer-Encoding: chunked\r\n" + expect
    return b"Content-Length: %d\r\n%b" % (head.body_bytes, expect)


def _id_and_via(head: RequestHead | ResponseHead, policy: ForwardPolicy, values: Values) -> bytes:
    name = policy.request_id_header
    return b"%b%b" % (
        b"%b: %b\r\n" % (name, THE_ID) if name and values.request_id else b"",
        b"Via: 1.%d %b\r\n" % (head.minor_version, policy.via) if policy.via else b"",
    )


def response_down(  # noqa: PLR0913 - one call per head, with all that a head depends on
    head: ResponseHead,
    request: RequestHead,
    *,
    policy: ForwardPolicy,
    ops: HeaderOps | None,
    keep_alive: bool,
    framing: Framing,
    request_id: bytes,
    values: Callable[[], Values],
    date: bytes = b"",
) -> bytes:
    """The whole response head for the client, blank line included, interim or final.

    `framing` is how the body will be sent: an HTTP/1.0 client gets CLOSE where the upstream sent
    chunks. A final response without Date gets `date` (RFC 9110 §6.6.1), unless that is b"".
    """
    memo = head.memo
    asked = (request.minor_version, request.upgrade, not request_id)
    depends_on = (policy, ops, keep_alive, framing, date, asked)
    if depends_on == memo.passed_for:
        memo.passed_for = depends_on  # As above.
        return request_id.join(memo.passed)
    said = values()
    content_less = head.status < _STATUS_FINAL_MIN or head.status == _STATUS_NO_CONTENT
    keeps_length = (framing is LENGTH or framing is NONE) and not content_less
    plan = plan_for(policy, ops, WITH_LENGTH if keeps_length else WITHOUT_LENGTH)
    passed = plan.passed(head.block, head.nominated)
    own = b"".join(
        (
            _connection_down(head, request, keep_alive=keep_alive),
            b"Transfer-Encoding: chunked\r\n" if framing is CHUNKED else b"",
            b"Date: %b\r\n" % date
            if date and head.status >= _STATUS_FINAL_MIN and not _DATE.search(b"\n" + passed)
            else b"",
            _id_and_via(head, policy, said),
        )
    )
    block = passed + plan.finish(own, said)
    pieces = (b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, block)).split(THE_ID)
    if plan.lasts:
        memo.passed, memo.passed_for = pieces, depends_on
    return request_id.join(pieces)


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


def local_response(
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
    content = (
        b""
        if content_less
        else b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, len(body))
    )
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
    try:
        return _PHRASES.get(status) or http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""

"""Lines of the access log: an outcome as JSON or in the combined form."""

import datetime
import functools
import re
from collections.abc import Callable
from typing import Final

import orjson

from loomproxy.core.message import RequestHead, field
from loomproxy.core.outcome import Outcome, Spent
from loomproxy.worker.clock import monotonic, wall

Line = Callable[[Outcome], bytes]
"""Makes one line, with its end."""


def line_for(name: str) -> Line:
    """The form that the configuration names: `json` or `combined`."""
    return {"json": json_line, "combined": combined_line}[name]


def json_line(outcome: Outcome) -> bytes:
    """All there is to know, one JSON object; milliseconds, null where a phase never came.

    Every exchange pays for its line, so it is put together from what most lines share: pieces made
    of few different values are made once and remembered.
    """
    head = outcome.head
    return b"".join(
        (
            b'{"time":"',
            _iso_millisecond(int((outcome.begun_at + _offset_s) * 1000)),
            b'","request_id":"',
            outcome.request_id,
            b'","client_ip":"',
            outcome.client_ip,
            _NO_REQUEST if head is None else _asked_of(head),
            _target_and_protocol(head),
            _what_became(
                outcome.status,
                outcome.termination,
                outcome.fault,
                outcome.route,
                outcome.pool,
                outcome.endpoint,
                outcome.attempts,
                outcome.reused,
            ),
            b"%d" % outcome.request_bytes if outcome.request_bytes else b"0",
            b',"response_bytes":%d' % outcome.response_bytes,
            b"" if outcome.chat is None else _chat(outcome.chat),
            *_times(outcome),
        )
    )


def _chat(spent: Spent) -> bytes:
    known = orjson.dumps(
        {
            "provider": spent.provider,
            "model": spent.model,
            "stream": spent.stream,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "usage_from": spent.usage_from,
            "provider_error": spent.provider_error or None,
        }
    )
    return b",%b" % known[1:-1]


_NO_REQUEST: Final = b'","method":null,"host":null'


def _target_and_protocol(head: RequestHead | None) -> bytes:
    if head is None:
        return b',"target":null,"protocol":null'
    target = _string(head.target) if _ODD.search(head.target) else head.target
    return b',"target":"%b","protocol":"HTTP/1.%d"' % (target, head.minor_version)


def _asked_of(head: RequestHead) -> bytes:
    method, authority = head.method, head.authority
    known = len(authority) <= HOST_BYTES_REMEMBERED_MAX
    return (_method_and_host if known else _method_and_host.__wrapped__)(method, authority)


@functools.lru_cache(maxsize=1024)
def _method_and_host(method: bytes, authority: bytes) -> bytes:
    return b'","method":"%b","host":"%b"' % (_string(method), _string(authority))


@functools.lru_cache(maxsize=1024)
def _what_became(  # noqa: PLR0913, PLR0917 - what few lines differ in; positional because it is faster
    status: int,
    termination: str,
    fault: str,
    route: str,
    pool: str,
    endpoint: str,
    attempts: int,
    reused: bool,  # noqa: FBT001 - as above
) -> bytes:
    known = orjson.dumps(
        {
            "status": status,
            "termination": termination,
            "fault": fault or None,
            "route": route,
            "pool": pool,
            "endpoint": endpoint,
            "attempts": attempts,
            "reused": reused,
        }
    )
    return b',%b,"request_bytes":' % known[1:-1]


def _times(outcome: Outcome) -> tuple[bytes, ...]:
    begun_at, connecting_at, ended_at = outcome.begun_at, outcome.connecting_at, outcome.ended_at
    opened_at, answered_at = outcome.opened_at, outcome.answered_at
    if begun_at == opened_at and answered_at == ended_at:
        # The usual case: nothing was waited for but the answer.
        total = b"%.3f" % ((ended_at - begun_at) * 1000)
        return (
            b',"wait_ms":0.000,"connect_ms":0.000,"response_ms":',
            total,
            b',"body_ms":0.000,"total_ms":',
            total,
            b"}\n",
        )
    return (
        b',"wait_ms":',
        _between(begun_at, connecting_at),
        b',"connect_ms":',
        _between(connecting_at, opened_at),
        b',"response_ms":',
        _between(opened_at, answered_at),
        b',"body_ms":',
        _between(answered_at, ended_at),
        b',"total_ms":',
        _between(begun_at, ended_at),
        b"}\n",
    )


def combined_line(outcome: Outcome) -> bytes:
    """As Apache and nginx write it, with the request id and the termination behind it."""
    head = outcome.head
    if head is None:
        request, referer, agent = b"-", b"-", b"-"
    else:
        request = b"%s %s HTTP/1.%d" % (head.method, head.target, head.minor_version)
        referer = field(head.block, b"referer") or b"-"
        agent = field(head.block, b"user-agent") or b"-"
    when = datetime.datetime.fromtimestamp(_wall_at(outcome.begun_at), datetime.UTC)
    return b'%s - - [%s] "%s" %d %d "%s" "%s" %s %s\n' % (
        outcome.client_ip or b"-",
        when.strftime("%d/%b/%Y:%H:%M:%S %z").encode(),
        _escaped(request),
        outcome.status,
        outcome.response_bytes,
        _escaped(referer),
        _escaped(agent),
        outcome.request_id,
        outcome.termination.encode(),
    )


HOST_BYTES_REMEMBERED_MAX: Final = 255
"""Of a Host that is remembered as it is written: no name in the DNS is longer (RFC 1035 §2.3.4),
and strangers choose it.
"""

_offset_s: float = wall() - monotonic()


def refresh_clock() -> None:
    """Follow the wall clock, which may be set; called by the worker's tick, not for each line."""
    global _offset_s  # noqa: PLW0603 # one clock per process
    _offset_s = wall() - monotonic()


def _wall_at(moment: float) -> float:
    return moment + _offset_s


@functools.lru_cache(maxsize=256)
def _iso_millisecond(millisecond: int) -> bytes:
    """The text of a moment, made once: under load many lines share it."""
    return b"%b%03dZ" % (_iso_second(millisecond // 1000), millisecond % 1000)


@functools.lru_cache(maxsize=4)
def _iso_second(second: int) -> bytes:
    """The text of a second, made once: thousands of lines share it."""
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.").encode()


def _between(begun_at: float, ended_at: float) -> bytes:
    return b"%.3f" % ((ended_at - begun_at) * 1000) if begun_at and ended_at else b"null"


def _string(data: bytes) -> bytes:
    """What stands between the quotes of a JSON string for `data`."""
    return orjson.dumps(data.decode("ascii", "backslashreplace"))[1:-1]


def _escaped(data: bytes) -> bytes:
    """For a quoted string: quotes, backslashes, tabs and what is not ASCII escaped, as by nginx."""
    return _ODD.sub(_as_hex, data)


def _as_hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


_ODD: Final = re.compile(rb"[^ !#-\[\]-~]")
"""What a quoted string, in JSON as in the combined form, cannot hold as it is."""

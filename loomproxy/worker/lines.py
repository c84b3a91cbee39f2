"""Lines of the access log: an outcome as JSON or in the combined form."""

import datetime
import functools
import re
from collections.abc import Callable
from typing import Final

import orjson

from loomproxy.core.message import field
from loomproxy.core.outcome import Outcome
from loomproxy.worker.clock import monotonic, wall

Line = Callable[[Outcome], bytes]
"""Makes one line, with its end."""


def line_for(name: str) -> Line:
    """The form that the configuration names: `json` or `combined`."""
    return {"json": json_line, "combined": combined_line}[name]


def json_line(outcome: Outcome) -> bytes:
    """All there is to know, one JSON object; milliseconds, null where a phase never came."""
    head = outcome.head
    begun_at = outcome.begun_at
    return orjson.dumps(
        {
            "time": _iso_time(begun_at),
            "request_id": _text(outcome.request_id),
            "client_ip": _text(outcome.client_ip),
            "method": _text(head.method) if head else None,
            "host": _text(head.authority) if head else None,
            "target": _text(head.target) if head else None,
            "protocol": f"HTTP/1.{head.minor_version}" if head else None,
            "status": outcome.status,
            "termination": outcome.termination,
            "fault": outcome.fault or None,
            "route": outcome.route,
            "pool": outcome.pool,
            "endpoint": outcome.endpoint,
            "attempts": outcome.attempts,
            "reused": outcome.reused,
            "request_bytes": outcome.request_bytes,
            "response_bytes": outcome.response_bytes,
            "wait_ms": _between(begun_at, outcome.connecting_at),
            "connect_ms": _between(outcome.connecting_at, outcome.opened_at),
            "response_ms": _between(outcome.opened_at, outcome.answered_at),
            "body_ms": _between(outcome.answered_at, outcome.ended_at),
            "total_ms": _between(begun_at, outcome.ended_at),
        },
        option=orjson.OPT_APPEND_NEWLINE,
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


_offset_s: float = wall() - monotonic()


def refresh_clock() -> None:
    """Follow the wall clock, which may be set; called by the worker's tick, not for each line."""
    global _offset_s  # noqa: PLW0603 # one clock per process
    _offset_s = wall() - monotonic()


def _wall_at(moment: float) -> float:
    return moment + _offset_s


def _iso_time(moment: float) -> str:
    second, milliseconds = divmod(int(_wall_at(moment) * 1000), 1000)
    return f"{_iso_second(second)}.{milliseconds:03d}Z"


@functools.lru_cache(maxsize=4)
def _iso_second(second: int) -> str:
    """The text of a second, made once: thousands of lines share it."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _between(begun_at: float, ended_at: float) -> float | None:
    return round((ended_at - begun_at) * 1000, 3) if begun_at and ended_at else None


def _text(data: bytes) -> str:
    """Bytes of a head as text; what is not ASCII is escaped, so a line is valid UTF-8."""
    return data.decode("ascii", "backslashreplace")


def _escaped(data: bytes) -> bytes:
    """For a quoted string: quotes, backslashes, tabs and what is not ASCII escaped, as by nginx."""
    return _UNSAFE.sub(_as_hex, data)


def _as_hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


_UNSAFE: Final = re.compile(rb"[^ !#-\[\]-~]")

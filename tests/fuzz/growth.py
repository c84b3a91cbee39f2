"""Whether twice as much of anything takes about twice as long: nothing goes over its input again.

Not a test, because it measures. `scripts/fuzz --growth` reads one thing over and over, in every
place of a message, at two sizes, and tells which of them cost more than they grew.
"""

import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Final

from loomproxy.core import fault as faults
from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.framing import ChunkedBody
from loomproxy.core.http1.limits import Limits
from loomproxy.core.hygiene import (
    Family,
    ForwardPolicy,
    Peer,
    Values,
    client_ip,
    request_id,
    request_up,
)
from loomproxy.core.message import RequestHead, fields

Shape = tuple[str, Callable[[int], bytes], Callable[[bytes], None]]

LARGE: Final = 60_000  # bytes; a head has 64 KiB at most
RATIO_MAX: Final = 6.0  # of the time for four times as much: linear is 4, quadratic is 16
NOISE_S: Final = 0.020  # Large inputs that take less than this are harmless, however they grow.
_ROUNDS: Final = 3  # The best of these is the cost.

_UNITS: Final = (
    b" ",
    b"\t ",
    b",",
    b", ",
    b"a",
    b"a ",
    b"a,",
    b"a.",
    b"a_",
    b"=",
    b";",
    b"a=b;",
    b'a="b";',
    b'"',
    b'\\"',
    b'a="',
    b',a="',
    b'for="',
    b":",
    b"[",
    b"%41",
    b"%2e",
    b"/",
    b"/.",
    b"/a",
    b"&a=b",
    b"\xff",
    b"1",
    b"-",
    b"x-forwarded-",
    b"1.1.1.1, ",
)
_ENDS: Final = (b"a", b'"', b"\x00")
_NAMES: Final = (
    b"Connection",
    b"Content-Length",
    b"Cookie",
    b"Expect",
    b"Forwarded",
    b"Host",
    b"Transfer-Encoding",
    b"Upgrade",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Request-ID",
)
_LIMITS: Final = Limits(target_bytes_max=LARGE + 100, fields_max=200)
_PEER: Final = Peer(b"10.0.0.1", 4711, trusted=True)
_POLICIES: Final = tuple(
    ForwardPolicy(forwarded=True, believe=family, trusted=(ipaddress.ip_network("0.0.0.0/0"),))
    for family in Family
)


def shapes() -> Iterator[Shape]:
    """One thing over and over, in every place."""
    for place, before, after, read in _places():
        for unit in _UNITS:
            for end in _ENDS:
                yield f"{place}: a{unit!r}…{end!r}", _repeated(before, unit, end + after), read
    yield "many names nominated, many fields", _nominated, _request


def _repeated(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda size: before + b"a" + unit * (size // len(unit)) + after


def _places() -> Iterator[tuple[str, bytes, bytes, Callable[[bytes], None]]]:
    start, end = b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n"
    for name in _NAMES:
        begin = b"GET / HTTP/1.1\r\n" if name == b"Host" else start
        yield name.decode(), begin + name + b": ", end, _request
    yield "field name", start, b": b\r\n\r\n", _request
    yield "path", b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n", _request
    yield "query", b"GET /?", b" HTTP/1.1\r\nHost: a\r\n\r\n", _request
    yield "absolute form", b"GET http://", b" HTTP/1.1\r\nHost: a\r\n\r\n", _request
    yield "reason", b"HTTP/1.1 200 ", end, _response
    yield "trailer", b"0\r\nA: ", end, _trailers


def _nominated(size: int) -> bytes:
    names = b",".join(b"%x" % number for number in range(size // 6))
    lines = b"".join(b"y%d: z\r\n" % number for number in range(size // 400))
    return b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + names + b"\r\n" + lines + b"\r\n"


def _request(raw: bytes) -> None:
    head = lane.request(raw, _LIMITS, None) or slow.request(raw, _LIMITS)
    slow.request(raw, _LIMITS)
    if not isinstance(head, RequestHead):
        return
    fields(head.block)
    for policy in _POLICIES:
        who = client_ip(head.block, _PEER, policy)
        said = request_id(head, policy, b"id")
        values = Values(who, said, head.host, path=head.path)
        request_up(
            head,
            peer=_PEER,
            policy=policy,
            target=head.target,
            host=None,
            ops=None,
            upgrade=True,
            request_id=said,
            values=lambda values=values: values,
        )


def _response(raw: bytes) -> None:
    lane.response(raw, b"GET", _LIMITS)
    slow.response(raw, b"GET", _LIMITS)


def _trailers(body: bytes) -> None:
    fault = faults.REQUEST_MALFORMED
    ChunkedBody(_LIMITS, malformed=fault, too_large=fault).take(body, 0)


def _cost_s(read: Callable[[bytes], None], data: bytes) -> float:
    costs = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        read(data)
        costs.append(time.process_time() - began)
    return min(costs)


def main() -> int:
    """Measure every shape; 0 when none grows faster than its input."""
    worst: list[tuple[float, str]] = []
    grown = 0
    for name, made, read in shapes():
        small, large = _cost_s(read, made(LARGE // 4)), _cost_s(read, made(LARGE))
        worst.append((large, name))
        if large > NOISE_S and large > small * RATIO_MAX:
            grown += 1
            print(f"{name}: {small * 1e3:.1f} ms, and {large * 1e3:.1f} ms for four times as much")
    print(
        f"{len(worst)} shapes of {LARGE} bytes, {grown} grow faster than they should; the dearest:"
    )
    for cost, name in sorted(worst, reverse=True)[:5]:
        print(f"{cost * 1e3:8.1f} ms  {name}")
    return 1 if grown else 0

"""The wires: any bytes, however they are cut, and what leaves us when they were accepted."""

import ipaddress
from typing import Final, NamedTuple

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits, Refusal
from loomproxy.core.hygiene import (
    HOP_BY_HOP,
    Family,
    ForwardPolicy,
    HeaderOps,
    Peer,
    Values,
    request_up,
    response_down,
)
from loomproxy.core.message import Framing, RequestHead, ResponseHead, fields
from tests.core.http1.cuts import requests, responses
from tests.core.http1.heard import alike, heard_requests, heard_response
from tests.fuzz.lane import LIMITS, METHODS

KNOBS: Final = 4
_BYTEWISE_MAX: Final = 600  # bytes of an input that may be given byte by byte, which costs the most
_POLICIES: Final = (
    ForwardPolicy(),
    ForwardPolicy(forwarded=True, believe=Family.RFC7239, trusted=(ipaddress.ip_network("::/0"),)),
    ForwardPolicy(x_forwarded=False, via=b"", request_id_header=b""),
)
_OPS: Final = (
    None,
    HeaderOps(
        set=((b"X-Path", b"{path}"), (b"X-Who", b"{client_ip} {host}")),
        add=((b"X-Id", b"{request_id}"),),
        remove=(b"cookie",),
    ),
)
_GET: Final = slow.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Limits())
_OLD_GET: Final = slow.request(b"GET / HTTP/1.0\r\n\r\n", Limits())


class Knobs(NamedTuple):
    """What the first bytes of an input choose; the rest is what the peer sends."""

    choice: int
    limits: Limits
    pieces: list[bytes]
    data: bytes

    @classmethod
    def read(cls, given: bytes) -> "Knobs":
        """Split an input into knobs and data; the data is cut where they say, or everywhere."""
        head, data = given[:KNOBS].ljust(KNOBS, b"\0"), given[KNOBS:]
        places = sorted(len(data) * at // 256 for at in head[1:])
        ends = [*places, len(data)]
        pieces = [data[a:b] for a, b in zip([0, *places], ends, strict=True) if a < b]
        if head[0] & 128 and len(data) <= _BYTEWISE_MAX:
            pieces = [data[i : i + 1] for i in range(len(data))]
        return cls(head[0], LIMITS[head[0] & 1], pieces, data)


def wire_request(given: bytes) -> None:
    """Cuts change nothing; h11 reads what we accept alike; what goes up is canonical."""
    choice, limits, pieces, data = Knobs.read(given)
    whole = requests([data], limits)
    assert requests(pieces, limits) == whole
    alike(whole, heard_requests(data))
    for head in whole:
        if isinstance(head, RequestHead):
            _goes_up(head, _POLICIES[choice // 2 % 3], _OPS[choice // 6 % 2], choice // 12 % 2 == 0)


def wire_response(given: bytes) -> None:
    """Cuts change nothing; h11 reads what we accept alike; what goes down is canonical."""
    choice, limits, pieces, data = Knobs.read(given)
    method = METHODS[choice // 12 % len(METHODS)]
    whole = responses([data], method, limits)
    assert responses(pieces, method, limits) == whole
    alike(whole, heard_response(data, method))
    for head in whole:
        if isinstance(head, ResponseHead):
            _goes_down(head, method, _POLICIES[choice // 2 % 3], _OPS[choice // 6 % 2])


def _goes_up(
    head: RequestHead, policy: ForwardPolicy, ops: HeaderOps | None, trusted: bool
) -> None:
    values = Values(b"192.0.2.1", b"id", head.host, b"http", head.path, b"r")
    up = request_up(
        head,
        peer=Peer(b"192.0.2.1", 4711, trusted=trusted),
        policy=policy,
        target=head.target,
        host=None,
        ops=ops,
        upgrade=True,
        values=values,
    )
    heard = heard_requests(up)
    assert heard[0][:4] == ("request", head.method, head.target, b"1.1"), (head, up)
    _one_framing(heard[0][4], head.framing, head.body_bytes)
    assert up.endswith(b"\r\n\r\n")
    assert up.count(b"\r\n\r\n") == 1
    if not head.authority:
        return  # An HTTP/1.0 client need not name one; then it is empty.
    again = slow.request(up, Limits())
    assert isinstance(again, RequestHead), again
    assert again.framing is head.framing
    assert not again.nominated
    hop_by_hop = {name for name, _ in fields(again.block)} & HOP_BY_HOP
    assert hop_by_hop <= {b"connection", b"upgrade", b"transfer-encoding"}
    assert (b"upgrade" in hop_by_hop) == bool(head.upgrade)
    quick = lane.request(up, Limits(), None)
    assert quick is None or quick == again


def _goes_down(
    head: ResponseHead, method: bytes, policy: ForwardPolicy, ops: HeaderOps | None
) -> None:
    for request in (_GET, _OLD_GET):
        assert isinstance(request, RequestHead)
        old_chunked = head.framing is Framing.CHUNKED and not request.minor_version
        framing = Framing.CLOSE if old_chunked else head.framing
        down = response_down(
            head,
            request,
            policy=policy,
            ops=ops,
            keep_alive=framing not in (Framing.CLOSE, Framing.TUNNEL),
            framing=framing,
            values=Values(b"192.0.2.1", b"id", b"a", b"http", b"/", b"r"),
            date=b"Thu, 01 Jan 1970 00:00:00 GMT",
        )
        heard = heard_response(down, method)
        assert heard[0][:3] == ("response", head.status, b"1.1"), (head, down)
        again = slow.response(down, method, Limits())
        assert not isinstance(again, Refusal), (again, down)
        assert (again.framing, again.body_bytes) == (
            framing,
            head.body_bytes if framing is head.framing else 0,
        )
        assert not again.nominated


def _one_framing(pairs: list[tuple[bytes, bytes]], framing: Framing, length: int) -> None:
    framed = [pair for pair in pairs if pair[0] in (b"content-length", b"transfer-encoding")]
    if framing is Framing.NONE:
        assert framed in ([], [(b"content-length", b"0")])
    elif framing is Framing.LENGTH:
        assert framed == [(b"content-length", b"%d" % length)]
    else:
        assert framed == [(b"transfer-encoding", b"chunked")]

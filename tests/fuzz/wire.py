"""The wires: any bytes, however they are cut, and what leaves us when they were accepted."""

import ipaddress
from typing import Final, NamedTuple

from msgspec import structs

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits, Refusal
from loomproxy.core.http1.wire import ResponseWire
from loomproxy.core.hygiene import (
    HOP_BY_HOP,
    Family,
    ForwardPolicy,
    HeaderOps,
    Peer,
    Values,
    client_ip,
    request_id,
    request_up,
    response_down,
)
from loomproxy.core.message import Framing, Memo, RequestHead, ResponseHead, fields
from tests.core.http1.cuts import Seen, drain, requests, responses
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
SHORT: Final = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"
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
    assert requests([data, *pieces, SHORT], limits) == requests([data + data + SHORT], limits)
    alike(whole, heard_requests(data))
    for head in whole:
        if isinstance(head, RequestHead):
            _goes_up(head, choice)


def wire_response(given: bytes) -> None:
    """Cuts change nothing; h11 reads what we accept alike; what goes down is canonical."""
    choice, limits, pieces, data = Knobs.read(given)
    method = METHODS[choice // 12 % len(METHODS)]
    whole = responses([data], method, limits)
    assert responses(pieces, method, limits) == whole
    alike(whole, heard_response(data, method))
    _comes_again(data, method, limits)
    for head in whole:
        if isinstance(head, ResponseHead):
            _goes_down(head, method, choice)


def _comes_again(data: bytes, method: bytes, limits: Limits) -> None:
    """A response that was read before is read alike, whatever was asked in between."""
    wire = ResponseWire(limits)
    for asked in (method, method, b"HEAD", method):
        if not wire.clean:
            return
        wire.expect(asked)
        wire.receive(data)
        seen: Seen = []
        drain(wire, seen)
        fresh = responses([data], asked, limits, eof=False)
        assert seen == [what for what in fresh if not isinstance(what, tuple) or what[0] != "rest"]


def _goes_up(head: RequestHead, choice: int) -> None:
    """What is kept of a head that went up before changes nothing for the same block."""
    other = structs.replace(head, method=b"PUT", target=b"/other", path=b"/other")
    for each, chosen in ((head, choice), (other, choice), (head, choice + 6), (head, choice)):
        up = _sent_up(each, chosen)
        assert up == _sent_up(structs.replace(each, memo=Memo()), chosen)
    _is_canonical(head, up)
    _is_canonical(other, _sent_up(other, choice))


def _sent_up(head: RequestHead, choice: int) -> bytes:
    policy, ops = _POLICIES[choice // 2 % 3], _OPS[choice // 6 % 2]
    peer = Peer(b"192.0.2.1", 4711, trusted=choice // 12 % 2 == 0)
    said = request_id(head, policy, b"id")
    client = client_ip(head.block, peer, policy)
    return request_up(
        head,
        peer=peer,
        policy=policy,
        target=head.target,
        host=None,
        ops=ops,
        upgrade=True,
        request_id=said,
        values=lambda: Values(client, said, head.host, b"http", head.path, b"r"),
    )


def _is_canonical(head: RequestHead, up: bytes) -> None:
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


def _goes_down(head: ResponseHead, method: bytes, choice: int) -> None:
    """To a client of HTTP/1.1 and of 1.0, and what is kept of the first changes nothing."""
    for request, said in ((_GET, b"id"), (_OLD_GET, b"id"), (_GET, b"another"), (_GET, b"")):
        assert isinstance(request, RequestHead)
        old_chunked = head.framing is Framing.CHUNKED and not request.minor_version
        framing = Framing.CLOSE if old_chunked else head.framing
        down = _sent_down(head, request, framing, said, choice)
        fresh = structs.replace(head, memo=Memo())
        assert down == _sent_down(fresh, request, framing, said, choice)
        heard = heard_response(down, method)
        assert heard[0][:3] == ("response", head.status, b"1.1"), (head, down)
        again = slow.response(down, method, Limits())
        assert not isinstance(again, Refusal), (again, down)
        assert again.framing is framing
        assert again.body_bytes == (head.body_bytes if framing is head.framing else 0)
        assert not again.nominated


def _sent_down(
    head: ResponseHead, request: RequestHead, framing: Framing, said: bytes, choice: int
) -> bytes:
    return response_down(
        head,
        request,
        policy=_POLICIES[choice // 2 % 3],
        ops=_OPS[choice // 6 % 2],
        keep_alive=framing not in (Framing.CLOSE, Framing.TUNNEL),
        framing=framing,
        request_id=said,
        values=lambda: Values(b"192.0.2.1", said, b"a", b"http", b"/", b"r"),
        date=b"Thu, 01 Jan 1970 00:00:00 GMT",
    )


def _one_framing(pairs: list[tuple[bytes, bytes]], framing: Framing, length: int) -> None:
    framed = [pair for pair in pairs if pair[0] in (b"content-length", b"transfer-encoding")]
    if framing is Framing.NONE:
        assert framed in ([], [(b"content-length", b"0")])
    elif framing is Framing.LENGTH:
        assert framed == [(b"content-length", b"%d" % length)]
    else:
        assert framed == [(b"transfer-encoding", b"chunked")]

"""What leaves is canonical, whatever came in: one framing, valid fields, nothing of another hop.

Heads are made of pieces around the border of what is accepted. What the wire accepts is written as
`request_up` and `response_down` write it, and read again twice: by h11 as it is, and by our own
slow way, which refuses what h11 forgives. `loomproxy.core.hygiene.heads` writes them.
"""

import re

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.core.http1 import slow
from loomproxy.core.http1.limits import Limits, Refusal
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.hygiene import Family, client_ip, request_id
from loomproxy.core.hygiene.heads import request_up, response_down
from loomproxy.core.hygiene.names import HOP_BY_HOP
from loomproxy.core.hygiene.policy import ForwardPolicy, HeaderOps, Peer, Values, ops_problem
from loomproxy.core.message import Framing, RequestHead, Response, ResponseHead, fields
from loomproxy.core.route import PathRewrite

LIMITS = Limits()
LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t!-~\x80-\xff]*")
EXAMPLES = 80

FRAMING_LINES = st.sampled_from(
    [
        *("Content-Length: 5", "content-length:007", "Content-Length: 0", "Content-Length: +5"),
        *("Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED", "Transfer-Encoding: gzip"),
        *("Expect: 100-continue", "Expect:", "Connection: close", "connection: x-mine, X-User"),
        *("Connection: keep-alive, Upgrade", "Connection: upgrade,TE", "Connection: Cookie"),
        *("Upgrade: websocket", "Upgrade: h2c", "TE: trailers", "Keep-Alive: 5", "Trailer: X"),
        *("Proxy-Connection: x", "HTTP2-Settings: y", "Proxy-Authorization: z"),
        *("Max-Forwards: 9", "Max-Forwards: 0"),
    ]
)
NAMES = st.sampled_from(
    [
        *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"),
        *("Forwarded", "X-Real-IP", "X-Request-ID", "Via", "Proxy", "X-Original-URL"),
        *("X", "x_user", "X-User", "X-Mine", "Cookie", "Date"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            "",
            "a b",
            "a\tb",
            " c ",
            "\xe9\x85",
            "9.9.9.9, 8.8.8.8",
            'for="[::1]:1"',
            "https",
            "443",
        ),
        *("a.example:80", 'for=1.1.1.1;host="x', "%0d%0aX: y", "{client_ip}%s"),
    ]
)
FIELD_LINES = st.builds(lambda name, value: f"{name}: {value}", NAMES, VALUES)
LINES = st.lists(FRAMING_LINES | FIELD_LINES, max_size=6)
TARGETS = st.sampled_from(
    [
        *("/", "/a/b?c=d", "//evil.example/x", "/a//b/%2e.x", "/api/v1/x", "/strip../y", "/%41%2f"),
        *("http://a.example/x", "http://a.example", "/a?b=/../{x}", "*", "/a;b=(c)", '/"<%0d%0a>'),
    ]
)
STARTS = st.builds(
    lambda m, t, v: f"{m} {t} HTTP/1.{v}",
    st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "PURGE"]),
    TARGETS,
    st.sampled_from([1, 1, 1, 0]),
)
STATUS_LINES = st.builds(
    lambda v, s, r: f"HTTP/1.{v} {s}{r}",
    st.sampled_from([1, 1, 0]),
    st.sampled_from([200, 204, 205, 304, 404, 426, 101, 103]),
    st.sampled_from([" OK", "", " ", " a\tb \xe9"]),
)
REWRITES = st.none() | st.builds(
    PathRewrite,
    strip_prefix=st.sampled_from([b"", b"/api", b"/a/b"]),
    pattern=st.sampled_from([b"", b"^/strip", b"/(.*)", b"%"]),
    replacement=st.sampled_from([b"", b"/x/\\g<0>?q=1", b"//", b"/../"]),
    add_prefix=st.sampled_from([b"", b"/v2"]),
)
OPS_VALUES = st.sampled_from(
    [b"", b"x", b"a\tb", b"{client_ip}", b"{path} of {host}", b"{request_id}{route}", b"%s%d"]
)
OPS_PAIRS = st.lists(
    st.tuples(st.sampled_from([b"X-User", b"Via", b"Cookie", b"Date", b"X-New"]), OPS_VALUES),
    max_size=2,
).map(tuple)
OPS = st.none() | st.builds(
    HeaderOps,
    set=OPS_PAIRS,
    add=OPS_PAIRS,
    remove=st.sampled_from([(), (b"Cookie", b"x-request-id"), (b"Forwarded",)]),
)
POLICIES = st.builds(
    ForwardPolicy,
    x_forwarded=st.booleans(),
    forwarded=st.booleans(),
    via=st.sampled_from([b"", b"loomproxy"]),
    request_id_header=st.sampled_from([b"", b"X-Request-ID"]),
    believe=st.sampled_from(Family),
)
PEERS = st.sampled_from(
    [
        Peer(ip=b"9.9.9.9", port=1, trusted=False, local_port=80),
        Peer(ip=b"2001:db8::1", port=1, trusted=True, local_port=80),
        Peer(ip=b"", port=0, trusted=True),
    ]
)


def accepted_request(raw: bytes) -> RequestHead | None:
    """The head, if the wire accepts one."""
    wire = RequestWire(LIMITS)
    wire.receive(raw)
    head = wire.poll()
    return head if isinstance(head, RequestHead) else None


def values_for(head: RequestHead, peer: Peer, policy: ForwardPolicy) -> Values:
    """What an exchange would know."""
    return Values(
        client_ip=client_ip(head.block, peer, policy),
        request_id=request_id(head, policy, b"fresh-1"),
        host=head.authority,
        path=head.path,
        route=b"r",
    )


def assert_canonical(sent: bytes) -> None:
    """Every line ends in CRLF, is a start line or a field line, and is not blank but the last."""
    *lines, blank, nothing = sent.split(b"\r\n")
    assert (blank, nothing) == (b"", b"")
    assert all(LINE.fullmatch(line) for line in lines[1:]), sent
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines)), sent


def names_in(block: bytes) -> list[bytes]:
    return [name for name, _ in fields(block)]


@settings(max_examples=EXAMPLES)
@given(STARTS, LINES, REWRITES, OPS, st.tuples(POLICIES, PEERS), st.booleans())
def test_a_request_that_goes_up_is_read_alike_by_everybody(
    start: str,
    lines: list[str],
    rewrite: PathRewrite | None,
    ops: HeaderOps | None,
    told: tuple[ForwardPolicy, Peer],
    may_upgrade: bool,
) -> None:
    policy, peer = told
    assert ops is None or not ops_problem(ops)
    raw = "\r\n".join([start, "Host: a.example", *lines, "", ""]).encode("latin-1")
    head = accepted_request(raw)
    if head is None:
        return
    upgrade = may_upgrade and head.framing is Framing.NONE and head.upgrade == b"websocket"
    values = values_for(head, peer, policy)
    sent = request_up(
        head,
        peer=peer,
        policy=policy,
        target=head.target if rewrite is None else rewrite.target(head),
        host=None,
        ops=ops,
        upgrade=upgrade,
        request_id=values.request_id,
        values=lambda: values,
    )
    assert_canonical(sent)
    again = slow.request(sent, LIMITS)
    assert not isinstance(again, Refusal), (again, sent)
    assert (again.method, again.framing, again.body_bytes, again.authority) == (
        head.method,
        head.framing,
        head.body_bytes,
        head.authority,
    )
    assert again.target == b"*" or re.match(rb"/(?!/)", again.target)
    assert rewrite is not None or again.target == head.target
    names = names_in(again.block)
    assert set(names) & HOP_BY_HOP <= {b"transfer-encoding", *_switching(upgrade)}
    assert names.count(b"host") == 1
    assert again.nominated == ()
    assert not (b"x-mine" in names and b"x-mine" in head.nominated)
    assert_h11_agrees(sent, again)


def _switching(upgrade: bool) -> set[bytes]:
    return {b"connection", b"upgrade"} if upgrade else set()


def assert_h11_agrees(sent: bytes, head: RequestHead) -> None:
    """h11, as strict as it is, sees the same request and the same end of its head."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(sent)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (head.method, head.target)
    over = type(connection.next_event()) is h11.EndOfMessage
    assert over is (head.framing is Framing.NONE)


@settings(max_examples=EXAMPLES)
@given(STATUS_LINES, LINES, st.sampled_from(["GET", "HEAD"]), OPS, POLICIES, st.booleans())
def test_a_response_that_goes_down_is_read_alike_by_everybody(
    start: str,
    lines: list[str],
    method: str,
    ops: HeaderOps | None,
    policy: ForwardPolicy,
    keep_alive: bool,
) -> None:
    wire = ResponseWire(LIMITS)
    wire.expect(method.encode())
    wire.receive("\r\n".join([start, *lines, "", ""]).encode("latin-1"))
    head = wire.poll()
    if isinstance(head, Response):
        head = head.head
    if not isinstance(head, ResponseHead):
        return
    asked = accepted_request(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert asked is not None
    framing = Framing.CHUNKED if head.framing is Framing.CLOSE else head.framing
    sent = response_down(
        head,
        asked,
        policy=policy,
        ops=ops,
        keep_alive=keep_alive,
        framing=framing,
        request_id=b"id",
        values=lambda: Values(request_id=b"id", client_ip=b"9.9.9.9", path=b"/"),
        date=b"Sun, 06 Nov 1994 08:49:37 GMT",
    )
    assert_canonical(sent)
    again = slow.response(sent, method.encode(), LIMITS)
    assert not isinstance(again, Refusal), (again, sent)
    assert (again.status, again.framing, again.body_bytes) == (
        head.status,
        framing,
        head.body_bytes,
    )
    names = names_in(again.block)
    ours = {b"connection", b"upgrade", b"transfer-encoding"}
    assert set(names) & HOP_BY_HOP <= ours
    assert again.nominated == ()
    assert not (again.status in (101, 103, 204) and b"content-length" in names)
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    if not head.is_interim:
        assert again.keep_alive is (keep_alive and framing is not Framing.TUNNEL)

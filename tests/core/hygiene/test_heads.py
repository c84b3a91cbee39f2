"""The heads that we send: nothing that ends here passes, and what we say is said once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.hygiene.heads import local_response, phrase, request_up, response_down
from loomproxy.core.hygiene.names import HOP_BY_HOP, IDENTITY
from loomproxy.core.hygiene.policy import ForwardPolicy, HeaderOps, Peer, Values
from loomproxy.core.message import Framing, RequestHead, ResponseHead, fields

BARE = ForwardPolicy(x_forwarded=False, via=b"", request_id_header=b"")
POLICY = ForwardPolicy()
STRANGER = Peer(ip=b"9.9.9.9", port=1, trusted=False, local_port=80)
VALUES = Values(client_ip=b"9.9.9.9", request_id=b"id", route=b"r")


def request(*lines: str, start: str = "GET /a HTTP/1.1") -> RequestHead:
    wire = RequestWire(Limits())
    wire.receive("\r\n".join([start, *lines, "", ""]).encode("latin-1"))
    head = wire.poll()
    assert isinstance(head, RequestHead), head
    return head


def response(*lines: str, start: str = "HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    wire = ResponseWire(Limits())
    wire.expect(method)
    wire.receive("\r\n".join([start, *lines, "", ""]).encode("latin-1"))
    head = wire.poll()
    assert isinstance(head, ResponseHead), head
    return head


def up(
    head: RequestHead,
    *,
    policy: ForwardPolicy = BARE,
    host: bytes | None = None,
    ops: HeaderOps | None = None,
    upgrade: bool = False,
) -> bytes:
    return request_up(
        head,
        peer=STRANGER,
        policy=policy,
        target=head.target,
        host=host,
        ops=ops,
        upgrade=upgrade,
        request_id=VALUES.request_id,
        values=lambda: VALUES,
    )


def down(
    head: ResponseHead,
    *,
    policy: ForwardPolicy = BARE,
    keep_alive: bool = True,
    framing: Framing | None = None,
    client: RequestHead | None = None,
    ops: HeaderOps | None = None,
    date: bytes = b"",
) -> bytes:
    return response_down(
        head,
        client or request("Host: a"),
        policy=policy,
        ops=ops,
        keep_alive=keep_alive,
        framing=framing or head.framing,
        request_id=VALUES.request_id,
        values=lambda: VALUES,
        date=date,
    )


def test_a_request_goes_up_with_all_that_the_policy_says() -> None:
    head = request("Accept: */*", "Host: a", "Connection: keep-alive", "X-Request-ID: theirs")
    assert up(head, policy=POLICY) == (
        b"GET /a HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n"
        b"X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\nX-Request-ID: id\r\n"
        b"Via: 1.1 loomproxy\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("start", "lines", "framing"),
    [
        ("GET / HTTP/1.1", [], b""),
        ("GET / HTTP/1.1", ["Content-Length: 0"], b""),
        ("POST / HTTP/1.1", [], b"Content-Length: 0\r\n"),
        ("POST / HTTP/1.1", ["Content-Length: 007"], b"Content-Length: 7\r\n"),
        ("POST / HTTP/1.1", ["Transfer-Encoding: Chunked"], b"Transfer-Encoding: chunked\r\n"),
        (
            "POST / HTTP/1.1",
            ["Content-Length: 1", "Expect: 100-continue"],
            b"Content-Length: 1\r\nExpect: 100-continue\r\n",
        ),
        ("GET / HTTP/1.1", ["Expect: 100-continue"], b""),
    ],
)
def test_a_request_is_framed_once_and_by_us(start: str, lines: list[str], framing: bytes) -> None:
    head = request("Host: a", *lines, start=start)
    line = head.method + b" / HTTP/1.1\r\n"
    assert up(head) == line + b"Host: a\r\n" + framing + b"\r\n"


def test_the_host_may_be_another() -> None:
    assert up(request("Host: a"), host=b"b:1") == b"GET /a HTTP/1.1\r\nHost: b:1\r\n\r\n"


def test_an_upgrade_passes_only_when_it_is_allowed() -> None:
    head = request("Host: a", "Connection: Upgrade, X-Own", "Upgrade: WebSocket", "X-Own: 1")
    assert up(head) == b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    assert up(head, upgrade=True) == (
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert b"Upgrade" not in up(request("Host: a"), upgrade=True)


def test_via_names_the_version_that_came_and_a_request_id_may_be_unknown() -> None:
    head = request("Host: a", start="GET / HTTP/1.0")
    assert b"Via: 1.0 loomproxy\r\n" in up(head, policy=POLICY)
    silent = request_up(
        head,
        peer=STRANGER,
        policy=POLICY,
        target=b"/",
        host=None,
        ops=None,
        upgrade=False,
        request_id=b"",
        values=Values,
    )
    assert b"X-Request-ID" not in silent


def test_operations_have_the_last_word() -> None:
    ops = HeaderOps(
        remove=(b"via",), set=((b"X-Forwarded-Proto", b"https"),), add=((b"R", b"{route}"),)
    )
    head = up(request("Host: a", "Via: 1.1 x"), policy=POLICY, ops=ops)
    assert b"Via" not in head
    assert head.count(b"X-Forwarded-Proto") == 1
    assert b"X-Forwarded-Proto: https\r\nR: r\r\n\r\n" in head


def test_a_response_goes_down_with_all_that_the_policy_says() -> None:
    head = response(
        "Server: x", "Content-Length: 2", "Keep-Alive: timeout=5", "X-Request-ID: no", "Via: 1.1 x"
    )
    assert down(head, policy=POLICY) == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nVia: 1.1 x\r\n"
        b"X-Request-ID: id\r\nVia: 1.1 loomproxy\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("head", "framing", "sent"),
    [
        (response("Content-Length: 2"), None, b"Content-Length: 2\r\n"),
        (response("Content-Length: 2", method=b"HEAD"), None, b"Content-Length: 2\r\n"),
        (response("Content-Length: 0"), None, b"Content-Length: 0\r\n"),
        (response("Transfer-Encoding: chunked"), None, b"Transfer-Encoding: chunked\r\n"),
        (response("Transfer-Encoding: chunked"), Framing.CLOSE, b""),
        (response("Transfer-Encoding: chunked", method=b"HEAD"), None, b""),
        (response(), Framing.CHUNKED, b"Transfer-Encoding: chunked\r\n"),
        (response("Connection: x", "X: y"), Framing.CLOSE, b""),
    ],
)
def test_a_response_is_framed_once(
    head: ResponseHead, framing: Framing | None, sent: bytes
) -> None:
    assert down(head, framing=framing) == b"HTTP/1.1 200 OK\r\n" + sent + b"\r\n"


def test_responses_without_content_say_no_length() -> None:
    assert down(response("Content-Length: 2", start="HTTP/1.1 204 X")) == b"HTTP/1.1 204 X\r\n\r\n"
    early = response("Content-Length: 2", "Link: a", start="HTTP/1.1 103 Early Hints")
    assert down(early, keep_alive=False) == b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"


def test_the_client_learns_what_becomes_of_its_connection() -> None:
    old = request("Host: a", start="GET / HTTP/1.0")
    head = response("Content-Length: 1")
    assert b"Connection" not in down(head)
    assert b"Connection: close\r\n" in down(head, keep_alive=False)
    assert b"Connection: keep-alive\r\n" in down(head, client=old)


@pytest.mark.parametrize("line", ["Date: then", "date: then", "DATE: then"])
def test_a_date_that_came_is_kept(line: str) -> None:
    for lines in ([line], ["Server: x", line]):
        sent = down(response(*lines, "Content-Length: 0"), date=b"now")
        assert sent.lower().count(b"\r\ndate: ") == 1
        assert b"now" not in sent


def test_a_final_response_without_date_gets_one() -> None:
    dateless = response("X-Date: then", "X: Date: then", "Content-Length: 0")
    assert b"\r\nDate: now\r\n" in down(dateless, date=b"now")
    assert b"\r\nDate" not in down(dateless)
    assert b"\r\nDate" not in down(dateless, date=b"now", ops=HeaderOps(remove=(b"date",)))
    named = response("Date: then", "Connection: date", "Content-Length: 0")
    assert b"\r\nDate: now\r\n" in down(named, date=b"now")
    early = response(start="HTTP/1.1 103 Early Hints")
    assert down(early, date=b"now") == b"HTTP/1.1 103 Early Hints\r\n\r\n"


def test_protocols_are_switched_and_required_in_one_hop() -> None:
    switched = response("Connection: Upgrade", "Upgrade: WebSocket", start="HTTP/1.1 101 X")
    lines = b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert down(switched) == b"HTTP/1.1 101 X\r\n" + lines
    asked = request("Host: a", "Connection: upgrade", "Upgrade: websocket")
    assert down(response(start="HTTP/1.1 101 X"), client=asked) == b"HTTP/1.1 101 X\r\n" + lines
    required = response(
        "Connection: upgrade", "Upgrade: h2c", "Content-Length: 0", start="HTTP/1.1 426 X"
    )
    assert b"Connection: upgrade\r\nUpgrade: h2c\r\n" in down(required)
    assert b"Connection: close, upgrade\r\nUpgrade: h2c\r\n" in down(required, keep_alive=False)


def test_operations_on_a_response() -> None:
    ops = HeaderOps(remove=(b"server",), add=((b"X", b"1"),))
    assert down(response("Server: x", "Content-Length: 0"), ops=ops) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: 1\r\n\r\n"
    )


_FORBIDDEN = sorted(
    {*HOP_BY_HOP, *IDENTITY, b"proxy", b"x-forwarded-anything"} - {b"transfer-encoding"}
)
_LINES = st.lists(
    st.builds(
        lambda name, upper: (name.upper() if upper else name).decode() + ": x",
        st.sampled_from([*_FORBIDDEN, b"accept", b"cookie", b"x-own"]),
        st.booleans(),
    ),
    max_size=8,
)


@given(_LINES)
def test_no_forbidden_field_survives_and_all_others_do(lines: list[str]) -> None:
    head = request("Host: a", *lines, "Connection: x-own")
    sent = up(head)
    again = RequestWire(Limits())
    again.receive(sent)
    read = again.poll()
    assert isinstance(read, RequestHead)
    names = [name for name, _ in fields(read.block)]
    expected = [name for name, _ in fields(head.block) if name in (b"accept", b"cookie")]
    assert names == [b"host", *expected]
    assert (read.method, read.target, read.framing) == (head.method, head.target, head.framing)


@given(_LINES)
def test_no_hop_by_hop_field_survives_on_the_way_down(lines: list[str]) -> None:
    head = response("Content-Length: 1", *lines)
    sent = response_down(
        head,
        request("Host: a"),
        policy=BARE,
        ops=None,
        keep_alive=True,
        framing=head.framing,
        request_id=VALUES.request_id,
        values=lambda: VALUES,
    )
    names = [name for name, _ in fields(sent.partition(b"\r\n")[2])]
    assert not HOP_BY_HOP.intersection(names)
    assert names == [name for name, _ in fields(head.block) if name not in HOP_BY_HOP]


def test_our_own_responses() -> None:
    full = local_response(
        404,
        content_type=b"text/plain",
        body=b"no\n",
        keep_alive=True,
        head_only=False,
        extra=b"X: y\r\n",
    )
    assert full == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nX: y\r\n"
        b"Connection: keep-alive\r\n\r\nno\n"
    )
    only = local_response(
        404, content_type=b"text/plain", body=b"no\n", keep_alive=False, head_only=True
    )
    assert only.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")
    empty = local_response(
        204, content_type=b"text/plain", body=b"no", keep_alive=True, head_only=False
    )
    assert empty == b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, b"OK"),
        (413, b"Content Too Large"),
        (414, b"URI Too Long"),
        (416, b"Range Not Satisfiable"),
        (422, b"Unprocessable Content"),
        (599, b""),
    ],
)
def test_reason_phrases_are_those_of_rfc_9110(status: int, said: bytes) -> None:
    assert phrase(status) == said


def test_a_block_that_passes_again_passes_alike_under_its_new_id() -> None:
    head, answer = request("Host: a", "X: y"), response("Content-Length: 0")
    first = up(head, policy=POLICY)
    assert up(head, policy=POLICY) == first
    assert up(head, policy=POLICY, host=b"b") != first
    assert up(head, policy=POLICY) == first
    assert down(answer, policy=POLICY) == down(answer, policy=POLICY)
    assert b"\r\nConnection: close\r\n" in down(answer, policy=POLICY, keep_alive=False)


def test_what_differs_with_each_request_is_not_remembered() -> None:
    ops = HeaderOps(set=((b"X-Path", b"{path} {request_id}"),))
    head = request("Host: a")
    assert b"X-Path:  id\r\n" in up(head, policy=POLICY, ops=ops)
    assert not head.memo.passed


def test_after_a_reload_equal_policies_are_compared_once_and_not_for_ever() -> None:
    head, answer = request("Host: a"), response("Content-Length: 0")
    for policy in (ForwardPolicy(), ForwardPolicy()):
        up(head, policy=policy)
        down(answer, policy=policy)
        assert head.memo.passed_for[0] is policy
        assert answer.memo.passed_for[0] is policy

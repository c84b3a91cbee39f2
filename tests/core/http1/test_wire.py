"""One connection's bytes: messages in order, at every cut, to whatever end."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.core.http1.framing import chunk, last_chunk
from loomproxy.core.http1.limits import Limits, Refusal
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.message import (
    Framing,
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)
from tests.core.http1.cuts import cuts, requests, responses

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def request_wire(data: bytes = b"", **bounds: int) -> RequestWire:
    wire = RequestWire(Limits(**bounds))
    if data:
        wire.receive(data)
    return wire


def response_wire(data: bytes = b"", method: bytes = b"GET", **bounds: int) -> ResponseWire:
    wire = ResponseWire(Limits(**bounds))
    wire.expect(method)
    if data:
        wire.receive(data)
    return wire


def idle(wire: RequestWire) -> bool:
    return wire.idle


def clean(wire: ResponseWire) -> bool:
    return wire.clean


def refusal(wire: RequestWire | ResponseWire) -> str:
    what = wire.poll()
    assert isinstance(what, Refusal), what
    assert wire.poll() is None
    return what.fault.name


def test_a_client_that_pipelines_waits_for_its_turn() -> None:
    wire = request_wire(GET + GET)
    assert not idle(wire)
    assert isinstance(wire.poll(), RequestHead)
    assert wire.poll() is None
    assert wire.buffered == len(GET)
    wire.next_message()
    assert not idle(wire)
    assert isinstance(wire.poll(), RequestHead)
    wire.next_message()
    assert idle(wire)
    assert wire.poll() is None


def test_what_is_held_is_of_later_requests_once_this_one_was_read_to_its_end() -> None:
    wire = request_wire(POST + b"ab")
    assert isinstance(wire.poll(), RequestHead)
    wire.poll()
    assert [wire.over, wire.buffered] == [False, 0]
    wire.receive(b"c" + GET)
    wire.poll()
    assert [wire.over, wire.buffered] == [True, len(GET)]


def test_the_same_head_again_is_the_same_object_and_another_is_not() -> None:
    wire = request_wire(GET)
    first = wire.poll()
    wire.next_message()
    wire.receive(GET)
    assert wire.poll() is first
    wire.next_message()
    wire.receive(GET.replace(b"/ ", b"/x "))
    other = wire.poll()
    assert isinstance(other, RequestHead)
    assert isinstance(first, RequestHead)
    assert other.target == b"/x"
    assert other.block is first.block
    wire.next_message()
    wire.receive(GET.replace(b": a", b": b"))
    third = wire.poll()
    assert isinstance(third, RequestHead)
    assert third.host == b"b"


def test_a_large_head_is_read_but_not_remembered() -> None:
    large = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5000 + b"\r\n\r\n"
    wire = request_wire(large)
    first = wire.poll()
    wire.next_message()
    wire.receive(large)
    second = wire.poll()
    assert second == first
    assert second is not first


def test_a_body_and_its_end_come_in_one_part() -> None:
    wire = request_wire(POST + b"abcGET")
    assert isinstance(wire.poll(), RequestHead)
    assert wire.poll() == RequestPart(b"abc", ended=True)
    assert wire.poll() is None
    assert wire.buffered == 3


def test_a_whole_part_is_handed_on_as_it_came() -> None:
    wire = request_wire(POST)
    wire.poll()
    data = b"abc"
    wire.receive(data)
    part = wire.poll()
    assert isinstance(part, RequestPart)
    assert part.data is data


def test_chunks_that_come_together_are_handed_on_together() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = request_wire(head + chunk(b"ab") + chunk(b"cd"))
    wire.poll()
    assert wire.poll() == RequestPart(b"abcd", ended=False)
    wire.receive(b"0\r\n")
    assert wire.poll() is None
    wire.receive(b"X: y\r\n\r\n")
    assert wire.poll() == RequestPart(b"", ended=True, trailers=b"X: y\r\n")


def test_a_client_that_closes_between_requests_has_simply_left() -> None:
    wire = request_wire(b"\r\n")
    assert wire.poll() is None
    assert idle(wire)
    wire.receive(b"")
    assert wire.ended
    assert wire.poll() is None


@pytest.mark.parametrize("data", [b"G", b"\r", GET[:-1], GET[:-3]])
def test_a_client_that_closes_within_a_head_has_left(data: bytes) -> None:
    wire = request_wire(data)
    assert wire.poll() is None
    wire.receive(b"")
    assert refusal(wire) == "client_left"


def test_a_client_that_closes_after_its_request_still_gets_its_answer() -> None:
    wire = request_wire(GET)
    wire.receive(b"")
    assert isinstance(wire.poll(), RequestHead)
    assert wire.poll() is None
    wire.next_message()
    assert wire.poll() is None
    assert idle(wire)


def test_what_comes_after_a_refusal_is_not_kept() -> None:
    wire = request_wire(b"\x00")
    assert refusal(wire) == "request_malformed"
    wire.receive(b"x" * 100)
    assert wire.buffered == 0
    wire.next_message()
    assert wire.poll() is None


def test_two_empty_lines_before_a_request_are_ignored_and_no_more() -> None:
    assert isinstance(request_wire(b"\r\n\r\n" + GET).poll(), RequestHead)
    assert refusal(request_wire(b"\r\n\r\n\r\n" + GET)) == "request_malformed"
    assert refusal(request_wire(b"\r\r\n" + GET)) == "request_malformed"


def test_a_client_that_closes_within_a_body_has_left() -> None:
    wire = request_wire(POST + b"a")
    wire.poll()
    assert wire.poll() == RequestPart(b"a", ended=False)
    wire.receive(b"")
    assert refusal(wire) == "client_left"


def test_an_upstream_that_closes_within_a_body_has_cut_it() -> None:
    wire = response_wire(OK + b"a")
    wire.poll()
    assert wire.poll() == ResponsePart(b"a", ended=False)
    wire.receive(b"")
    assert refusal(wire) == "upstream_cut"


def test_chunks_from_an_upstream() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = response_wire(head + chunk(b"ab") + b"x")
    wire.poll()
    assert wire.poll() == ResponsePart(b"ab", ended=False)
    wire.receive(b"\r\n")
    assert refusal(wire) == "upstream_cut"


def test_an_unusual_head_from_an_upstream() -> None:
    assert isinstance(response_wire(b"HTTP/1.1 200 OK\r\nX:y\r\n\r\n").poll(), ResponseHead)
    assert refusal(response_wire(b"HTTP/1.1 200 OK\r\nX y\r\n\r\n")) == "upstream_malformed"
    assert refusal(response_wire(b"\x00")) == "upstream_malformed"
    interim = response_wire(b"HTTP/1.1 103 Early\r\n\r\n" + OK)
    first, second = interim.poll(), interim.poll()
    assert isinstance(first, ResponseHead)
    assert isinstance(second, ResponseHead)
    assert (first.status, second.status) == (103, 200)


def test_a_request_must_be_over_before_the_next() -> None:
    wire = request_wire(POST)
    wire.poll()
    with pytest.raises(AssertionError):
        wire.next_message()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"G" * 200, "target_too_long"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200, "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200 + b"\r\n\r\n", "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 50 + b"\ny" + b"x" * 100, "request_malformed"),
    ],
)
def test_a_head_is_bounded_at_every_cut(data: bytes, fault: str) -> None:
    limits = Limits(head_bytes_max=100)
    for pieces in cuts(data):
        assert requests(pieces, limits) == [("refused", fault)]


def test_a_head_of_exactly_the_bound_passes() -> None:
    assert isinstance(request_wire(GET, head_bytes_max=len(GET)).poll(), RequestHead)
    assert refusal(request_wire(GET, head_bytes_max=len(GET) - 1)) == "head_too_large"


def test_a_body_over_the_bound_is_refused_at_its_head() -> None:
    assert refusal(request_wire(POST, body_bytes_max=2)) == "body_too_large"


def test_a_tunnel_takes_what_was_sent_early() -> None:
    wire = request_wire(GET + b"early")
    wire.poll()
    assert wire.take_rest() == b"early"
    assert wire.buffered == 0
    assert wire.poll() is None


def test_a_response_leaves_the_connection_clean() -> None:
    wire = response_wire(OK + b"ab")
    assert not clean(wire)
    whole = wire.poll()
    assert isinstance(whole, Response)
    assert whole.data == b"ab"
    assert clean(wire)
    wire.expect(b"HEAD")
    wire.receive(OK)
    assert isinstance(wire.poll(), ResponseHead)
    assert clean(wire)


def test_bytes_behind_a_response_make_the_connection_useless() -> None:
    wire = response_wire(OK + b"abX")
    wire.poll()
    wire.poll()
    assert wire.poll() is None
    assert not clean(wire)
    with pytest.raises(AssertionError):
        wire.expect(b"GET")


def test_bytes_and_closes_between_responses_are_noticed() -> None:
    wire = ResponseWire(Limits())
    assert clean(wire)
    wire.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.poll() is None
    assert not clean(wire)
    closed = ResponseWire(Limits())
    closed.receive(b"")
    assert not clean(closed)
    closed.expect(b"GET")
    assert refusal(closed) == "upstream_closed"


def test_an_upstream_that_closes_before_it_answers() -> None:
    wire = response_wire()
    assert wire.poll() is None
    wire.receive(b"")
    assert refusal(wire) == "upstream_closed"


def test_an_upstream_that_closes_after_one_byte_must_not_be_asked_again() -> None:
    wire = response_wire(b"H")
    assert wire.poll() is None
    wire.receive(b"")
    assert refusal(wire) == "upstream_malformed"


def test_a_response_head_is_bounded() -> None:
    assert (
        refusal(response_wire(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99, head_bytes_max=50))
        == "upstream_malformed"
    )
    assert refusal(response_wire(OK, body_bytes_max=1)) == "upstream_malformed"


def test_a_length_over_the_bound_is_refused_even_where_no_body_follows() -> None:
    assert refusal(response_wire(OK, b"HEAD", body_bytes_max=1)) == "upstream_malformed"


def test_a_body_until_close() -> None:
    wire = response_wire(b"HTTP/1.1 200 OK\r\n\r\nab")
    head = wire.poll()
    assert isinstance(head, ResponseHead)
    assert head.framing is Framing.CLOSE
    assert wire.poll() == ResponsePart(b"ab", ended=False)
    assert wire.poll() is None
    wire.receive(b"")
    assert wire.poll() == ResponsePart(b"", ended=True)
    assert not clean(wire)


def test_a_body_until_close_does_not_end_where_the_connection_broke() -> None:
    wire = response_wire(b"HTTP/1.1 200 OK\r\n\r\nab")
    wire.poll()
    assert wire.poll() == ResponsePart(b"ab", ended=False)
    wire.break_off()
    assert refusal(wire) == "upstream_cut"


def test_a_body_until_close_is_bounded() -> None:
    wire = response_wire(b"HTTP/1.1 200 OK\r\n\r\nabc", body_bytes_max=2)
    wire.poll()
    assert wire.poll() == ResponsePart(b"ab", ended=False)
    assert refusal(wire) == "upstream_cut"


def test_after_101_the_bytes_are_no_longer_ours() -> None:
    wire = response_wire(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81")
    head = wire.poll()
    assert isinstance(head, ResponseHead)
    assert head.framing is Framing.TUNNEL
    assert wire.poll() is None
    wire.receive(b"\x82")
    assert not clean(wire)
    assert wire.take_rest() == b"\x81\x82"


def test_a_trickling_head_is_not_searched_from_its_beginning_again() -> None:
    wire = request_wire(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    assert wire.poll() is None
    before = wire._searched
    wire.receive(b"y" * 10)
    assert wire.poll() is None
    assert wire._searched == before + 10


_BODIES = st.lists(st.binary(min_size=1, max_size=20), max_size=4)
_MESSAGES = st.one_of(
    st.just((b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"")),
    st.just((b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", b"")),
    _BODIES.map(
        lambda b: (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(map(chunk, b))
            + last_chunk(b""),
            b"".join(b),
        )
    ),
    _BODIES.map(
        lambda b: (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(b"".join(b)), b"".join(b)),
            b"".join(b),
        )
    ),
)


@settings(max_examples=150)
@given(st.lists(_MESSAGES, max_size=4), st.data())
def test_pipelined_requests_read_alike_however_they_are_cut(
    messages: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(message for message, _ in messages)
    ends = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)) | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(ends)]
    whole = requests([stream] if stream else [])
    assert requests(pieces) == whole
    assert sum(isinstance(what, RequestHead) for what in whole) == len(messages)
    payload = b"".join(what[1] for what in whole if isinstance(what, tuple) and what[0] == "body")
    assert payload == b"".join(body for _, body in messages)


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_noise_reads_alike_however_it_is_cut(noise: bytes, cut: int) -> None:
    pieces = [piece for piece in (noise[:cut], noise[cut:]) if piece]
    assert requests(pieces) == requests([noise] if noise else [])
    # After a response what follows is left, so only the verdict is compared.
    assert responses(pieces) == responses([noise] if noise else [])

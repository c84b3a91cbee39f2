"""What comes again on a connection, what has nothing more to say, and what is refused half-way."""

from loomproxy.core.http1.limits import MEMO_BYTES_MAX, Limits, Refusal
from loomproxy.core.http1.wire import RequestWire, ResponseWire
from loomproxy.core.message import Framing, RequestHead, Response, ResponseHead, ResponsePart
from tests.core.http1.cuts import requests

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def response_wire(data: bytes) -> ResponseWire:
    wire = ResponseWire(Limits())
    wire.expect(b"GET")
    if data:
        wire.receive(data)
    return wire


def test_there_is_nothing_to_say_without_bytes_or_an_end() -> None:
    wire = response_wire(b"")
    assert wire.exhausted
    wire.receive(OK)
    assert not wire.exhausted
    wire.poll()
    wire.receive(b"")
    assert not wire.exhausted


def test_the_same_head_again_is_read_alike_whatever_surrounds_it() -> None:
    get, answer = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", OK + b"ab"
    assert requests([get, get]) == requests([get + get]) == requests([get[:5], get[5:] + get])
    wire = response_wire(answer)
    first = wire.poll()
    for method, cut in ((b"GET", 0), (b"GET", 60), (b"HEAD", 0), (b"GET", 0)):
        wire.expect(method)
        sent = OK if method == b"HEAD" else answer
        for piece in filter(None, (sent[:cut], sent[cut:])):
            wire.receive(piece)
            read = wire.poll()
        if method == b"HEAD":
            assert isinstance(read, ResponseHead)
            assert read.framing is Framing.NONE
        else:
            assert read in (first, ResponsePart(b"ab", ended=True))
        assert wire.clean


def test_chunks_that_cannot_be_read_are_refused_and_half_of_one_is_waited_for() -> None:
    wire = RequestWire(Limits())
    wire.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    assert isinstance(wire.poll(), RequestHead)
    refused = wire.poll()
    assert isinstance(refused, Refusal)
    answer = response_wire(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2")
    assert isinstance(answer.poll(), ResponseHead)
    assert answer.poll() is None
    answer.receive(b"\r\nab\r\n0\r\n\r\n")
    assert answer.poll() == ResponsePart(b"ab", ended=True)


def test_a_large_head_is_not_remembered() -> None:
    large = OK.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\nab" % (b"x" * MEMO_BYTES_MAX))
    wire = response_wire(large)
    first = wire.poll()
    wire.expect(b"GET")
    wire.receive(large)
    again = wire.poll()
    assert isinstance(first, Response)
    assert isinstance(again, Response)
    assert again == first
    assert again.head is not first.head


def test_one_byte_does_not_keep_a_whole_read_alive() -> None:
    wire = RequestWire(Limits())
    length = 250_000
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
    wire.receive(head + b"x" * length + b"G")
    wire.poll()
    wire.poll()
    assert wire.buffered == len(wire._data) == 1
    wire.next_message()
    wire.receive(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(wire.poll(), RequestHead)


def test_an_interim_head_does_not_take_the_place_of_the_final_one() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    wire = response_wire(early + OK + b"ab")
    wire.poll()
    first = wire.poll()
    wire.expect(b"GET")
    wire.receive(early + OK + b"ab")
    wire.poll()
    again = wire.poll()
    assert isinstance(first, Response)
    assert isinstance(again, Response)
    assert again.head is first.head

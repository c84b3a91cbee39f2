"""An event stream is right when its body is, however it was framed and wherever reads cut it."""

import pytest

from loadtest import speech
from loadtest.stream import Stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: Chunked\r\n\r\n"
END = b"0\r\n\r\n"
COUNT = 3
BODY = b"".join(speech.event(number) for number in range(COUNT))


def as_sent() -> bytes:
    return HEAD + b"".join(speech.chunk(number) for number in range(COUNT)) + END


def chunked(body: bytes, size: int, line: bytes = b"%x\r\n") -> bytes:
    pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
    return b"".join(line % len(piece) + piece + b"\r\n" for piece in pieces)


def fed(*pieces: bytes) -> Stream:
    stream = Stream()
    for piece in pieces:
        stream.feed(piece)
    return stream


def test_chunks_that_come_as_they_were_sent_are_counted_one_by_one() -> None:
    stream = fed(HEAD + speech.chunk(0))
    for number in range(1, COUNT):
        assert stream.seen == number
        stream.feed(speech.chunk(number))
    assert (stream.seen, stream.ended) == (COUNT, False)
    stream.feed(END)
    assert (stream.seen, stream.ended, stream.problem) == (COUNT, True, "")


def test_where_reads_cut_does_not_matter() -> None:
    whole = as_sent()
    for cut in range(1, len(whole)):
        stream = fed(whole[:cut], whole[cut:])
        assert (stream.seen, stream.ended, stream.problem) == (COUNT, True, ""), cut
    stream = fed(*(whole[at : at + 1] for at in range(len(whole))))
    assert (stream.seen, stream.ended, stream.problem) == (COUNT, True, "")


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101, 250, 300])
@pytest.mark.parametrize("line", [b"%x\r\n", b"%X\r\n", b"%08x\r\n", b"%x;a=b\r\n"])
def test_another_framing_of_the_same_body_is_right(size: int, line: bytes) -> None:
    stream = fed(HEAD, chunked(BODY, size, line), END)
    assert (stream.seen, stream.ended, stream.problem) == (COUNT, True, "")


@pytest.mark.parametrize(
    ("come", "words"),
    [
        (HEAD + speech.chunk(1), "instead of event 0"),
        (HEAD + speech.chunk(0) * 2, "instead of event 1"),
        (HEAD + chunked(BODY[:150], 150) + END, "half an event at the end"),
        (HEAD + b"64\r\n" + speech.event(0) + b"xx", "a chunk's end"),
        (HEAD + b"zz\r\n", "no chunk size"),
        (HEAD + b"6" * 2000, "no end of a chunk size"),
        (as_sent() + b"HTTP/1.1", "after the end"),
        (b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n", "no chunked 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + BODY, "no chunked 200"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "no end of the head"),
    ],
)
def test_what_was_lost_doubled_torn_or_never_streamed_is_told(come: bytes, words: str) -> None:
    stream = fed(come)
    assert words in stream.problem


def test_nothing_counts_after_a_problem() -> None:
    stream = fed(HEAD + speech.chunk(0), speech.chunk(2))
    assert (stream.seen, bool(stream.problem)) == (1, True)
    stream.feed(speech.chunk(1))
    assert stream.seen == 1

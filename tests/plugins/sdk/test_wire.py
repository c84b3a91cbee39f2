"""HTTP, lines and JSON as bytes: what the grammar allows, and each way in which it is broken."""

import asyncio
from typing import Any

import pytest

from loomproxy.plugins.sdk import wire


def reader(text: str, limit: int = wire.HEAD_BYTES_MAX) -> asyncio.StreamReader:
    """A connection that has said this, and has ended."""
    made = asyncio.StreamReader(limit=limit)
    made.feed_data(text.encode("latin-1"))
    made.feed_eof()
    return made


async def body(text: str, **fields: str) -> bytes:
    """The body of a message with these fields."""
    head = wire.Head(("POST", "/", "HTTP/1.1"), {k.replace("_", "-"): v for k, v in fields.items()})
    return await wire.read_whole(wire.read_pieces(reader(text), head), 100)


async def test_a_head_is_its_first_line_and_its_fields_in_lower_case() -> None:
    text = "GET /a b HTTP/1.1\r\nA-B:\t1 \r\na-b: 2\r\nEmpty:\r\nConnection: x, Close\r\n\r\n"
    head = await wire.read_head(reader(text))
    assert head is not None
    assert head.first == ("GET", "/a", "b HTTP/1.1")
    assert head.fields == {"a-b": "1, 2", "empty": "", "connection": "x, Close"}
    assert (head.asks("close"), head.asks("keep-alive")) == (True, False)
    assert (head.chunked, head.length) == (False, None)
    assert await wire.read_head(reader("")) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("GET / HT", "ended within a head"),
        ("GET\r\n\r\n", "first line 'GET'"),
        ("A B C\r\n: x\r\n\r\n", "is no field"),
        ("A B C\r\nX : x\r\n\r\n", "is no field"),
        ("A B C\r\nX: a\0b\r\n\r\n", "is no field"),
        ("A B C\r\nContent-Length: 1x\r\n\r\n", "no number"),
        ("A B C\r\nContent-Length: +1\r\n\r\n", "no number"),
        ("A B C\r\nContent-Length: 1, 1\r\n\r\n", "no number"),
        ("A B C\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "only chunked"),
    ],
)
async def test_what_is_no_head(text: str, words: str) -> None:
    with pytest.raises(wire.Malformed, match=words):
        await wire.read_head(reader(text))


async def test_the_same_length_twice_is_one_length() -> None:
    text = "A B C\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n"
    head = await wire.read_head(reader(text))
    assert head is not None
    assert head.length == 3


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("abc", {"content_length": "2"}, b"ab"),
        ("abc", {"content_length": "0"}, b""),
        ("abc", {}, b"abc"),
        ("2 ;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n", {"transfer_encoding": "chunked"}, b"abc"),
        ("0\r\nTrailer: x\r\n\r\n", {"transfer_encoding": "chunked"}, b""),
    ],
)
async def test_a_body_is_as_long_as_it_says(
    text: str, fields: dict[str, str], expected: bytes
) -> None:
    assert await body(text, **fields) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ended within a chunked body"),
        ("3\r\nab", "ended within a chunk"),
        ("1\r\nab\r\n", "longer than its size"),
        ("\r\n", "no size of a chunk"),
        ("-1\r\n", "no size of a chunk"),
        ("0x1\r\na\r\n", "no size of a chunk"),
        ("1" * 17 + "\r\n", "no size of a chunk"),
        ("1;" + "x" * 5000 + "\r\n", "more than 4096 bytes"),
        ("1;" + "x" * 70_000 + "\r\n", "never ends"),
    ],
)
async def test_what_is_no_chunked_body(text: str, words: str) -> None:
    with pytest.raises(wire.Malformed, match=words):
        await body(text, transfer_encoding="chunked")


async def test_bodies_and_trailers_have_bounds() -> None:
    with pytest.raises(wire.TooLarge, match="a body may have 100 bytes"):
        await body("x" * 101)
    trailer = "0\r\n" + ("T: " + "x" * 4000 + "\r\n") * 20 + "\r\n"
    with pytest.raises(wire.TooLarge, match="a trailer"):
        await body(trailer, transfer_encoding="chunked")
    with pytest.raises(wire.Malformed, match="ended 3 bytes before"):
        await wire.read_exactly(reader("ab"), 5)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_three_ways_wherever_they_are_cut(end: bytes) -> None:
    text = "eins\n\nzwei ü\n".encode().replace(b"\n", end) + b"drei"
    for at in range(len(text) + 1):
        lines = wire.Lines()
        found = [*lines.feed(text[:at]), *lines.feed(b""), *lines.feed(text[at:])]
        assert (found, lines.end()) == (["eins", "", "zwei ü"], "drei")


def test_a_line_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_BYTES_MAX", 10)
    lines = wire.Lines()
    assert list(lines.feed(b"0123456789")) == []
    with pytest.raises(wire.TooLarge):
        list(lines.feed(b"0"))


def test_events_are_read_as_the_standard_says() -> None:
    events = wire.Events()
    text = ["\ufeffdata", "id: 3", "", "event: a", "", "data:  x", "retry: 1", "event:b", ""]
    found = [event for line in text if (event := events.feed(line))]
    assert found == [wire.Event("message", ""), wire.Event("b", " x")]


@pytest.mark.parametrize("value", [{"a": ["ü", 1, None, True]}, "\ud83d", [1.5e300]])
def test_json_goes_there_and_back(value: Any) -> None:
    assert wire.load(wire.dump(value)) == value


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[-Infinity]", b"\xff", b"[" * 100_000])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(wire.Malformed, match="is no JSON"):
        wire.load(text)


def test_what_json_cannot_say_is_not_said() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        wire.dump([float("nan")])

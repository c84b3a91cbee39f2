"""Events in a stream of bytes, whatever the cuts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.chat.events import EVENT_BYTES_MAX, Event, Events

ENDS = [b"\n", b"\r\n", b"\r"]


def found(*pieces: bytes) -> tuple[list[Event], bool]:
    """All events of these pieces, and whether one was too large."""
    events = Events()
    said = [event for piece in pieces for event in events.feed(piece, ended=False)]
    said += events.feed(b"", ended=True)
    return said, events.over


@pytest.mark.parametrize("end", ENDS)
def test_an_event_ends_with_an_empty_line(end: bytes) -> None:
    first, second = b"data: a" + end + end, b"event: x" + end + b"data:b" + end + b"data" + end
    assert found(first + second + end + b"data: c" + end + end + b"x")[0][:2] == [
        Event(first, b"a"),
        Event(second + end, b"b\n"),
    ]


def test_an_event_is_found_as_soon_as_it_is_whole() -> None:
    events = Events()
    assert events.feed(b"data: 1\n", ended=False) == []
    assert events.feed(b"\nda", ended=False) == [Event(b"data: 1\n\n", b"1")]
    assert events.feed(b"ta: 2\r\n\r", ended=False) == []
    assert events.feed(b"\n", ended=False) == [Event(b"data: 2\r\n\r\n", b"2")]


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b": a comment\n\n", None),
        (b"id: 7\nretry: 10\n\n", None),
        (b"database: x\n\n", None),
        (b"data:\n\n", b""),
        (b"data\n\n", b""),
        (b"data:  two spaces\n\n", b" two spaces"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
    ],
)
def test_its_data_is_what_its_lines_of_that_name_say(raw: bytes, data: bytes | None) -> None:
    assert found(raw) == ([Event(raw, data)], False)


def test_the_last_event_needs_no_empty_line() -> None:
    assert found(b"data: a\n\ndata: [DONE]")[0][-1] == Event(b"data: [DONE]\n\n", b"[DONE]")
    assert found(b"data: [DONE]\r\n")[0] == [Event(b"data: [DONE]\n\n", b"[DONE]")]
    assert found(b"data: a\n\n\r\n\n")[0][-1].data in {None, b"a"}


def test_an_event_that_is_too_large_ends_everything() -> None:
    large = b"data: " + b"x" * EVENT_BYTES_MAX
    for cut in (len(large) + 1, 1000):
        assert found(b"data: a\n\n", large[:cut], large[cut:], b"\n\n", b"data: b\n\n") == (
            [Event(b"data: a\n\n", b"a")],
            True,
        )
    assert found(b"data: a\n\n" + large + b"\n\ndata: b\n\n") == (
        [Event(b"data: a\n\n", b"a")],
        True,
    )


def test_a_large_event_may_come_byte_by_byte() -> None:
    events = Events()
    for byte in b"data: " + b"x" * 20_000:
        assert not events.feed(bytes((byte,)), ended=False)
    assert len(events.feed(b"\n\n", ended=False)) == 1


TEXTS = st.lists(
    st.sampled_from([b"data: a", b"data:", b"data", b": c", b"id: 1", b"x", b"\n", b"\r", b"\r\n"]),
    max_size=20,
).map(b"".join)


@given(TEXTS | st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=6))
def test_cuts_change_nothing(text: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert found(*pieces) == found(text)
    assert found(*(bytes((byte,)) for byte in text)) == found(text)

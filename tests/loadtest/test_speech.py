"""What upstream and clients say is told apart by its bytes, and framed as the RFCs have it."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader
from websockets.utils import accept_key

from loadtest import speech


def read_frame(whole: bytes, *, from_client: bool) -> Frame:
    """Read one frame with the library websockets, which is strict about masks and lengths."""
    reader = StreamReader()
    reader.feed_data(whole)
    reader.feed_eof()
    parsing = Frame.parse(reader.read_exact, mask=from_client)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    assert reader.at_eof()
    frame: Frame = end.value.value
    return frame


def test_a_client_frame_is_a_masked_text_frame_of_the_payload() -> None:
    payload = speech.message(7)
    assert payload not in speech.client_frame(payload)
    frame = read_frame(speech.client_frame(payload), from_client=True)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, payload, True)


def test_a_server_frame_is_an_unmasked_text_frame_of_the_payload() -> None:
    frame = read_frame(speech.server_frame(speech.message(7)), from_client=False)
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, speech.message(7), True)


def test_the_accept_value_is_the_one_the_library_computes() -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    assert speech.accept_for(key.encode()).decode() == accept_key(key)


def test_messages_of_two_connections_differ_and_are_of_one_size() -> None:
    assert speech.message(1) != speech.message(2)
    assert {len(speech.message(number)) for number in (0, 1, 999_999)} == {100}


def test_events_are_numbered_and_of_one_size() -> None:
    assert speech.event(41) != speech.event(42)
    assert {len(speech.event(number)) for number in (0, 42, speech.EVENTS_MAX)} == {100}
    assert speech.event(42).startswith(b"id: 00000042\ndata: ")
    assert speech.event(42).endswith(b"\n\n")
    assert speech.chunk(42) == b"64\r\n" + speech.event(42) + b"\r\n"

"""Frames: what a peer of ours, or a guest, can send in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.frame import FrameError, Frames, frame


@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_payloads_survive_any_split(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames()
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += frames.receive(stream[start:end])
    assert got == payloads
    assert frames.clean


def test_peer_that_leaves_in_the_middle_is_noticed() -> None:
    frames = Frames()
    assert frames.clean
    assert frames.receive(frame(b"whole") + frame(b"half")[:-1]) == [b"whole"]
    assert not frames.clean


def test_frame_above_the_bound_is_refused_before_it_arrives() -> None:
    frames = Frames(payload_bytes_max=8)
    assert frames.receive(frame(b"12345678")) == [b"12345678"]
    with pytest.raises(FrameError, match="9 bytes is above 8"):
        frames.receive(frame(b"123456789")[:4])


def test_too_large_a_payload_is_not_sent() -> None:
    with pytest.raises(FrameError, match="9 bytes is above 8"):
        frame(b"123456789", payload_bytes_max=8)

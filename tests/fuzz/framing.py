"""Bodies in chunks, and frames: where they end, however they are cut."""

import struct
from typing import Final

from loomproxy.core.frame import FrameError, Frames, frame
from loomproxy.core.http1.framing import canonical_block, chunk, last_chunk
from loomproxy.core.hygiene import trailers
from loomproxy.core.message import fields
from tests.core.http1.cuts import requests
from tests.core.http1.heard import alike, heard_requests
from tests.fuzz.wire import Knobs

_CHUNKED: Final = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_FRAME_BYTES_MAX: Final = 300


def framing(given: bytes) -> None:
    """A chunked body has the payload and the end that h11 finds; what we write reads back."""
    _, limits, pieces, data = Knobs.read(given)
    whole = requests([_CHUNKED + data], limits)
    assert requests([_CHUNKED, *pieces], limits) == whole
    alike(whole, heard_requests(_CHUNKED + data))
    _written_again(whole, limits)


def _written_again(whole, limits) -> None:
    """What we send of such a body is read back as the same."""
    kinds = [what[0] if isinstance(what, tuple) else "head" for what in whole[:3]]
    if "end" not in kinds or "refused" in kinds[: kinds.index("end")]:
        return
    end = kinds.index("end")
    kept = trailers(whole[end][1])
    assert canonical_block(kept) == kept
    payload = whole[1][1] if kinds[1] == "body" else b""
    again = _CHUNKED + (chunk(payload) if payload else b"") + last_chunk(kept)
    assert requests([again], limits) == [*whole[:end], ("end", kept)]
    heard = heard_requests(again)
    assert ("end", fields(kept)) in heard


def frames(given: bytes) -> None:
    """Frames come out as a simple reading of the whole has them, and no more is held."""
    _, _, pieces, data = Knobs.read(given)
    wanted, error = _simply(data)
    for some in ([data], pieces):
        reader = Frames(_FRAME_BYTES_MAX)
        got: list[bytes] = []
        refused = False
        for piece in some:
            try:
                got += reader.receive(piece)
            except FrameError:
                refused = True
                break
            assert len(reader._buffer) < _FRAME_BYTES_MAX + 4
        assert refused is error
        # Frames that came together with one that is refused are lost with the connection.
        assert got == wanted or (refused and got == wanted[: len(got)])
        assert refused or reader.clean is (b"".join(frame(each) for each in got) == data)


def _simply(data: bytes) -> tuple[list[bytes], bool]:
    found = []
    while len(data) >= 4:
        (length,) = struct.unpack(">I", data[:4])
        if length > _FRAME_BYTES_MAX:
            return found, True
        if len(data) < 4 + length:
            break
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found, False

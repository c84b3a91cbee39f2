"""The live upstream: what a client of any make gets from it, and what ends a connection."""

import socket
import time

import pytest
from websockets.sync.client import connect

from loadtest import speech
from loadtest.live import HEAD_BYTES_MAX, STREAM_HEAD, TAKEN, Refused, echo_of, fields_of
from loadtest.processes import LOOPBACK
from loadtest.workloads import MUCH_UP

PATIENCE_S = 10.0


def asked(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection((LOOPBACK, port), timeout=PATIENCE_S)
    connection.sendall(request)
    return connection


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def read_until(connection: socket.socket, end: bytes) -> bytes:
    whole = b""
    while not whole.endswith(end):
        received = connection.recv(65_536)
        assert received, f"closed after {whole!r}"
        whole += received
    return whole


def test_events_come_in_order_one_each_period_and_then_end(port: int) -> None:
    began_at = time.monotonic()
    with asked(port, get(f"{speech.EVENTS}3")) as connection:
        whole = read_until(connection, b"\r\n0\r\n\r\n")
        assert time.monotonic() - began_at >= 2 * speech.EVENT_PERIOD_S
        assert whole == STREAM_HEAD + b"".join(map(speech.chunk, range(3))) + b"0\r\n\r\n"
        connection.sendall(get(speech.SINK))  # The connection stays.
        assert read_until(connection, b"hello\n") == TAKEN


def test_a_body_is_answered_when_its_last_byte_has_come_and_not_before(port: int) -> None:
    head = f"POST {speech.SINK} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n".encode()
    with asked(port, head + b"1234") as connection:
        with asked(port, get(speech.SINK)) as other:  # Whatever was to be said is said by now.
            read_until(other, b"hello\n")
        connection.settimeout(0)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        connection.settimeout(PATIENCE_S)
        connection.sendall(b"5")
        assert read_until(connection, b"hello\n") == TAKEN


def test_a_mebibyte_is_taken(port: int) -> None:
    MUCH_UP.verify(port)


def test_a_real_websocket_client_hears_its_own_words(port: int) -> None:
    with connect(f"ws://{LOOPBACK}:{port}{speech.ECHO}", proxy=None) as client:
        for words in ("one", "", "x" * speech.MESSAGE_BYTES_MAX):
            client.send(words)
            assert client.recv(timeout=PATIENCE_S) == words
        # A closing handshake is none of the frames it plays along with: it hangs up.


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"what is this\r\n\r\n",
        get("/live/elsewhere"),
        get(f"{speech.EVENTS}0"),
        get(f"{speech.EVENTS}many"),
        get(f"{speech.EVENTS}{speech.EVENTS_MAX + 1}"),
        get(speech.ECHO),
        f"POST {speech.SINK} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
        f"POST {speech.SINK} HTTP/1.1\r\nContent-Length: 1\r\n\r\ntwo".encode(),
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX,
    ],
)
def test_what_it_does_not_play_ends_the_connection_without_an_answer(
    port: int, request_bytes: bytes
) -> None:
    with asked(port, request_bytes) as connection:
        assert connection.recv(1) == b""


def test_a_listener_that_speaks_is_hung_up_on(port: int) -> None:
    with asked(port, get(f"{speech.EVENTS}100")) as connection:
        read_until(connection, speech.chunk(0))
        connection.sendall(b"x")
        while connection.recv(65_536):
            pass


def test_a_head_is_read_into_target_and_fields() -> None:
    head = b"GET /a HTTP/1.1\r\nHost: x:1\r\nX-Forwarded-For:  1.2.3.4"
    assert fields_of(head) == ("/a", {"host": "x:1", "x-forwarded-for": "1.2.3.4"})


@pytest.mark.parametrize("head", [b"", b"GET /", b"GET / HTTP/1.1 x", b"GET / HTTP/1.1\r\nHost"])
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(Refused, match="no request"):
        fields_of(head)


def test_frames_are_echoed_when_they_are_whole() -> None:
    whole = speech.client_frame(b"one") + speech.client_frame(b"two")
    for cut in range(len(whole) + 1):
        received = bytearray(whole[:cut])
        answers = echo_of(received)
        received += whole[cut:]
        answers += echo_of(received)
        assert answers == speech.server_frame(b"one") + speech.server_frame(b"two")
        assert received == b""


@pytest.mark.parametrize("frame", [b"\x88\x80mask", b"\x01\x80mask", b"\x81\x03one"])
def test_a_frame_that_is_not_a_whole_masked_text_is_refused(frame: bytes) -> None:
    with pytest.raises(Refused, match="no whole, masked text frame"):
        echo_of(bytearray(frame))

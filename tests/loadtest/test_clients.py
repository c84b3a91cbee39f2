"""Our clients of event streams and echoes: right upstreams give figures, wrong ones are told."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from loadtest import speech
from loadtest.events import EventStreams
from loadtest.live import STREAM_END, STREAM_HEAD, SWITCHING, fields_of
from loadtest.load import Load, Task, percentile, pinned
from loadtest.processes import LOOPBACK
from loadtest.trouble import Trouble
from loadtest.websocket import Echoes, Talker

PATIENCE_S = 10.0
STEADY_S = 0.3
STREAMS = EventStreams(connections=20, ramp_s=0.1, spare_s=0.1)


class Watched:
    """How often, and for what, somebody looked."""

    def __init__(self) -> None:
        self.moments: list[str] = []

    def __enter__(self) -> None:
        self.moments.append("begin")

    def __exit__(self, *_: object) -> None:
        self.moments.append("end")


def task(port: int, directory: Path, watch: Watched) -> Task:
    return Task(port, STEADY_S, min(os.sched_getaffinity(0)), directory, watch)


def test_all_events_of_all_streams_come_and_the_steady_part_is_watched(
    port: int, tmp_path: Path
) -> None:
    watch = Watched()
    load = STREAMS.run(task(port, tmp_path, watch))
    assert load.failures == {"events_missing": 0, "streams_broken": 0, "streams_late": 0}
    assert watch.moments == ["begin", "end"]
    assert load.duration_us >= STEADY_S * 990_000, "two clocks differ a little"
    # Three events on each stream, one more or less at the edges.
    assert 2 * STREAMS.connections <= load.done <= 5 * STREAMS.connections
    assert 0 < load.p50_us <= load.p99_us


def test_echoes_come_back_and_are_counted_while_watched(port: int, tmp_path: Path) -> None:
    watch = Watched()
    load = Echoes(connections=4).run(task(port, tmp_path, watch))
    assert load.failed == 0
    assert watch.moments == ["begin", "end"]
    assert load.done > 4
    assert 0 < load.p50_us <= load.p99_us


@contextlib.contextmanager
def answering(reply: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """Take one connection; to what it says first give the first piece, and so on; then close."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                for piece in reply(connection.recv(65_536)):
                    connection.sendall(piece)
                    if connection.recv(65_536) == b"":
                        break

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            STREAM_HEAD + speech.chunk(0) + STREAM_END,
            "1 of 2 events came as they should; ended: True",
        ),
        (STREAM_HEAD + speech.chunk(1), "instead of event 0"),
        (b"HTTP/1.1 503 no\r\n\r\n", "no chunked 200"),
    ],
)
def test_what_is_no_right_stream_is_not_measured(answer: bytes, words: str) -> None:
    with answering(lambda _: [answer]) as port, pytest.raises(Trouble, match=words):
        STREAMS.verify(port)


def test_a_stream_that_is_cut_counts_as_broken_and_its_events_as_missing(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:

        def cut() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(STREAM_HEAD + speech.chunk(0))

        thread = threading.Thread(target=cut)
        thread.start()
        one = EventStreams(connections=1, ramp_s=0.1, spare_s=0.1)
        load = one.run(task(listener.getsockname()[1], tmp_path, Watched()))
        thread.join(timeout=PATIENCE_S)
    assert load.failures == {"events_missing": 4, "streams_broken": 1, "streams_late": 0}


def test_a_real_websocket_server_is_understood() -> None:
    def echo(connection: ServerConnection) -> None:
        for words in connection:
            connection.send(words)

    with serve(echo, LOOPBACK, 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Echoes(connections=1).verify(server.socket.getsockname()[1])
        server.shutdown()
        thread.join(timeout=PATIENCE_S)


def upgrade(asked: bytes, *, key: bytes | None = None) -> bytes:
    _, fields = fields_of(asked.partition(b"\r\n\r\n")[0])
    return SWITCHING % speech.accept_for(key or fields["sec-websocket-key"].encode())


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
            "was answered b'HTTP/1.1 200",
        ),
        (lambda asked: [upgrade(asked, key=b"another")], "was answered b'HTTP/1.1 101"),
        (
            lambda asked: [upgrade(asked), speech.server_frame(speech.message(1))],
            "instead of",
        ),
        (lambda asked: [upgrade(asked)], "b'' instead of"),
    ],
)
def test_what_is_no_right_echo_is_not_measured(
    reply: Callable[[bytes], list[bytes]], words: str
) -> None:
    with answering(reply) as port, pytest.raises(Trouble, match=words):
        Echoes(connections=1).verify(port)


def test_an_echo_in_pieces_is_one_echo() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        talker = Talker(ours, 3)
        answer = speech.server_frame(speech.message(3))
        for piece, whole in ((answer[:50], False), (answer[50:], True), (answer, True)):
            theirs.sendall(piece)
            assert talker.hear() is whole
        theirs.sendall(answer[:1])
        assert not talker.hear()
        theirs.close()
        with pytest.raises(ValueError, match="instead of"):
            talker.hear()


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 99) == 99.0
    assert percentile([5.0], 99) == 5.0
    assert percentile([], 50) == 0.0


def test_a_client_has_its_core_and_gives_it_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_every_kind_of_failure_counts() -> None:
    load = Load(done=1000, duration_us=500_000, p50_us=1, p99_us=2, failures={"a": 2, "b": 3})
    assert (load.failed, load.per_s) == (5, 2000.0)

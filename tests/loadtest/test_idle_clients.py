"""Idle clients ask once, stay, and notice when they are dropped."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from loadtest.idle_clients import ASK, closed_by_other_side, held
from loadtest.trouble import Trouble

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"


@contextlib.contextmanager
def answering(answer: bytes, accepted: list[socket.socket], count: int) -> Iterator[int]:
    """Accept `count` connections on a thread, read one request of each and give `answer`."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            for _ in range(count):
                connection, _ = listener.accept()
                accepted.append(stack.enter_context(connection))
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(4096)
                assert asked == ASK
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def test_each_client_is_answered_and_stays() -> None:
    accepted: list[socket.socket] = []
    with answering(ANSWER, accepted, 3) as port, held(port, 3) as sockets:
        assert len(sockets) == len(accepted) == 3
        assert closed_by_other_side(sockets) == 0


def test_a_client_that_was_dropped_or_spoken_to_is_counted() -> None:
    accepted: list[socket.socket] = []
    with answering(ANSWER, accepted, 3) as port, held(port, 3) as sockets:
        accepted[0].close()
        accepted[1].sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        # The loopback delivers before close and sendall return.
        assert closed_by_other_side(sockets) == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 no\r\nConnection: close\r\n\r\n"])
def test_an_answer_that_is_none_ends_the_measurement(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=refuse)
        thread.start()
        with (
            pytest.raises(Trouble, match="a client got"),
            held(listener.getsockname()[1], 1),
        ):
            pass
        thread.join(timeout=10)

"""Each fault of the passage is what it says it is."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.passage import Passage, passage
from tests.support.waiting import eventually


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server that says everything back."""
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = door.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while piece := client.recv(4096):
                client.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


@pytest.fixture
def way() -> Iterator[Passage]:
    with echo() as port, passage(port) as made:
        yield made


def client(way: Passage) -> socket.socket:
    return socket.create_connection(("127.0.0.1", way.port), timeout=5)


def says_back(sock: socket.socket, text: bytes = b"hello") -> bytes:
    sock.sendall(text)
    return sock.recv(4096)


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        return bool(not sock.recv(4096) and False)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)


def test_what_is_well_passes(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        assert (way.connections, way.open_connections) == (1, 1)
    eventually(lambda: way.open_connections == 0, "a connection that has ended is forgotten")


def test_what_is_stalled_arrives_when_it_heals(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        way.stall()
        sock.sendall(b"later")
        assert is_silent(sock)
        with client(way) as new:
            new.sendall(b"new")
            assert is_silent(new), "new connections are accepted, and hang as well"
            way.heal()
            assert new.recv(4096) == b"new"
        assert sock.recv(4096) == b"later"


def test_an_answer_that_is_swallowed_was_asked_for(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        way.swallow_answers()
        sock.sendall(b"done")
        assert is_silent(sock)
        way.heal()
        assert sock.recv(4096) == b"done"


def test_what_is_cut_is_reset_and_refused_until_it_heals(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        way.cut()
        with pytest.raises(ConnectionResetError):
            sock.recv(4096)
        with pytest.raises(ConnectionRefusedError):
            client(way)
    way.heal()
    with client(way) as sock:
        assert says_back(sock) == b"hello"


def test_a_reset_refuses_nobody(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        way.reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(4096)
    with client(way) as sock:
        assert says_back(sock) == b"hello"


def test_what_is_half_closed_hears_an_end_and_may_still_speak(way: Passage) -> None:
    with client(way) as sock:
        assert says_back(sock) == b"hello"
        way.half_close()
        assert sock.recv(4096) == b""
        sock.sendall(b"still here")

"""Many clients that each asked once and now keep their connection open, saying nothing."""

import contextlib
import select
import socket
from collections.abc import Iterator

from loadtest.processes import LOOPBACK
from loadtest.trouble import Trouble
from loadtest.upstream import SMALL_BODY, SMALL_PATH

ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 4096  # A head of ours and six bytes of body are a tenth of it.
ASK = (
    f"GET {SMALL_PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"
).encode()


def ask(client: socket.socket) -> None:
    """Send one small request and read its whole answer; Trouble when it is cut short."""
    client.sendall(ASK)
    answer = b""
    while not answer.endswith(SMALL_BODY):
        received = client.recv(ANSWER_BYTES_MAX)
        answer += received
        if not received or len(answer) > ANSWER_BYTES_MAX:
            raise Trouble(f"a client got {answer[:200]!r} instead of an answer of {SMALL_BODY!r}.")


@contextlib.contextmanager
def held(port: int, clients: int) -> Iterator[list[socket.socket]]:
    """Hold `clients` connections to `port` that were answered once each; close them on leaving."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(clients):
            client = socket.create_connection((LOOPBACK, port), timeout=ANSWER_TIMEOUT_S)
            sockets.append(stack.enter_context(client))
            ask(client)
        yield sockets


def closed_by_other_side(sockets: list[socket.socket]) -> int:
    """Count the connections that are no longer idle: closed, or with bytes nobody asked for."""
    poll = select.poll()
    for client in sockets:
        poll.register(client, select.POLLIN | select.POLLRDHUP)
    return len(poll.poll(0))

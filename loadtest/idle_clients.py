"""Many clients that each asked once and now keep their connection open, saying nothing."""

import contextlib
import resource
import select
import socket
from collections.abc import Iterator

from loadtest.processes import LOOPBACK
from loadtest.trouble import Trouble
from loadtest.workloads import SMALL_BODY

ANSWER_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 4096  # A head of ours and six bytes of body are a tenth of it.
SPARE_DESCRIPTORS = 256  # What this process needs besides the clients.
ASK = f"GET /small HTTP/1.1\r\nHost: {LOOPBACK}\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n".encode()


def raise_descriptor_limit(clients: int) -> None:
    """Let this process, and what it starts, hold `clients` connections; Trouble when it may not."""
    needed = clients + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Trouble(
            f"RLIMIT_NOFILE: {hard} descriptors at most, {needed} are needed."
            " Raise it (ulimit -Hn, as root) or ask for fewer connections."
        )
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


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

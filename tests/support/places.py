"""Places with a character: addresses that are free or never answer, a pipe that takes nothing."""

import contextlib
import errno
import itertools
import os
import random
import socket
from collections.abc import Iterator
from typing import Final

PORTS: Final = range(15_000, 32_768)
"""Below those that Linux gives to whoever names none (ip_local_port_range): of these, any may be a
client's by the time that somebody wants to listen on it."""

# Each process begins elsewhere: those of several run side by side.
_NEXT: Final = itertools.count(random.SystemRandom().randrange(len(PORTS)))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody has at this moment; another one each time, until all were returned."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in itertools.islice(_NEXT, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket(family) as door:
            try:
                door.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(errno.EADDRINUSE, f"all ports from {PORTS.start} to {PORTS[-1]} are taken")


@contextlib.contextmanager
def silent_place() -> Iterator[int]:
    """A TCP port whose backlog is full: the kernel answers no SYN, so connecting hangs."""
    with contextlib.ExitStack() as held:
        door = held.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(4):  # Linux takes backlog + 1; the rest stay in SYN-SENT for ever.
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(door.getsockname())
        yield int(door.getsockname()[1])


def ipv6_is_here() -> bool:
    """Whether this machine has the IPv6 loopback address."""
    try:
        free_port("::1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    filling = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)  # one of its own
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filling, b"." * 4096)
        yield writing
    finally:
        for fd in (reading, writing, filling):
            os.close(fd)

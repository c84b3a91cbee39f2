"""The roles that the node starts by itself: a worker, the demo upstream. Nobody types these.

    worker --channel FD
    demo --listen ADDRESS --parent PID

They do without the command line's machinery: a worker that replaces another should be there soon.
"""

# ruff: noqa: PLC0415 - each role needs much that the other does not.

import os
import socket
import sys
from collections.abc import Sequence

from loomproxy.process import die_with_parent


def play(argv: Sequence[str]) -> None:
    """Play the role that `argv` names; exit status 2 when it is not as the node writes it."""
    match argv:
        case ["worker", "--channel", fd] if fd.isdecimal():
            _worker(int(fd))
        case ["demo", "--listen", address, "--parent", pid] if pid.isdecimal():
            from loomproxy.demo import run

            run(address, int(pid))
        case _:
            sys.stderr.write(f"loomproxy: {argv[0]} is a role that the node starts by itself\n")
            sys.exit(2)


def _worker(fd: int) -> None:
    from loomproxy.channel import peer_pid
    from loomproxy.worker.main import run

    with socket.socket(fileno=os.dup(fd)) as sock:
        die_with_parent(peer_pid(sock))
    run(fd)

"""The listening sockets: one per worker slot and listener, owned by the node.

A TCP listener has one SO_REUSEPORT socket per slot, so that the kernel spreads connections and no
worker wakes for another's. They belong to the node because an accept queue dies with the last
holder of its socket: a worker that is killed loses the connections it has accepted, not those that
wait. A Unix listener has one socket, which all slots share: there is no SO_REUSEPORT for them.

SO_REUSEPORT would also let another process of the same user share an address in silence, so each
address is first bound without it. Two nodes that start in the same millisecond can still miss each
other; whoever wants to be sure gives each its own address.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.address import ListenAddress, listen_address
from loomproxy.config.model import Listener
from loomproxy.config.problem import Problem
from loomproxy.node.runtime import answers

_ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 # the operator wrote an address without a host
_ANY_IPV6: Final = "::"
_NO_IPV6: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
_PRIVATE: Final = 0o177  # umask: nobody but us


class ListenError(Exception):
    """An address cannot be listened on; `problem` says where, why, and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Listening(msgspec.Struct, frozen=True):
    """One bound address of a listener, and its sockets by slot."""

    name: str
    address: str  # as bound: with the port that was chosen where the configuration said 0
    sockets: tuple[socket.socket, ...]  # one per slot; for a Unix socket the same one each time
    path: str = ""  # of a Unix socket
    inode: int = 0  # of a Unix socket: what we made, and may remove


class Sockets:
    """All listening sockets of the node."""

    def __init__(self) -> None:
        self.listening: list[Listening] = []

    def open(self, listeners: Sequence[Listener], slots: int) -> None:
        """Bind and listen on every address; on ListenError nothing stays open."""
        try:
            for place, listener in enumerate(listeners):
                self._open(f"listeners[{place}].address", listener, slots)
        except ListenError:
            self.close()
            raise

    def of_slot(self, slot: int) -> list[tuple[str, socket.socket]]:
        """The sockets of one slot, each with the name of its listener."""
        return [(one.name, one.sockets[slot]) for one in self.listening]

    def close(self) -> None:
        """Close all, and remove the Unix sockets that are still ours. May be called again."""
        for one in self.listening:
            for sock in one.sockets:
                sock.close()
            with contextlib.suppress(OSError):
                if one.path and Path(one.path).stat().st_ino == one.inode:
                    Path(one.path).unlink()
        self.listening = []

    def _open(self, where: str, listener: Listener, slots: int) -> None:
        address = listen_address(listener.address)
        if address.path:
            self._open_unix(where, listener, address.path, slots)
        elif address.host:
            self._open_tcp(where, listener, address, slots)
        else:
            self._open_any(where, listener, address.port, slots)

    def _open_unix(self, where: str, listener: Listener, path: str, slots: int) -> None:
        sock = bind_unix(path, mode=int(listener.mode, 8), backlog=listener.backlog, where=where)
        inode = Path(path).stat().st_ino
        shared = (sock,) * slots
        self.listening.append(Listening(listener.name, listener.address, shared, path, inode))

    def _open_any(self, where: str, listener: Listener, port: int, slots: int) -> None:
        """Two sockets, not one for both families: so the address of an IPv4 client stays one."""
        self._open_tcp(where, listener, ListenAddress(_ANY_IPV4, port), slots)
        port = self.listening[-1].sockets[0].getsockname()[1]  # where it was 0
        try:
            self._open_tcp(where, listener, ListenAddress(_ANY_IPV6, port), slots)
        except ListenError as error:
            cause = error.__cause__
            if not (isinstance(cause, OSError) and cause.errno in _NO_IPV6):
                raise

    def _open_tcp(self, where: str, listener: Listener, address: ListenAddress, slots: int) -> None:
        opened: list[socket.socket] = []
        port = address.port
        try:
            _probe(address)
            for _slot in range(slots):
                sock = bind_tcp(address.host, port, shared=True)
                opened.append(sock)
                port = sock.getsockname()[1]
                sock.listen(listener.backlog)
        except OSError as error:
            for sock in opened:
                sock.close()
            raise ListenError(_problem(where, str(address), error)) from error
        shown = str(ListenAddress(address.host, port))
        self.listening.append(Listening(listener.name, shown, tuple(opened)))


def bind_tcp(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound TCP socket that does not block; not listening yet. `shared`: with SO_REUSEPORT."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _probe(address: ListenAddress) -> None:
    """OSError when another process has the address: without SO_REUSEPORT nobody shares it."""
    if address.port:
        bind_tcp(address.host, address.port, shared=False).close()


def listen_tcp(address: ListenAddress, *, backlog: int, where: str) -> socket.socket:
    """A listening TCP socket that nobody shares; or ListenError."""
    try:
        sock = bind_tcp(address.host or _ANY_IPV4, address.port, shared=False)
        sock.listen(backlog)
    except OSError as error:
        raise ListenError(_problem(where, str(address), error)) from error
    return sock


def bind_unix(path: str, *, mode: int, backlog: int, where: str) -> socket.socket:
    """A listening Unix socket at `path`, in place of what a dead process left; or ListenError."""
    _clear(path, where)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody but us may connect before the permissions are what was asked for.
    before = os.umask(_PRIVATE)
    try:
        sock.bind(path)
        Path(path).chmod(mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ListenError(_problem(where, f"unix:{path}", error)) from error
    finally:
        os.umask(before)
    return sock


def remove_unix(path: str) -> None:
    """Remove a Unix socket that is ours."""
    Path(path).unlink(missing_ok=True)


def _clear(path: str, where: str) -> None:
    """Remove the socket of a process that is gone; ListenError when there is anything else."""
    try:
        found = Path(path).lstat()
    except OSError:
        return  # nothing there; or bind will say why it cannot be
    if not stat.S_ISSOCK(found.st_mode):
        seen = f"unix:{path} is there and is not a socket"
        raise ListenError(
            Problem(where, seen, "nothing there, or a socket", "Choose another path.")
        )
    if answers(Path(path)):
        seen = f"another process listens on unix:{path}"
        raise ListenError(Problem(where, seen, "a free path", _TAKEN))
    with contextlib.suppress(OSError):
        Path(path).unlink()


_TAKEN: Final = "Stop the process that listens there, or choose another address."
_ADVICE: Final = {
    errno.EADDRINUSE: ("a free address", _TAKEN),
    errno.EACCES: (
        "an address that we may use",
        "Ports below 1024 need CAP_NET_BIND_SERVICE; a Unix socket a directory that we may write.",
    ),
    errno.EADDRNOTAVAIL: (
        "an address of this machine",
        "Choose one that `ip address` shows, or none to listen on all.",
    ),
    errno.ENOENT: ("a path in a directory that is there", "Make the directory first."),
}


def _problem(where: str, address: str, error: OSError) -> Problem:
    """What the kernel said, with what to do about it."""
    expected, do = _ADVICE.get(
        error.errno or 0, ("an address that can be listened on", "Choose another address.")
    )
    return Problem(where, f"{address}: {error.strerror or error}", expected, do)

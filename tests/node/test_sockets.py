"""Listening sockets: one per slot, nobody else's address, nothing left behind."""

import errno
import socket
from pathlib import Path

import pytest

from loomproxy.config.address import listen_address
from loomproxy.config.model import Listener
from loomproxy.node import sockets as module
from loomproxy.node.sockets import ListenError, Sockets, listen_tcp


@pytest.fixture
def sockets():  # type: ignore[no-untyped-def] # a fixture
    opened = Sockets()
    yield opened
    opened.close()


def connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port))).close()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_each_slot_has_a_socket_of_its_own_on_the_same_port(sockets: Sockets, address: str) -> None:
    sockets.open([Listener("public", address)], 3)
    (one,) = sockets.listening
    assert len({sock.fileno() for sock in one.sockets}) == 3
    assert len({sock.getsockname()[1] for sock in one.sockets}) == 1
    assert [name for name, _ in sockets.of_slot(2)] == ["public"]
    assert not one.sockets[0].getblocking()
    connect(one.address)


def test_address_without_a_host_is_both_families(sockets: Sockets) -> None:
    sockets.open([Listener("public", ":0")], 1)
    first, second = sockets.listening
    assert first.address.startswith("0.0.0.0:")
    assert second.address == f"[::]:{first.address.rpartition(':')[2]}"
    connect(first.address.replace("0.0.0.0", "127.0.0.1"))
    connect(second.address.replace("::", "::1"))


def test_machine_without_ipv6_listens_on_ipv4_alone(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.bind_tcp

    def without_ipv6(host: str, port: int, *, shared: bool) -> socket.socket:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(host, port, shared=shared)

    monkeypatch.setattr(module, "bind_tcp", without_ipv6)
    sockets.open([Listener("public", ":0")], 1)
    assert len(sockets.listening) == 1
    with pytest.raises(ListenError, match="not supported"):
        Sockets().open([Listener("public", "[::1]:0")], 1)


@pytest.mark.parametrize("shared", [False, True])
def test_address_of_another_process_is_not_shared_in_silence(
    sockets: Sockets, shared: bool
) -> None:
    with module.bind_tcp("127.0.0.1", 0, shared=shared) as other:
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        listeners = [Listener("fine", "127.0.0.1:0"), Listener("taken", address)]
        with pytest.raises(ListenError) as caught:
            sockets.open(listeners, 2)
        problem = caught.value.problem
        assert problem.path == "listeners[1].address"
        assert problem.seen == f"{address}: Address already in use"
        assert problem.do.startswith("Stop the process")
        assert sockets.listening == []  # not half of them
        with pytest.raises(ListenError, match=r"admin\.address"):
            listen_tcp(listen_address(address), backlog=1, where="admin.address")


def test_address_of_another_machine_says_so(sockets: Sockets) -> None:
    with pytest.raises(ListenError, match="an address of this machine"):
        sockets.open([Listener("public", "192.0.2.1:0")], 1)


def test_unix_socket_is_one_for_all_slots_and_removed_at_the_end(
    sockets: Sockets, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    sockets.open([Listener("local", f"unix:{path}", mode="0620")], 2)
    (one,) = sockets.listening
    assert one.sockets[0] is one.sockets[1]
    assert path.stat().st_mode & 0o777 == 0o620
    sockets.close()
    assert not path.exists()
    sockets.close()


def test_stale_unix_socket_is_replaced(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    sockets.open([Listener("local", f"unix:{path}")], 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_unix_socket_of_another_process_is_left_alone(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="another process listens"):
            sockets.open([Listener("local", f"unix:{path}")], 1)
        assert path.exists()


def test_file_in_place_of_a_unix_socket_is_left_alone(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="not a socket"):
        sockets.open([Listener("local", f"unix:{path}")], 1)
    assert path.read_text() == "data"


def test_unix_socket_in_no_directory_says_so(sockets: Sockets, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="Make the directory first"):
        sockets.open([Listener("local", f"unix:{tmp_path}/no/app.sock")], 1)


def test_unix_socket_that_another_node_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    ours = Sockets()
    ours.open([Listener("local", f"unix:{path}")], 1)
    # Made beside it and moved over it, so that it cannot get the same inode.
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(f"{path}.new")
        Path(f"{path}.new").replace(path)
        ours.close()
        assert path.exists()

"""Where instances are found, and which directories are not trusted with them."""

import os
import socket
from pathlib import Path

import pytest

from loomproxy.node import runtime
from loomproxy.node.runtime import (
    RuntimeDirectoryError,
    admin_socket,
    instances,
    runtime_directory,
    sweep,
)


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_directory_is_the_operators_then_systemds_then_the_sessions(tmp_path: Path) -> None:
    environment = {
        "RUNTIME_DIRECTORY": f"{tmp_path}/a:{tmp_path}/b",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    assert runtime_directory(environment, f"{tmp_path}/own") == tmp_path / "own"
    assert runtime_directory(environment) == tmp_path / "a"
    del environment["RUNTIME_DIRECTORY"]
    made = runtime_directory(environment)
    assert made == tmp_path / "loomproxy"
    assert made.stat().st_mode & 0o777 == 0o700


def test_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(RuntimeDirectoryError, match="others may write it"):
        runtime_directory({"RUNTIME_DIRECTORY": str(shared)})


def test_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RuntimeDirectoryError, match="not a directory of user"):
        runtime_directory({"RUNTIME_DIRECTORY": str(tmp_path / "link")})


def test_directory_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeDirectoryError, match=r"Not a directory|File exists"):
        runtime_directory({"RUNTIME_DIRECTORY": str(tmp_path / "file" / "below")})


def test_directory_with_too_long_a_path_is_refused_in_time() -> None:
    with pytest.raises(RuntimeDirectoryError, match="above 107 bytes"):
        admin_socket(Path("/" + "x" * 100), 12345)


def test_only_those_that_answer_are_instances(tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": str(tmp_path)}
    assert instances(environment) == {}
    listening(admin_socket(tmp_path, 1)).close()
    (tmp_path / "admin-x.sock").touch()
    with listening(admin_socket(tmp_path, 2)):
        assert instances(environment) == {2: admin_socket(tmp_path, 2)}
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["admin-2.sock"]


def test_instance_too_busy_to_accept_is_still_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CONNECT_TIMEOUT_S", 0.05)
    path = tmp_path / "admin-3.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(os.fspath(path))
        assert runtime.answers(path)
        for one in waiting:
            one.close()

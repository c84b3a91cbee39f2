"""Places are what they are said to be."""

import socket

from tests.support.places import PORTS, free_port


def test_a_free_port_is_nobody_s_and_never_the_same() -> None:
    first = free_port()
    with socket.create_server(("127.0.0.1", first)):
        others = [free_port() for _ in range(10)]
    assert len({first, *others}) == 11
    assert {first, *others} <= set(PORTS)

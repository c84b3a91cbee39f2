"""How many connections a client may have, and a worker."""

import pytest

from loomproxy.core.gate import (
    CONNECTIONS_MOST,
    DESCRIPTORS_BESIDES,
    Gate,
    client_of,
    connections_affordable,
)


def test_client_has_so_many_connections_and_no_more() -> None:
    gate = Gate(2)
    assert [gate.enter(b"192.0.2.7") for _ in range(3)] == [True, True, False]
    assert gate.enter(b"192.0.2.8")
    gate.leave(b"192.0.2.7")
    assert [gate.enter(b"192.0.2.7") for _ in range(2)] == [True, False]


def test_client_that_left_is_forgotten() -> None:
    gate = Gate(2)
    for _ in range(2):
        gate.enter(b"192.0.2.7")
        gate.enter(b"2001:db8::1")
    assert len(gate) == 2
    for _ in range(2):
        gate.leave(b"192.0.2.7")
        gate.leave(b"2001:db8::1")
    assert len(gate) == 0


def test_leaving_without_having_entered_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Gate(1).leave(b"192.0.2.7")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"192.0.2.7", b"192.0.2.7", True),
        (b"192.0.2.7", b"192.0.2.8", False),
        (b"2001:db8:0:1::1", b"2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        (b"2001:db8:0:1::1", b"2001:db8:0:2::1", False),
        (b"fe80::1%eth0", b"fe80::2%eth0", True),
        (b"::ffff:192.0.2.7", b"192.0.2.7", True),
        (b"::ffff:192.0.2.7", b"::ffff:192.0.2.8", False),
    ],
)
def test_client_is_an_ipv4_address_or_an_ipv6_network(one: bytes, other: bytes, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


@pytest.mark.parametrize(
    ("descriptors_max", "connections"),
    [
        (1024, 480),
        (DESCRIPTORS_BESIDES, 1),
        (DESCRIPTORS_BESIDES + 5, 2),
        (0, 1),
        (-1, CONNECTIONS_MOST),
    ],
)
def test_each_connection_may_need_two_descriptors(descriptors_max: int, connections: int) -> None:
    assert connections_affordable(descriptors_max) == connections

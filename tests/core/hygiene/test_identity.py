"""Who the client is, and what upstreams are told of it."""

from ipaddress import ip_network

import pytest

from loomproxy.core.hygiene.identity import client_ip, identity_lines, is_trusted, request_id
from loomproxy.core.hygiene.policy import Family, ForwardPolicy, Peer, Values
from loomproxy.core.message import Framing, RequestHead

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
POLICY = ForwardPolicy(trusted=NETWORKS)
BALANCER = Peer(ip=b"10.0.0.1", port=1, trusted=True, local_port=80)
LOCAL = Peer(ip=b"", port=0, trusted=True)
STRANGER = Peer(ip=b"9.9.9.9", port=1, trusted=False, local_port=80)


def head(block: bytes = b"", authority: bytes = b"a:80") -> RequestHead:
    return RequestHead(
        b"GET", b"/", b"/", b"", 1, authority, b"a", Framing.NONE, 0, True, False, b"", (), block
    )


@pytest.mark.parametrize(
    ("ip", "trusted"),
    [
        (b"10.1.2.3", True),
        (b"::ffff:10.1.2.3", True),
        (b"fd00::1", True),
        (b"11.0.0.1", False),
        (b"::1", False),
        (b"", False),
        (b"10.1.2.3, x", False),
        (b"\xff", False),
    ],
)
def test_trust_is_a_matter_of_networks(ip: bytes, trusted: bool) -> None:
    assert is_trusted(ip, NETWORKS) is trusted


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"", b"10.0.0.1"),
        (b"X-Forwarded-For: 1.1.1.1\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.9.9.9\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\nx-forwarded-for: 10.9.9.9\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 10.2.2.2, 10.3.3.3\r\n", b"10.2.2.2"),
        (b"X-Forwarded-For: 1.1.1.1, nonsense\r\n", b"10.0.0.1"),
        (b"X-Forwarded-For: 1.1.1.1, nonsense, 10.3.3.3\r\n", b"10.3.3.3"),
        (b"X-Forwarded-For: 1.1.1.1:5678\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: [2001:db8::1]:80\r\n", b"2001:db8::1"),
        (b"X-Forwarded-For: ::ffff:1.1.1.1\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: \r\n", b"10.0.0.1"),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(
    said: bytes, client: bytes
) -> None:
    assert client_ip(said, BALANCER, POLICY) == client


def test_a_stranger_is_the_client_whatever_it_says() -> None:
    assert client_ip(b"X-Forwarded-For: 1.1.1.1\r\n", STRANGER, POLICY) == b"9.9.9.9"


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"", b"10.0.0.1"),
        (
            b'for=6.6.6.6, For="[2001:db8::1]:80";proto=https, for=10.2.2.2',
            b"2001:db8::1",
        ),
        (b"for=6.6.6.6\r\nforwarded: for=1.1.1.1; by=_us ,", b"1.1.1.1"),
        (b"for=unknown", b"10.0.0.1"),
        (b"for=6.6.6.6, proto=https", b"10.0.0.1"),
        (b"for=6.6.6.6, for=1.1.1.1;for=2.2.2.2", b"10.0.0.1"),
        (b"for=6.6.6.6, nonsense", b"10.0.0.1"),
        (b"6.6.6.6, for=10.2.2.2", b"10.2.2.2"),
        (b'for=1.1.1.1;host="a, for=6.6.6.6"', b"1.1.1.1"),
        (b'for=1.1.1.1;host="a\\", for=6.6.6.6"', b"1.1.1.1"),
        (b'for=";, for=1.1.1.1;host="a"', b"1.1.1.1"),
        (b"for=6.6.6.6" + b", for=10.2.2.2" * 100, b"10.2.2.2"),
    ],
)
def test_forwarded_is_read_from_the_right_where_it_is_believed(said: bytes, client: bytes) -> None:
    policy = ForwardPolicy(believe=Family.RFC7239, trusted=NETWORKS)
    assert client_ip(b"Forwarded: " + said + b"\r\n", BALANCER, policy) == client


@pytest.mark.parametrize("writes", [False, True])
def test_only_the_family_that_is_believed_says_who_the_client_is(writes: bool) -> None:
    x = ForwardPolicy(x_forwarded=writes, forwarded=writes, trusted=NETWORKS)
    rfc7239 = ForwardPolicy(
        x_forwarded=writes, forwarded=writes, trusted=NETWORKS, believe=Family.RFC7239
    )
    forged, honest = b"Forwarded: for=6.6.6.6\r\n", b"X-Forwarded-For: 1.1.1.1\r\n"
    assert client_ip(forged + honest, BALANCER, x) == b"1.1.1.1"
    assert client_ip(forged, BALANCER, x) == b"10.0.0.1"
    assert client_ip(forged + honest, BALANCER, rfc7239) == b"6.6.6.6"
    assert client_ip(honest, BALANCER, rfc7239) == b"10.0.0.1"


def test_a_trusted_peer_without_an_address_says_who_the_client_is() -> None:
    assert client_ip(b"X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", LOCAL, POLICY) == b"1.1.1.1"
    assert client_ip(b"", LOCAL, POLICY) == b""


def test_only_so_many_hops_are_looked_at() -> None:
    said = b"X-Forwarded-For: 1.1.1.1" + b", 10.0.0.2" * 100 + b"\r\n"
    assert client_ip(said, BALANCER, POLICY) == b"10.0.0.2"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"X-Request-ID: abc-1\r\n", b"abc-1"),
        (b"x-request-id: abc\r\n", b"abc"),
        (b"X-Request-ID: a b\r\n", b"new"),
        (b"X-Request-ID:\r\n", b"new"),
        (b"X-Request-ID: " + b"a" * 128 + b"\r\n", b"a" * 128),
        (b"X-Request-ID: " + b"a" * 129 + b"\r\n", b"new"),
        (b"X-Request-ID: a\r\nX-Request-ID: b\r\n", b"new"),
        (b'X-Request-ID: a"b\r\n', b"new"),
        (b"Y: X-Request-ID: a\r\n", b"new"),
        (b"", b"new"),
    ],
)
def test_an_id_that_came_is_kept_when_it_is_one(said: bytes, kept: bytes) -> None:
    assert request_id(head(said), POLICY, b"new") == kept


def test_without_a_header_for_it_every_id_is_fresh() -> None:
    silent = ForwardPolicy(request_id_header=b"")
    assert request_id(head(b"X-Request-ID: a\r\n"), silent, b"new") == b"new"


def test_a_stranger_is_described_by_us() -> None:
    said = b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
    assert identity_lines(head(said), STRANGER, POLICY, Values(client_ip=b"9.9.9.9")) == (
        b"X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a:80\r\nX-Forwarded-Port: 80\r\n"
    )


def test_what_a_trusted_peer_said_goes_on() -> None:
    said = (
        b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: HTTPS\r\n"
        b"X-Forwarded-Host: b.example\r\nX-Forwarded-Port: 443\r\n"
    )
    assert identity_lines(head(said), BALANCER, POLICY, Values(client_ip=b"1.1.1.1")) == (
        b"X-Forwarded-For: 1.1.1.1, 10.0.0.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: b.example\r\nX-Forwarded-Port: 443\r\n"
    )


def test_the_family_that_is_not_believed_begins_anew() -> None:
    said = (
        b"Forwarded: for=6.6.6.6;proto=ftp\r\nX-Forwarded-For: 1.1.1.1\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\n"
    )
    both = ForwardPolicy(forwarded=True)
    assert identity_lines(head(said), BALANCER, both, Values(client_ip=b"1.1.1.1")) == (
        b'Forwarded: for=10.0.0.1;host="a:80";proto=http\r\n'
        b"X-Forwarded-For: 1.1.1.1, 10.0.0.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\n"
    )
    other = ForwardPolicy(forwarded=True, believe=Family.RFC7239)
    assert identity_lines(head(said), BALANCER, other, Values(client_ip=b"6.6.6.6")) == (
        b'Forwarded: for=6.6.6.6;proto=ftp, for=10.0.0.1;host="a:80";proto=http\r\n'
        b"X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a:80\r\nX-Forwarded-Port: 80\r\n"
    )


def test_a_peer_on_a_unix_socket_adds_no_address_and_no_port() -> None:
    said = b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
    lines = (
        b"X-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: a:80\r\n"
    )
    values = Values(client_ip=b"1.1.1.1")
    assert identity_lines(head(said), LOCAL, POLICY, values) == lines
    port = b"X-Forwarded-Port: 443\r\n"
    assert identity_lines(head(said + port), LOCAL, POLICY, values) == lines + port


def test_what_a_trusted_peer_said_badly_does_not() -> None:
    said = (
        b"X-Forwarded-Proto: a b\r\nX-Forwarded-Host: a/b\r\n"
        b"X-Forwarded-Port: 1\r\nX-Forwarded-Port: 2\r\n"
    )
    lines = identity_lines(head(said), BALANCER, POLICY, Values())
    assert b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: a:80\r\nX-Forwarded-Port: 80\r\n" in lines


def test_a_peer_without_address_is_not_invented() -> None:
    local = Peer(ip=b"", port=0, trusted=False)
    lines = identity_lines(head(), local, POLICY, Values())
    assert b"X-Forwarded-For" not in lines
    assert b"X-Real-IP" not in lines


def test_a_host_that_was_not_said_is_not_invented() -> None:
    lines = identity_lines(head(authority=b""), BALANCER, POLICY, Values())
    assert b"X-Forwarded-Host" not in lines


def test_forwarded_is_written_as_rfc_7239_wants() -> None:
    policy = ForwardPolicy(x_forwarded=False, forwarded=True, believe=Family.RFC7239)
    v6 = Peer(ip=b"2001:db8::1", port=1, trusted=False)
    assert identity_lines(head(), v6, policy, Values()) == (
        b'Forwarded: for="[2001:db8::1]";host="a:80";proto=http\r\n'
    )
    said = b"Forwarded: for=1.1.1.1\r\n"
    assert identity_lines(head(said), BALANCER, policy, Values()) == (
        b'Forwarded: for=1.1.1.1, for=10.0.0.1;host="a:80";proto=http\r\n'
    )
    local = Peer(ip=b"", port=0, trusted=False)
    assert identity_lines(head(authority=b""), local, policy, Values()) == (
        b"Forwarded: for=unknown;proto=http\r\n"
    )


def test_the_id_of_a_head_is_looked_for_once_for_each_policy() -> None:
    said = head(b"X-Request-ID: abc\r\n")
    other = ForwardPolicy(request_id_header=b"X-Trace")
    assert [request_id(said, policy, b"new") for policy in (POLICY, POLICY, other, POLICY)] == [
        b"abc",
        b"abc",
        b"new",
        b"abc",
    ]


@pytest.mark.parametrize("zone", [b"fe80::1%eth0", b'::1%" \\', b"[fe80::1%x]:80"])
def test_an_address_with_a_zone_says_nothing_of_a_client(zone: bytes) -> None:
    assert client_ip(b"X-Forwarded-For: %b\r\n" % zone, BALANCER, POLICY) == BALANCER.ip

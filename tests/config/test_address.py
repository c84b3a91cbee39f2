"""Addresses as people write them, and what is said of those that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.address import (
    ListenAddress,
    base_url,
    check_authority,
    endpoint_address,
    listen_address,
)
from loomproxy.core.endpoint import Address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("0.0.0.0:8080", ListenAddress("0.0.0.0", 8080), "0.0.0.0:8080"),
        ("[::]:8080", ListenAddress("::", 8080), "[::]:8080"),
        ("[0:0::1]:1", ListenAddress("::1", 1), "[::1]:1"),
        (":8080", ListenAddress("", 8080), ":8080"),
        ("*:8080", ListenAddress("", 8080), ":8080"),
        ("localhost:80", ListenAddress("127.0.0.1", 80), "127.0.0.1:80"),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0), "127.0.0.1:0"),
        ("unix:/run/a.sock", ListenAddress(path="/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_where_we_listen(text: str, address: ListenAddress, shown: str) -> None:
    assert listen_address(text) == address
    assert str(address) == shown
    assert listen_address(shown) == address


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("127.0.0.1", "no port"),
        ("127.0.0.1:", "not a number"),
        ("127.0.0.1:http", "not a number"),
        ("127.0.0.1:٣", "not a number"),
        ("127.0.0.1:65536", "above 65535"),
        ("127.0.0.1:" + "9" * 5000, "above 65535"),
        ("::1:8080", "not host:port"),
        ("[::1:8080", "not host:port"),
        ("[127.0.0.1]:80", "no IPv6 address"),
        ("[fe80::1%eth0]:80", "no IPv6 address"),
        ("example.com:80", "a name"),
        ("unix:run/a.sock", "absolute"),
        ("unix:/" + "x" * 107, "above 107 bytes"),
        ("unix:/run/", "no socket can have"),
        ("unix:/run/\0", "no socket can have"),
    ],
)
def test_where_nobody_can_listen(text: str, claim: str) -> None:
    with pytest.raises(ValueError, match=claim):
        listen_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:9000", Address("127.0.0.1", 9000)),
        ("http://App.Example/", Address("app.example", 80)),
        ("HTTP://a_b-c:1", Address("a_b-c", 1)),
        ("http://[::1]:9000", Address("::1", 9000)),
        ("https://Api.Example", Address("api.example", 443, tls=True)),
        ("HTTPS://[::1]:80/", Address("::1", 80, tls=True)),
        ("unix:/run/a.sock", Address(path="/run/a.sock")),
    ],
)
def test_where_endpoints_are(text: str, address: Address) -> None:
    assert endpoint_address(text) == address
    assert endpoint_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("127.0.0.1:9000", "no scheme"),
        ("https://a/path", "has a path"),
        ("https://", "no host"),
        ("ftp://a", "unknown scheme"),
        ("http://user:pass@a", "user name"),
        ("http://a/path", "has a path"),
        ("http://a?x", "has a path"),
        ("http://", "no host"),
        ("http://:80", "no host"),
        ("http://a:0", "port 0"),
        ("http://a b", "invalid host name"),
        ("http://-a", "invalid host name"),
        ("http://a..b", "invalid host name"),
        ("http://" + "a." * 127 + "a", "above 253 bytes"),
        ("http://1.2.3", "invalid IPv4"),
        ("http://1.2.3.256", "invalid IPv4"),
    ],
)
def test_where_no_endpoint_can_be(text: str, claim: str) -> None:
    with pytest.raises(ValueError, match=claim):
        endpoint_address(text)


@pytest.mark.parametrize(
    ("text", "address", "base"),
    [
        ("http://a", Address("a", 80), ""),
        ("http://a/", Address("a", 80), ""),
        ("http://A:1/v1/", Address("a", 1), "/v1"),
        ("http://[::1]:1/v1/x", Address("::1", 1), "/v1/x"),
        ("unix:/run/a.sock", Address(path="/run/a.sock"), ""),
    ],
)
def test_an_address_with_a_base(text: str, address: Address, base: str) -> None:
    assert base_url(text) == (address, base)


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("http://a/v1?x=1", "a query"),
        ("http://a/v1#x", "a fragment"),
        ("http://a/ä", "no path has"),
        ("http:///v1", "no host"),
        ("http://u:p@a/v1", "user name"),
        ("ftp://a/v1", "unknown scheme"),
        ("a/v1", "no scheme"),
    ],
)
def test_what_is_no_address_with_a_base(text: str, claim: str) -> None:
    with pytest.raises(ValueError, match=claim):
        base_url(text)


def test_no_claim_repeats_a_password() -> None:
    with pytest.raises(ValueError, match="user name") as caught:
        endpoint_address("http://user:geheim@host:1")
    assert "geheim" not in str(caught.value)


def test_authorities() -> None:
    check_authority("example.com:8080")
    check_authority("[::1]")
    with pytest.raises(ValueError, match="no host"):
        check_authority(":80")


@given(st.text(max_size=40) | st.from_regex(r"(http://|unix:|\[)?[0-9a-f:.\[\]/]*", fullmatch=True))
def test_any_text_is_an_address_or_a_claim(text: str) -> None:
    for read in (listen_address, endpoint_address, base_url, check_authority):
        try:
            read(text)
        except ValueError as error:
            claim = str(error)
        else:
            continue
        assert claim

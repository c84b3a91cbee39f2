"""Kinds of text: what each takes, in which form it is kept, and what is said of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.kinds import KINDS


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        ("text", "a line", "a line"),
        ("name", "app-1.b_c", "app-1.b_c"),
        ("optional_name", "", ""),
        ("optional_token", "X-Id", "X-Id"),
        ("header_name", "Host", "Host"),
        ("header_change", "X-A", "X-A"),
        ("header_value", "a\tb é", "a\tb é"),
        ("header_template", 'v={client_ip}; {"json": 1}', 'v={client_ip}; {"json": 1}'),
        ("method", "M-SEARCH", "M-SEARCH"),
        ("url_path", "/a/%C3%A4", "/a/%C3%A4"),
        ("optional_path", "", ""),
        ("added_prefix", "/v2/", "/v2"),
        ("added_prefix", "/", ""),
        ("regex", r"^/(\d+)$", r"^/(\d+)$"),
        ("optional_regex", "", ""),
        ("replacement", r"/\1?x=\g<n>", r"/\1?x=\g<n>"),
        ("condition", "~^a", "~^a"),
        ("condition", "*", "*"),
        ("parameter", "na me", "na me"),
        ("host_pattern", "Example.COM.", "example.com"),
        ("host_pattern", "*.Example.com", "*.example.com"),
        ("host_pattern", "[::1]", "[::1]"),
        ("authority", "App:80", "App:80"),
        ("optional_authority", "", ""),
        ("trusted_peer", "10.0.0.0/8", "10.0.0.0/8"),
        ("trusted_peer", "unix", "unix"),
        ("trusted_peer", "192.0.2.7", "192.0.2.7/32"),
        ("listen_address", "*:80", ":80"),
        ("admin_address", "auto", "auto"),
        ("admin_address", "localhost:1", "127.0.0.1:1"),
        ("tcp_address", "127.0.0.1:1", "127.0.0.1:1"),
        ("endpoint_address", "http://A", "http://a:80"),
        ("endpoint_address", "https://A", "https://a:443"),
        ("optional_host", "", ""),
        ("optional_host", "Api.Example", "api.example"),
        ("optional_host", "::1", "::1"),
        ("optional_base_url", "https://Api.Example/v1/", "https://api.example:443/v1"),
        ("file_mode", "0660", "0660"),
        ("optional_file_path", "", ""),
        ("log_path", "off", "off"),
        ("log_path", "/var/log/a", "/var/log/a"),
        ("location", "https://{host}{path}{query}", "https://{host}{path}{query}"),
        ("location", "{scheme}://a/", "{scheme}://a/"),
        ("body", "two\nlines", "two\nlines"),
        ("bearer", "0123456789abcde=", "0123456789abcde="),
        ("prose", " two\n  lines\n", "two lines"),
        ("prose", "a\x1bb", "a\ufffdb"),
        ("remark", "two\nlines", "two lines"),
        ("remark", "x" * 5000, "x" * 4095 + "…"),
        ("remark", " " * 5000, ""),
        ("text_regex", r"[a-zä]+\u00e9", r"[a-zä]+\u00e9"),
        ("semver", "1.20.300", "1.20.300"),
        ("semver", "1.0.0-rc.1+build.5", "1.0.0-rc.1+build.5"),
        ("provider_type", "acme-2", "acme-2"),
        ("provider_type", "a" * 63, "a" * 63),
        ("model", "org/model:7b é", "org/model:7b é"),
        ("argument", "--x=a\nb", "--x=a\nb"),
        ("argument", "", ""),
        ("variable", "_A1", "_A1"),
        ("optional_base_url", "", ""),
        ("optional_base_url", "http://Host/v1/", "http://host:80/v1"),
        ("optional_base_url", "unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_what_is_taken_and_how_it_is_kept(kind: str, text: str, kept: str) -> None:
    assert KINDS[kind].read(text) == kept
    assert KINDS[kind].read(kept) == kept


@pytest.mark.parametrize(
    ("kind", "text", "claim"),
    [
        ("text", "x" * 1025, "longer than 1024"),
        ("text", "a\nb", "control character"),
        ("name", "", "no name"),
        ("name", "-a", "no name"),
        ("name", "a" * 65, "no name"),
        ("token", "a b", "not a token"),
        ("header_name", "A:", "not a token"),
        ("header_change", "Content-Length", "frames the message"),
        ("header_change", "transfer-encoding", "frames the message"),
        ("header_change", "Connection", "frames the message"),
        ("header_change", "HOST", "not changed here"),
        ("header_value", "a\r\nX-Evil: 1", "line break"),
        ("header_value", "\0", "control character"),
        ("header_value", " a", "white space"),
        ("header_value", "a" * 8193, "longer than 8192"),
        ("header_template", "{clientip}", r"unknown placeholder \(\{clientip\}\)"),
        ("method", "get", "upper case"),
        ("method", "CONNECT", "never served"),
        ("method", "TRACE", "never served"),
        ("url_path", "api", "does not begin with /"),
        ("url_path", "/a b", r"encoded: /a%20b"),
        ("url_path", "/ä", r"encoded: /%C3%A4"),
        ("url_path", "/a?b", "no path has"),
        ("url_path", "/a#b", "no path has"),
        ("url_path", "/%4", "begins no %XX"),
        ("url_path", "/a/../b", "dot segment"),
        ("url_path", "/%2e/b", "dot segment"),
        ("url_path", "/" + "a" * 2048, "longer than 2048"),
        ("url_path", "/" + "ä" * 1000, "…"),
        ("regex", "", "empty"),
        ("regex", "(", "does not compile"),
        ("regex", "a" * 513, "longer than 512"),
        ("regex", "[[a]", "does not compile"),
        ("regex", "a{99999999999}", "does not compile"),
        ("replacement", "a b", "no target has"),
        ("replacement", "a#b", "no target has"),
        ("replacement", "a" * 2049, "longer than 2048"),
        ("condition", "~(", "does not compile"),
        ("condition", "a\nb", "line break"),
        ("parameter", "", "empty"),
        ("host_pattern", "example.com:80", "has a port"),
        ("host_pattern", "a.*.com", "star"),
        ("host_pattern", "*", "star"),
        ("host_pattern", "*.", "star"),
        ("host_pattern", "[::g]", "no IPv6"),
        ("trusted_peer", "10.0.0.1/8", r"host bits set \(its network is 10.0.0.0/8\)"),
        ("trusted_peer", "ten", "not a network"),
        ("trusted_peer", "unix:/run/a.sock", "not a network"),
        ("tcp_address", ":80", "not a host and a port"),
        ("tcp_address", "unix:/a", "not a host and a port"),
        ("tcp_address", "127.0.0.1:0", "not a host and a port"),
        ("file_mode", "rw-rw----", "octal"),
        ("file_mode", "1777", "octal"),
        ("log_path", "access.log", "absolute"),
        ("location", "evil", "begins neither"),
        ("location", "javascript:alert(1)", "begins neither"),
        ("location", "/a b", "no URL has"),
        ("location", "/\r\nX: y", "no URL has"),
        ("location", "/{client_ip}", "unknown placeholder"),
        ("body", "ä" * 40_000, "longer than 65536 bytes"),
        ("bearer", "0123456789abcde", "shorter than 16"),
        ("bearer", "", "shorter than 16"),
        ("bearer", "0123456789 abcdef", "no token has"),
        ("bearer", "0123456789äbcdef", "no token has"),
        ("bearer", "a" * 1025, "too long"),
        ("prose", "x" * 4097, "longer than 4096"),
        ("text_regex", "(", "does not compile"),
        ("text_regex", "", "empty"),
        ("text_regex", "a" * 513, "longer than 512"),
        ("semver", "1.0", "no version"),
        ("semver", "v1.0.0", "no version"),
        ("semver", "01.0.0", "no version"),
        ("semver", "1.0.0\n", "no version"),
        ("provider_type", "Acme", "no provider_type"),
        ("provider_type", "-acme", "no provider_type"),
        ("provider_type", "a" * 64, "no provider_type"),
        ("provider_type", "a/b", "no provider_type"),
        ("model", "", "empty"),
        ("model", "a\nb", "control character"),
        ("argument", "a\0", "a NUL"),
        ("argument", "a" * 8193, "more than 8192"),
        ("variable", "1A", "no name of a variable"),
        ("variable", "A-B", "no name of a variable"),
        ("variable", "", "no name of a variable"),
        ("optional_base_url", "ftp://host/v1", "unknown scheme"),
        ("optional_base_url", "http://host/a/../b", "dot segment"),
        ("optional_base_url", "http://host/%4", "begins no %XX"),
        ("optional_base_url", "http://host/v1?key=x", "a query"),
        ("optional_base_url", "http://host/" + "a" * 2048, "longer than 2048"),
    ],
)
def test_what_is_refused_and_why(kind: str, text: str, claim: str) -> None:
    with pytest.raises(ValueError, match=claim):
        KINDS[kind].read(text)


@given(kind=st.sampled_from(sorted(KINDS)), text=st.text(max_size=60))
def test_any_text_is_taken_or_refused_with_a_claim(kind: str, text: str) -> None:
    try:
        kept = KINDS[kind].read(text)
    except ValueError as error:
        claim = str(error)
    else:
        claim = "taken"
        assert KINDS[kind].read(kept) == kept
    assert claim


@given(st.text(max_size=30))
def test_what_goes_into_heads_holds_no_line_break(text: str) -> None:
    for kind in ("header_value", "header_template", "header_name", "location", "replacement"):
        try:
            kept = KINDS[kind].read(text)
        except ValueError:
            continue
        assert not set(kept) & {"\r", "\n", "\0"}


def test_every_kind_says_what_it_expects_and_what_to_do() -> None:
    for kind in KINDS.values():
        assert kind.expected
        assert kind.do.endswith(".")

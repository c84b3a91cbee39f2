"""Addresses as people write them: where we listen, and where endpoints do.

Every function raises ValueError with a claim on what is wrong, to be put behind the text itself:
`127.0.0.1:99999` *has a port above 65535*. No message repeats the text, which may hold a password.
"""

import ipaddress
import re
from typing import Final

import msgspec

from loomproxy.core.endpoint import HTTP_PORT, HTTPS_PORT, Address

PORT_MAX: Final = 65535

UNIX_PATH_BYTES_MAX: Final = 107
"""`sun_path` has 108 bytes on Linux, the last of them NUL (unix(7))."""

HOST_BYTES_MAX: Final = 253
"""Of a name in the DNS (RFC 1035 §2.3.4)."""

_HOST_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([^:]*))?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class ListenAddress(msgspec.Struct, frozen=True):
    """Where we listen: TCP `host` and `port`, or a Unix socket `path`."""

    host: str = ""  # a literal address without brackets; "": every IPv4 and IPv6 address
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """As in the configuration."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def listen_address(text: str) -> ListenAddress:
    """`0.0.0.0:8080`, `[::]:8080`, `:8080`, `*:8080`, `localhost:8080` or `unix:/path`.

    Port 0 lets the kernel choose.
    """
    if text.startswith("unix:"):
        return ListenAddress(path=unix_path(text))
    host, port = _host_and_port(text)
    if port is None:
        raise ValueError("has no port")
    if host in ("", "*"):
        return ListenAddress(port=port)
    if host == "localhost":
        return ListenAddress("127.0.0.1", port)
    if not _is_ip(host):
        raise ValueError("is not an address of this machine but a name")
    return ListenAddress(str(ipaddress.ip_address(host)), port)


def base_url(text: str) -> tuple[Address, str]:
    """`https://host:port/base`: where its host is, and `/base`; `unix:/path` has no base."""
    if text.startswith("unix:"):
        return endpoint_address(text), ""
    scheme, separator, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    if re.search(r"[^!$%&'()*+,./0-9:;=@A-Z_a-z~-]", path):
        raise ValueError("has a query, a fragment, or characters that no path has")
    return endpoint_address(scheme + separator + host), (slash + path).rstrip("/")


def endpoint_address(text: str) -> Address:
    """`http://host:port`, `http://host` (port 80), the same with https (port 443), `unix:/path`."""
    if text.startswith("unix:"):
        return Address(path=unix_path(text))
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError("has no scheme")
    tls = scheme.lower() == "https"
    if not tls and scheme.lower() != "http":
        raise ValueError("has an unknown scheme")
    if "@" in rest:
        raise ValueError("holds a user name")
    rest = rest.removesuffix("/")
    if re.search(r"[/?#]", rest):
        raise ValueError("has a path")
    host, port = _host_and_port(rest)
    check_host(host)
    if port == 0:
        raise ValueError("has port 0")
    if port is None:
        port = HTTPS_PORT if tls else HTTP_PORT
    return Address(host=host.lower(), port=port, tls=tls)


def check_authority(text: str) -> None:
    """`example.com`, `example.com:8080`, `[::1]:8080`: what a Host field may say."""
    host, _ = _host_and_port(text)
    check_host(host)


def check_host(host: str) -> None:
    """A name or a literal address without brackets."""
    if not host:
        raise ValueError("has no host")
    if _is_ip(host):
        return
    if len(host) > HOST_BYTES_MAX:
        raise ValueError(f"has a host name above {HOST_BYTES_MAX} bytes")
    if not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("has an invalid host name")
    if re.fullmatch(r"[0-9.]+", host):
        raise ValueError("has an invalid IPv4 address")


def unix_path(text: str) -> str:
    """The path of `unix:/path`."""
    path = text.removeprefix("unix:")
    if not path.startswith("/"):
        raise ValueError("has no absolute path")
    if len(path.encode()) > UNIX_PATH_BYTES_MAX:
        raise ValueError(f"has a path above {UNIX_PATH_BYTES_MAX} bytes")
    if not path.isprintable() or path.endswith("/"):
        raise ValueError("has a path that no socket can have")
    return path


def _host_and_port(text: str) -> tuple[str, int | None]:
    """Host without brackets, and port where there is one."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError("is not host:port (an IPv6 address stands in brackets)")
    in_brackets, plain, port = match.groups()
    if in_brackets is not None and not (":" in in_brackets and _is_ip(in_brackets)):
        raise ValueError("has no IPv6 address in its brackets")
    host = plain if in_brackets is None else in_brackets
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit()):
        raise ValueError("has a port that is not a number")
    if len(port) > len(str(PORT_MAX)) or int(port) > PORT_MAX:
        raise ValueError(f"has a port above {PORT_MAX}")
    return host, int(port)


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    # A scope (fe80::1%eth0) is not part of what a URL may say (RFC 9844 withdrew it).
    return getattr(address, "scope_id", None) is None

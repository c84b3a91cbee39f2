"""Kinds of text that a key may ask for: what each expects, and how it is checked.

A kind's `read` takes the text and gives back its normal form, or raises ValueError with a claim on
what is wrong (`has no port`). What a claim repeats of the text stands in parentheses at its end, so
that it can be cut off where the text may be a secret. What `read` gives back is what the model
holds, so that nothing behind the loader meets an unchecked text.
"""

import ipaddress
import re
import warnings
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from loomproxy.config import address
from loomproxy.config.dsn import STORE_KINDS
from loomproxy.config.kind import Kind
from loomproxy.core.hygiene import OURS_ALONE

TEXT_CHARS_MAX: Final = 1024
PROSE_CHARS_MAX: Final = 4096
REGEX_CHARS_MAX: Final = 512
PATH_CHARS_MAX: Final = 2048
VALUE_CHARS_MAX: Final = 8192
BODY_CHARS_MAX: Final = 64 << 10

BEARER_CHARS_MIN: Final = 16
"""Of a token that lets somebody in: 16 random hex digits are 64 bits, beyond guessing online."""

UNIX_PEERS: Final = "unix"
"""Among networks: whoever connects to a Unix socket."""
HEADER_PLACEHOLDERS: Final = ("client_ip", "request_id", "host", "scheme", "path", "route")
LOCATION_PLACEHOLDERS: Final = ("scheme", "host", "path", "query")

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH: Final = re.compile(r"/[!$%&'()*+,./0-9:;=@A-Z_a-z~\[\]|-]*")
_DOTS: Final = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_MODE: Final = re.compile(r"0?[0-7]{3}")
_SEMVER: Final = re.compile(  # semver.org, item 2, 9 and 10
    r"(?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){2}(?:-[0-9A-Za-z.-]{1,64})?(?:\+[0-9A-Za-z.-]{1,64})?"
)
_PROVIDER_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 §2.1
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _text(text: str) -> str:
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(f"is longer than {TEXT_CHARS_MAX} characters")
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


def _prose(text: str) -> str:
    if len(text) > PROSE_CHARS_MAX:
        raise ValueError(f"is longer than {PROSE_CHARS_MAX} characters")
    return one_line(text)


def _remark(text: str) -> str:
    line = one_line(text[: PROSE_CHARS_MAX + 1])
    return line if len(line) <= PROSE_CHARS_MAX else line[: PROSE_CHARS_MAX - 1] + "…"


def one_line(text: str) -> str:
    """Text on one line, with nothing that a terminal or a log would stumble over."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "�" for c in line)


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text) or len(text) > TEXT_CHARS_MAX:
        raise ValueError("is not a token")
    return text


def _header_change(text: str) -> str:
    name = _token(text).lower()
    if name == "host":
        raise ValueError("is not changed here")
    if name.encode() in OURS_ALONE:
        raise ValueError("frames the message or ends at this hop, and is the proxy's own")
    return text


def _method(text: str) -> str:
    if _token(text) != text.upper():
        raise ValueError("is not in upper case")
    if text in ("CONNECT", "TRACE"):
        raise ValueError("is never served")
    return text


def _header_value(text: str) -> str:
    if len(text) > VALUE_CHARS_MAX:
        raise ValueError(f"is longer than {VALUE_CHARS_MAX} characters")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise ValueError("holds a control character or a line break")
    if text.strip(" \t") != text:
        raise ValueError("begins or ends with white space")
    return text


def _header_template(text: str) -> str:
    _placeholders(text, HEADER_PLACEHOLDERS)
    return _header_value(text)


def _placeholders(text: str, known: tuple[str, ...]) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name not in known:
            raise ValueError(f"holds an unknown placeholder ({{{name}}})")


def _url_path(text: str) -> str:
    if len(text) > PATH_CHARS_MAX:
        raise ValueError(f"is longer than {PATH_CHARS_MAX} characters")
    if not text.startswith("/"):
        raise ValueError("does not begin with /")
    if _BAD_PERCENT.search(text):
        raise ValueError("holds a % that begins no %XX")
    if _DOTS.search(text):
        raise ValueError("holds a dot segment, which no request that is let in has")
    if not _PATH.fullmatch(text):
        raise ValueError(f"holds characters that no path has (encoded: {_quoted(text)})")
    return text


def _quoted(text: str) -> str:
    encoded = quote(text, safe="/!$%&'()*+,.:;=@_~[]|-", errors="replace")
    return encoded if len(encoded) <= TEXT_CHARS_MAX else encoded[:TEXT_CHARS_MAX] + "…"


def _added_prefix(text: str) -> str:
    return _url_path(text).rstrip("/")


def _regex(text: str) -> str:
    return _compiling(text, text.encode())


def _text_regex(text: str) -> str:
    return _compiling(text, text)


def _compiling(text: str, pattern: str | bytes) -> str:
    if not text:
        raise ValueError("is empty")
    if len(text) > REGEX_CHARS_MAX:
        raise ValueError(f"is longer than {REGEX_CHARS_MAX} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # What Python will read differently one day.
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"does not compile ({error})") from None
    return text


def _replacement(text: str) -> str:
    if len(text) > PATH_CHARS_MAX:
        raise ValueError(f"is longer than {PATH_CHARS_MAX} characters")
    if re.search(r"[^\x21-\x7e]|#", text):
        raise ValueError("holds characters that no target has")
    return text


def _condition(text: str) -> str:
    if text.startswith("~"):
        _regex(text[1:])
        return text
    return _header_value(text)


def _parameter(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return _text(text)


def _host_pattern(text: str) -> str:
    host = text.lower().removesuffix(".")
    name = host.removeprefix("*.")
    if name.startswith("[") and name.endswith("]") and ":" in name:
        address.check_authority(name)
    elif ":" in name:
        raise ValueError("has a port")
    elif "*" in name:
        raise ValueError("has its star in another place than before the first dot")
    else:
        address.check_host(name)
    return host


def _authority(text: str) -> str:
    address.check_authority(text)
    return text


def _host(text: str) -> str:
    address.check_host(text)
    return text.lower()


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network") from None
    raise ValueError(f"has host bits set (its network is {network})")


def _trusted_peer(text: str) -> str:
    return text if text == UNIX_PEERS else _network(text)


def _listen_address(text: str) -> str:
    return str(address.listen_address(text))


def _admin_address(text: str) -> str:
    return text if text == "auto" else _listen_address(text)


def _tcp_address(text: str) -> str:
    parsed = address.listen_address(text)
    if parsed.path or not parsed.host or not parsed.port:
        raise ValueError("is not a host and a port")
    return str(parsed)


def _endpoint_address(text: str) -> str:
    return str(address.endpoint_address(text))


def _model(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return _text(text)


def _bearer(text: str) -> str:
    if len(text) < BEARER_CHARS_MIN:
        raise ValueError(f"is shorter than {BEARER_CHARS_MIN} characters")
    if len(text) > TEXT_CHARS_MAX or not _BEARER.fullmatch(text):
        raise ValueError("holds characters that no token has, or is too long")
    return text


def _argument(text: str) -> str:
    if "\0" in text or len(text) > VALUE_CHARS_MAX:
        raise ValueError(f"holds a NUL, or more than {VALUE_CHARS_MAX} characters")
    return text


def _base_url(text: str) -> str:
    origin, path = address.base_url(text)
    return f"{origin}{_url_path(path)}" if path else str(origin)


def _file_mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError("is not an octal mode")
    return text


def _file_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not an absolute path")
    return _text(text)


def _log_path(text: str) -> str:
    return text if text in ("stdout", "off") else _file_path(text)


def _location(text: str) -> str:
    if not re.match(r"/|https?://|\{(scheme|path)\}", text):
        raise ValueError("begins neither with / nor with http:// or https://")
    if re.search(r"[^\x21-\x7e]", text) or len(text) > PATH_CHARS_MAX:
        raise ValueError("holds characters that no URL has, or is too long")
    _placeholders(text, LOCATION_PLACEHOLDERS)
    return text


def _body(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > BODY_CHARS_MAX:
        raise ValueError(f"is longer than {BODY_CHARS_MAX} bytes")
    return text


def _or_empty(read: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: read(text) if text else ""


def _matching(pattern: "re.Pattern[str]", what: str) -> Callable[[str], str]:
    """A reader of what a pattern says whole."""

    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"is no {what}")
        return text

    return read


def _optional(kind: Kind) -> Kind:
    expected = f"{kind.expected}, or nothing"
    return Kind(expected, kind.do, _or_empty(kind.read), kind.private)


_WORDS: Final = (
    "Use letters, digits, dot, dash and underscore, at most 64, a letter or digit first."
)
_ENCODE: Final = "Write it as it stands in a request, percent-encoded, without query and fragment."
_BIND: Final = "Write 127.0.0.1:8080, [::1]:8080, :8080 or unix:/run/app.sock."

_NAME_KIND: Final = Kind("a name", _WORDS, _matching(_NAME, "name"))
_TOKEN_KIND: Final = Kind("a token (RFC 9110 §5.6.2)", "Use letters, digits and dashes.", _token)
_PATH_KIND: Final = Kind("a path such as /api", _ENCODE, _url_path)
_REGEX_KIND: Final = Kind(
    "a Python regular expression",
    "Try it with python3 -c 'import re; re.compile(r\"…\")'; in YAML put it in single quotes.",
    _regex,
)
_SEMVER_KIND: Final = Kind(
    "a version such as 1.2.0 (semver.org)", "Write three numbers.", _matching(_SEMVER, "version")
)
_AUTHORITY_KIND: Final = Kind("host or host:port", "Write it as in a Host field.", _authority)

KINDS: Final[dict[str, Kind]] = {
    "text": Kind("a line of text", "Make it shorter, on one line.", _text),
    "prose": Kind("text of some lines", "Make it shorter.", _prose),
    "remark": Kind("text", "Write text.", _remark),
    "name": _NAME_KIND,
    "optional_name": _optional(_NAME_KIND),
    "token": _TOKEN_KIND,
    "optional_token": _optional(_TOKEN_KIND),
    "header_name": Kind("a field name", "Use letters, digits and dashes.", _token),
    "header_change": Kind(
        "the name of a field that may be changed",
        "Take it out. For Host, set the route's `host:`.",
        _header_change,
    ),
    "header_value": Kind("a field value", "Write one line of text.", _header_value, private=True),
    "header_template": Kind(
        "a field value",
        "Write one line of text; it may hold "
        + ", ".join(f"{{{name}}}" for name in HEADER_PLACEHOLDERS)
        + ".",
        _header_template,
        private=True,
    ),
    "method": Kind("a method such as GET", "Write it in upper case.", _method),
    "url_path": _PATH_KIND,
    "optional_path": _optional(_PATH_KIND),
    "added_prefix": Kind("a path such as /api, or nothing", _ENCODE, _or_empty(_added_prefix)),
    "regex": _REGEX_KIND,
    "text_regex": Kind(_REGEX_KIND.expected, _REGEX_KIND.do, _text_regex),
    "optional_regex": _optional(_REGEX_KIND),
    "replacement": Kind(
        "a path, which may hold \\1 and \\g<name>", "Percent-encode what is not.", _replacement
    ),
    "condition": Kind(
        'a value, "*" for any, or ~regex', "Mend the value or the expression.", _condition
    ),
    "parameter": Kind("the name of a query parameter", "Write it decoded.", _parameter),
    "host_pattern": Kind(
        "a host name such as example.com or *.example.com",
        "Leave the port away; a star stands alone before the first dot.",
        _host_pattern,
    ),
    "authority": _AUTHORITY_KIND,
    "optional_authority": _optional(_AUTHORITY_KIND),
    "optional_host": Kind(
        "a host name or an address, or nothing",
        "Leave the port and brackets away.",
        _or_empty(_host),
    ),
    "trusted_peer": Kind(
        f"an address, a network or {UNIX_PEERS}",
        f"Write 10.0.0.0/8, 192.0.2.7 or fd00::/8; {UNIX_PEERS} for peers on Unix sockets.",
        _trusted_peer,
    ),
    "listen_address": Kind("an address to listen on", _BIND, _listen_address),
    "admin_address": Kind("auto, or an address to listen on", _BIND, _admin_address),
    "tcp_address": Kind("an address and a port", "Write 127.0.0.1:9000.", _tcp_address),
    "endpoint_address": Kind(
        "http://host:port, https://host or unix:/path",
        "Write http://127.0.0.1:9000; to change paths, set the route's `rewrite:`.",
        _endpoint_address,
    ),
    "file_mode": Kind("an octal mode in quotes", 'Write it in quotes, as in "0660".', _file_mode),
    "file_path": Kind("an absolute path", "Begin it with /.", _file_path),
    "optional_file_path": Kind(
        "an absolute path, or nothing", "Begin it with /.", _or_empty(_file_path)
    ),
    "log_path": Kind("stdout, off or an absolute path", "Begin a path with /.", _log_path),
    "location": Kind(
        "a path or a URL, which may hold {scheme}, {host}, {path} and {query}",
        "Write https://{host}{path}{query}, or /elsewhere.",
        _location,
    ),
    "body": Kind("text", "Serve large bodies from an endpoint.", _body, private=True),
    "semver": _SEMVER_KIND,
    "optional_semver": _optional(_SEMVER_KIND),
    "provider_type": Kind(
        "lower-case letters, digits and dashes, at most 63, a letter or digit first",
        "Write it as in the plugin's metadata.",
        _matching(_PROVIDER_TYPE, "provider_type"),
    ),
    "model": Kind("the id of a model", "Write it as the provider does.", _model),
    "bearer": Kind(
        f"a token of {BEARER_CHARS_MIN} to {TEXT_CHARS_MAX} characters (RFC 6750 §2.1)",
        "Make one with `openssl rand -hex 32`.",
        _bearer,
        private=True,
    ),
    "argument": Kind("text without NUL", "Take it out.", _argument, private=True),
    "variable": Kind(
        "the name of a variable",
        "Use letters, digits and _.",
        _matching(_VARIABLE, "name of a variable"),
    ),
    "optional_base_url": Kind(
        "http://host:port/base, https://host/base or unix:/path, or nothing",
        "Write http://127.0.0.1:11434/v1.",
        _or_empty(_base_url),
    ),
    **STORE_KINDS,
}
"""Every kind of text, by the name that the model uses."""

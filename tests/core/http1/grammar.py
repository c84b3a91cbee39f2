"""Messages around the border of what is accepted: mostly right, now and then wrong somewhere."""

from hypothesis import strategies as st

_SPACES = st.sampled_from([" "] * 14 + ["", "  ", "\t", " \t "])
_LINE_ENDS = st.sampled_from(["\r\n"] * 60 + ["\n", "\r\r\n", "\r\n ", "\r\n\t", "\r"])
_COLONS = st.sampled_from([":"] * 24 + [" :", "", "::", "\t:"])

_COMMON_NAMES = (
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Cookie",
    "Date",
    "Referer",
    "User-Agent",
    "Via",
    "X",
    "X-Request-ID",
)
_TOUCHY_NAMES = (
    "Connection",
    "Content-Length",
    "Expect",
    "Forwarded",
    "Host",
    "Keep-Alive",
    "Max-Forwards",
    "X-Original-URL",
    "Proxy",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Forwarded-For",
)
_ODD_NAMES = (
    "A!",
    "Content_Length",
    "Content-Length ",
    "Transfer.Encoding",
    "X_Y",
    "",
    "é",
    "a b",
    "\x00",
)
_OF_NAME = {
    "Connection": (
        "close",
        "keep-alive, Upgrade",
        "upgrade",
        "keep-alive, X",
        "Host",
        "close, content-length",
        ",",
    ),
    "Content-Length": (
        "0",
        "1",
        "5",
        "5",
        "05",
        "+5",
        "5, 5",
        "5 5",
        "0x5",
        "",
        "9" * 18,
        "9" * 19,
    ),
    "Expect": ("100-continue", "100-Continue", "100-CONTINUE", "", "else", "100-continue, x"),
    "Host": (
        "a",
        "A.example",
        "a:80",
        "[::1]",
        "a:",
        "a:99999",
        "[::1",
        "a b",
        "",
        "a,b",
        "u@a",
        "a..b",
        ".a",
        "a.",
    ),
    "Transfer-Encoding": (
        "chunked",
        "Chunked",
        "CHUNKED",
        "chunked",
        "gzip",
        "chunked, chunked",
        "identity",
        "xchunked",
        "",
        "\x0bchunked",
    ),
    "Max-Forwards": ("0", "1", "10", "00", "", "x", "-1", "9" * 10),
    "Upgrade": ("websocket", "h2c", "", "a/1, b"),
}
_VALUES = (
    "a",
    "a b",
    "a\tb",
    "",
    "é",
    "a  b",
    "\x01",
    "x\x00",
    "\x7f",
    '"a, b"',
    "0",
    "chunked",
    "close",
    ";=,",
)


def _any_case(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text] * 3 + [text.lower(), text.upper(), text.swapcase()])


def _odd(name: str) -> st.SearchStrategy[str]:
    value = st.sampled_from([*_OF_NAME.get(name, ()), *_VALUES])
    return st.builds("{}{}{}{}{}".format, _any_case(name), _COLONS, _SPACES, value, _LINE_ENDS)


def _usual(name: str) -> st.SearchStrategy[str]:
    value = st.sampled_from([*_OF_NAME.get(name, _VALUES)[:4]])
    return st.builds("{}: {}\r\n".format, _any_case(name), value)


_USUAL_LINES = st.sampled_from([*_COMMON_NAMES, *_COMMON_NAMES, *_TOUCHY_NAMES]).flatmap(_usual)
_ODD_LINES = st.sampled_from([*_COMMON_NAMES, *_TOUCHY_NAMES, *_ODD_NAMES]).flatmap(_odd)
LINES = st.one_of(_USUAL_LINES, _USUAL_LINES, _USUAL_LINES, _ODD_LINES)
"""One field line, its end included."""

TARGETS = st.sampled_from(
    [
        *["/", "/a?b=c", "/a/b;c=d", "/%41", "/.a", "/...", "//a", "/a?b?c", "/a?%zz"] * 5,
        *[
            "*",
            "a",
            "",
            "/a?#",
            "/#",
            "/é",
            "/a\\b",
            "/a/../b",
            "/a/..",
            "/..;/",
            "/%2e%2e/",
            "/a%2Fb",
            "/%zz",
            "/%00",
        ],
        *[
            "http://a/",
            "HTTP://a",
            "http://b/",
            "https://a:443/x",
            "http://u@a/",
            "ftp://a/",
            "http://a?b",
        ],
    ]
)
_REQUEST_LINES = st.builds(
    "{} {} {}{}".format,
    st.sampled_from(
        ["GET", "POST", "PUT", "HEAD", "OPTIONS"] * 5
        + ["get", "CONNECT", "TRACE", "G T", "", "A" * 65]
    ),
    TARGETS,
    st.sampled_from(
        ["HTTP/1.1"] * 24 + ["HTTP/1.0"] * 6 + ["HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", ""]
    ),
    _LINE_ENDS,
)
_STATUS_LINES = st.builds(
    "{} {}{}{}".format,
    st.sampled_from(["HTTP/1.1"] * 20 + ["HTTP/1.0"] * 6 + ["HTTP/1.2", "http/1.1", "HTTP/1.1 "]),
    st.sampled_from(
        ["200", "204", "304", "101", "100", "103", "404"] * 3 + ["500", "600", "099", "20", "2000"]
    ),
    st.sampled_from([" OK", "", " ", " a\tb é"] * 4 + [" \x01", "  "]),
    _LINE_ENDS,
)

_SIZES = st.sampled_from(
    ["1"] * 20 + ["01", "2", "+1", "-1", "0x1", "1 ", " 1", "", "g", "0" * 14 + "1", "0" * 15 + "1"]
)
_EXTENSIONS = st.sampled_from(
    [""] * 16 + [";a", ";a=b", ';a="b;\\"c"', ";a=b;c"] * 3 + [";", "; a", ";a ", ';a="', ";a=\x01"]
)
_CHUNK_ENDS = st.sampled_from(["\r\n"] * 50 + ["\n", "", "\r", "\r\r\n"])
CHUNKS = st.builds(
    "{}{}{}{}{}".format,
    _SIZES,
    _EXTENSIONS,
    _CHUNK_ENDS,
    st.sampled_from(["x"] * 20 + ["xy", "", "\n"]),
    _CHUNK_ENDS,
)
CHUNKED = st.builds(
    "{}{}{}{}{}".format,
    st.lists(CHUNKS, max_size=3).map("".join),
    st.sampled_from(["0"] * 16 + ["000", "", "0;a"]),
    _CHUNK_ENDS,
    st.one_of(st.just(""), st.lists(LINES, max_size=2).map("".join)),
    _CHUNK_ENDS,
)
"""A body in chunks, its trailers included."""
_BODIES = st.one_of(
    st.just(""), st.sampled_from(["x", "xxxxx", "xxxxxGET / HTTP/1.1\r\nHost: a\r\n\r\n"]), CHUNKED
)
_HOSTS = st.sampled_from(["Host: a\r\n"] * 16 + [""])
_FRAMES = st.sampled_from(
    [""] * 8
    + ["Content-Length: 5\r\n", "Content-Length: 1\r\n", "CONTENT-LENGTH: 5\r\n"] * 2
    + ["Transfer-Encoding: chunked\r\n", "transfer-encoding: chunked\r\n"] * 3
    + ["Transfer-Encoding: Chunked\r\n", "TRANSFER-ENCODING: CHUNKED\r\n"]
)


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")


_FIELDS = st.lists(LINES, max_size=4).map("".join)
REQUESTS = st.builds(
    "{}{}{}{}\r\n{}".format, _REQUEST_LINES, _HOSTS, _FRAMES, _FIELDS, _BODIES
).map(_bytes)
"""A request; now and then with something behind it."""
RESPONSES = st.builds("{}{}{}\r\n{}".format, _STATUS_LINES, _FRAMES, _FIELDS, _BODIES).map(_bytes)
"""A response; now and then with something behind it."""
_USUAL_FIELDS = st.lists(_USUAL_LINES, max_size=3).map("".join)
USUAL_REQUESTS = st.builds(
    "{} {} HTTP/1.1\r\n{}Host: a\r\n{}\r\n".format,
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "A"]),
    TARGETS,
    _FRAMES,
    _USUAL_FIELDS,
).map(_bytes)
"""A request head such as the lane is there for, if nothing came twice."""
USUAL_RESPONSES = st.builds(
    "HTTP/1.{} {}{}\r\n{}{}\r\n".format,
    st.sampled_from("01111"),
    st.sampled_from(["200", "204", "304", "101", "103", "599"]),
    st.sampled_from([" OK", "", " ", " a\tb é"]),
    _FRAMES,
    _USUAL_FIELDS,
).map(_bytes)
"""A response head such as the lane is there for, if nothing came twice."""


def mutated(cases: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the cases, with one or two places changed."""
    changes = st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 3),
            st.sampled_from(
                [
                    b"",
                    b"",
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b" ",
                    b"\t",
                    b":",
                    b",",
                    b";",
                    b"0",
                    b"5",
                    b"a",
                    b"\x00",
                    b"\xff",
                    b"%2f",
                ]
            ),
        ),
        min_size=1,
        max_size=2,
    )
    return st.builds(_changed, st.sampled_from(cases), changes)


def _changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, gone, new in changes:
        at = int(place * len(data))
        data = data[:at] + new + data[at + gone :]
    return data

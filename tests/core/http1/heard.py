"""What h11 makes of the bytes that a wire reads, in a form to compare with what the wire made.

h11 is the second opinion: where a wire accepts a message, h11 must read the same method, target,
fields and framing out of it. What h11 forgives and we refuse is no difference here.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import h11

from loomproxy.core.http1.limits import LEADING_EMPTY_LINES_MAX
from loomproxy.core.message import RequestHead, ResponseHead, fields
from tests.core.http1.cuts import Seen

Pairs = list[tuple[bytes, bytes]]
HELD_BYTES_MAX = 1 << 24  # of an unfinished event, so that only our own bounds are tested
_ABSOLUTE = re.compile(rb"^https?://[^/?]*", re.IGNORECASE)
_HOPS = b"max-forwards"
_PROPOSAL = [("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "x")]


def heard_requests(data: bytes) -> Seen:
    """Every request that a client sent, as h11 in its server's role reads them."""
    heard: Seen = []
    while True:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HELD_BYTES_MAX)
        connection.receive_data(_without_empty_lines(data))
        if not _message(connection, heard):
            return heard
        if connection.our_state is h11.SEND_RESPONSE:
            # Neither a tunnel nor another protocol: the client goes on in this one.
            connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return [*heard, ("closing",)]
        data = connection.trailing_data[0]


def heard_response(data: bytes, method: bytes) -> Seen:
    """What answers a request with this method; the sender closes behind it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HELD_BYTES_MAX)
    connection.send(h11.Request(method=method, target=b"/", headers=_PROPOSAL))
    connection.send(h11.EndOfMessage())
    if data:
        connection.receive_data(data)
    connection.receive_data(b"")
    heard: Seen = []
    _message(connection, heard)
    return heard


def _message(connection: h11.Connection, heard: Seen) -> bool:
    """Read one message; whether it was read to its end."""
    try:
        while True:
            event = connection.next_event()
            if event is h11.PAUSED or event is h11.NEED_DATA or type(event) is h11.ConnectionClosed:
                return False
            _note(event, heard)
            if type(event) is h11.EndOfMessage:
                return True
    except h11.RemoteProtocolError as error:
        heard.append(("refused", str(error)))
        return False


def _note(event: object, heard: Seen) -> None:
    if isinstance(event, h11.Request):
        heard.append(
            ("request", event.method, event.target, event.http_version, plain(event.headers))
        )
    elif isinstance(event, h11.Response | h11.InformationalResponse):
        heard.append(("response", event.status_code, event.http_version, plain(event.headers)))
    elif isinstance(event, h11.Data):
        last = heard[-1]
        assert isinstance(last, tuple)
        if last[0] == "body":
            heard[-1] = ("body", last[1] + bytes(event.data))
        else:
            heard.append(("body", bytes(event.data)))
    else:
        assert isinstance(event, h11.EndOfMessage)
        heard.append(("end", plain(event.headers)))


def plain(pairs: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """With the coding in lower case, as h11 gives it."""
    return [
        (name, value.lower() if name == b"transfer-encoding" else value) for name, value in pairs
    ]


def told(seen: Seen) -> Iterator[object]:
    """What a wire saw, in the words of what h11 heard."""
    for what in seen:
        if isinstance(what, RequestHead):
            version = b"1.%d" % what.minor_version
            yield ("request", what.method, what.target, version, plain(fields(what.block)))
            if not what.has_body:
                yield ("end", [])
        elif isinstance(what, ResponseHead):
            version = b"1.%d" % what.minor_version
            yield ("response", what.status, version, plain(fields(what.block)))
            if not what.has_body and not what.is_interim and what.status != 101:
                yield ("end", [])
        else:
            assert isinstance(what, tuple)
            yield ("end", plain(fields(what[1]))) if what[0] == "end" else what


def alike(seen: Seen, heard: Seen) -> None:
    """What we saw, up to where we refused, is what h11 heard."""
    ours: Iterator[object] = told(seen)
    theirs = iter(heard)
    for what in ours:
        assert isinstance(what, tuple)
        if what[0] in ("refused", "rest"):
            return
        other = next(theirs, None)
        if other == ("closing",):
            return  # h11 reads nothing after this message; our exchange would not, either.
        assert isinstance(other, tuple), (what, heard)
        assert what[0] == other[0] or (what[0], other[0]) == ("end", "refused"), (what, other)
        _one_alike(what, other, whole=not _is_cut(what, seen))


def _is_cut(what: tuple[Any, ...], seen: Seen) -> bool:
    """Whether a payload is the last that we saw, and not all of it."""
    last = seen[-1]
    ended = isinstance(last, tuple) and last[0] == "end"
    return what[0] == "body" and what in seen[-2:] and not ended


def _one_alike(ours: tuple[Any, ...], theirs: tuple[Any, ...], *, whole: bool) -> None:
    if ours == theirs:
        return
    if ours[0] == "body":
        assert not whole, (ours, theirs)
        assert theirs[1].startswith(ours[1]), (ours, theirs)
    elif ours[0] == "end":
        # h11 reads framing fields in trailers, too; we never pass them on (hygiene.trailers).
        names = {name for name, _ in ours[1]}
        assert names & {b"content-length", b"transfer-encoding", b"host"}, (ours, theirs)
    else:
        _reduced(ours, theirs)


def _reduced(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    """A request in another form: of target or hops, or with the Host that it lacked."""
    assert (ours[0], ours[1], ours[3]) == ("request", theirs[1], theirs[3]), (ours, theirs)
    rest = theirs[2]
    if not rest.startswith(b"/"):
        rest = _ABSOLUTE.sub(b"", rest) or (b"*" if ours[1] == b"OPTIONS" else b"")
    assert ours[2] == b"*" or ours[2].startswith(b"/"), (ours, theirs)
    assert ours[2].lstrip(b"/") == rest.lstrip(b"/"), (ours, theirs)
    said, heard = ([pair for pair in each[4] if pair[0] != _HOPS] for each in (ours, theirs))
    hosted = any(name == b"host" for name, _ in heard)
    assert heard == (said if hosted else said[1:]) or heard == said, (ours, theirs)


def _without_empty_lines(data: bytes) -> bytes:
    """Without those before a request, which h11 refuses and we allow."""
    for _ in range(LEADING_EMPTY_LINES_MAX):
        data = data.removeprefix(b"\r\n")
    return data

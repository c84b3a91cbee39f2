"""The corpus as typed cases: what goes in, and what must come out on both sides.

The files and their keys are described in `tests/corpus/README.md`. A key that is not described
there is refused, so that a misspelt expectation cannot pass for a kept one.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from loomproxy.core import fault as faults

CORPUS: Final = Path(__file__).resolve().parents[1] / "corpus"
REQUEST_FILES: Final = ("requests.toml", "smuggling.toml")
RESPONSE_FILES: Final = ("responses.toml", "poisoning.toml")
ACCEPTED: Final = "accepted"

_START: Final = re.compile(r"(?:\r\n)*(\S+) (/\S*|\*) HTTP/1\.[01]\r\n")
_CONNECTION: Final = re.compile(r"\r\nConnection:([^\r\n]*)", re.IGNORECASE)
_OLD: Final = re.compile(r" HTTP/1\.0\r\n")
_HOST: Final = re.compile(r"\r\nHost:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)


class _Base(msgspec.Struct, forbid_unknown_fields=True):
    """Latin-1 text stands for bytes: one character is one byte."""


class Fill(_Base, kw_only=True):
    """What stands for `@` in the bytes: something too long to write out."""

    text: str
    times: int


class Piece(_Base, kw_only=True):
    """Bytes sent in one go, and what the client then waits for before it sends the next ones."""

    bytes: str
    until: Literal["", "upstream", "answer"] = ""


class Wanted(_Base, kw_only=True):
    """A request that the upstream must receive whole."""

    method: str = "GET"
    target: str = "/"
    host: str = "a"  # "*": any, where the client said none
    body: str = ""
    framing: Literal["", "none", "length", "chunked"] = ""  # "": any that carries the body
    present: list[str] = []  # field lines
    absent: list[str] = []  # field names
    trailers: list[str] = []  # field lines, all of them

    def answered(self) -> list[int]:
        """The statuses that the client sees for it."""
        expects = any(line.lower().startswith("expect:") for line in self.present)
        return [100, 200] if expects else [200]


class Client(_Base, kw_only=True):
    """What the client must see."""

    statuses: list[int]  # of every answer, interim ones too
    then: Literal["kept", "closed"]
    cut: bool = False  # the last answer ends before its framing says it may
    body: str | None = None  # of the first final answer; only where an upstream's answer is given
    absent: list[str] = []  # field names that the first final answer must not have


class RequestCase(_Base, kw_only=True):
    """Bytes of a client."""

    name: str
    source: str
    verdict: str  # of the bytes, were they sent without a pause: "accepted", or a fault's name
    family: str = ""
    bytes: str = ""
    pieces: list[Piece] = []
    fill: Fill | None = None
    client: Client | None = None
    upstream: list[Wanted] | None = None
    cut: bool = False  # a request may begin at the upstream whose body then never ends
    answer: str | None = None  # what the upstream says instead of its 200
    answer_at: Literal["head", "end"] = "end"  # of the request

    @property
    def key(self) -> str:
        """What only this case is called."""
        return f"{self.family}: {self.name}"

    def sent(self) -> list[Piece]:
        """What the client sends, in its pieces."""
        pieces = self.pieces or [Piece(bytes=self.bytes)]
        return [Piece(bytes=_filled(piece.bytes, self.fill), until=piece.until) for piece in pieces]

    def text(self) -> str:
        """All that the client sends."""
        return "".join(piece.bytes for piece in self.sent())

    def leaves(self) -> bool:
        """Whether the client stops sending in the middle of a message."""
        return self.verdict == faults.CLIENT_LEFT.name

    def wanted(self) -> list[Wanted]:
        """The requests that must reach the upstream whole."""
        if self.upstream is not None:
            return self.upstream
        if self.verdict != ACCEPTED:
            return []
        text = self.text()
        start = _START.match(text)
        if start is None or not text.endswith("\r\n\r\n"):
            raise ValueError(f"{self.name}: not a plain request without a body; say `upstream`")
        host = _HOST.search(text)
        return [Wanted(method=start[1], target=start[2], host=host[1] if host else "")]

    def seen(self) -> Client:
        """What the client must see."""
        if self.client is not None:
            return self.client
        answered = [status for each in self.wanted() for status in each.answered()]
        if self.verdict == ACCEPTED:
            return Client(statuses=answered, then="kept" if _keeps(self.text()) else "closed")
        status = faults.FAULTS[self.verdict].status
        return Client(statuses=[*answered, status] if status else answered, then="closed")


class ResponseCase(_Base, kw_only=True):
    """Bytes of an upstream, and the method they answer."""

    name: str
    source: str
    verdict: str
    family: str = ""
    method: str = "GET"
    bytes: str
    fill: Fill | None = None
    then: Literal["close", "keep"] = "close"  # what the upstream does behind these bytes
    client: Client | None = None
    reused: bool | None = None  # whether the wire may carry another exchange

    @property
    def key(self) -> str:
        """What only this case is called."""
        return f"{self.family}: {self.name}"

    def text(self) -> str:
        """All that the upstream sends."""
        return _filled(self.bytes, self.fill)

    def seen(self) -> Client:
        """What the client must see."""
        if self.client is not None:
            return self.client
        if self.verdict == ACCEPTED:
            raise ValueError(f"{self.name}: accepted; say `client`")
        status = faults.FAULTS[self.verdict].status
        if status:
            return Client(statuses=[status], then="kept")
        return Client(statuses=[int(self.bytes[9:12])], then="closed", cut=True)


def _keeps(text: str) -> bool:
    """Whether the client lets its connection be kept (RFC 9112 §9.3)."""
    head, end, _ = text.lstrip("\r\n").partition("\r\n\r\n")
    said = ",".join(_CONNECTION.findall(head)).lower()
    return "close" not in said and ("keep-alive" in said or not _OLD.search(head + end))


def _filled(text: str, fill: Fill | None) -> str:
    return text if fill is None else text.replace("@", fill.text * fill.times)


class _RequestFile(_Base, kw_only=True):
    case: list[RequestCase]


class _ResponseFile(_Base, kw_only=True):
    case: list[ResponseCase]


def requests(*files: str) -> list[RequestCase]:
    """The cases of these files, or of all."""
    return _cases(_RequestFile, files or REQUEST_FILES)


def responses(*files: str) -> list[ResponseCase]:
    """The cases of these files, or of all."""
    return _cases(_ResponseFile, files or RESPONSE_FILES)


@functools.cache
def every() -> tuple[RequestCase | ResponseCase, ...]:
    """All cases."""
    from tests.support import stances  # It is built upon this file.

    return (*requests(), *responses(), *stances.cases())


def by_family(cases: Iterable[RequestCase | ResponseCase]) -> dict[str, list]:
    """The cases by what they try."""
    found: dict[str, list] = {}
    for case in cases:
        found.setdefault(case.family, []).append(case)
    return found


def counts() -> str:
    """How many cases each family has, as the README says it."""
    families = [f"* {family}: {len(cases)}" for family, cases in by_family(every()).items()]
    return "\n".join([*families, "", f"{len(every())} in all."])


def _cases(kind, files):
    """Every case, its family said: a file without families is one."""
    found = []
    for file in files:
        cases = msgspec.toml.decode((CORPUS / file).read_bytes(), type=kind).case
        for case in cases:
            case.family = case.family or Path(file).stem
        found += cases
    keys = [case.key for case in found]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"names that two cases of a family share: {twice}"
    return found

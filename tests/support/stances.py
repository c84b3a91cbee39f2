"""The stances as cases of the corpus: what is sent up and down, as both sides must see it.

A stance is written for the wire alone, with all that it sends (`up`, `down`). Here it is read as
what a case says, so that it is played through a running proxy like any other. Stances with limits
of their own stay with the wire: the running proxy has its own.
"""

import re
from typing import Final, Literal

import msgspec

from loomproxy.core import fault as faults
from tests.support.corpus import CORPUS, Client, RequestCase, ResponseCase, Wanted

FILE: Final = "stances.toml"
_STATUS: Final = re.compile(r"^HTTP/1\.1 ([0-9]{3}) ", re.MULTILINE)
_CHUNK: Final = re.compile(r"([0-9a-f]+)\r\n")
_FRAMING: Final = ("content-length", "transfer-encoding", "host")
_ENDPOINT: Final = "endpoint.example"  # What a stance calls the upstream's own address.


class Stance(msgspec.Struct, forbid_unknown_fields=True):
    """One of the file's cases; its keys are described there."""

    name: str
    source: str
    bytes: str
    verdict: str
    side: Literal["", "upstream"] = ""
    method: str = "GET"
    limits: dict[str, int] = {}
    up: str | None = None
    down: str | None = None
    answered: int | None = None
    reused: bool | None = None

    def case(self) -> RequestCase | ResponseCase:
        """As a case."""
        if self.side:
            return ResponseCase(
                name=self.name,
                source=self.source,
                verdict=self.verdict,
                family="stances on answers",
                method=self.method,
                bytes=self.bytes,
                client=self._refused() if self.down is None else _client(self.down),
            )
        local = self.answered is not None
        return RequestCase(
            name=self.name,
            source=self.source,
            verdict=self.verdict,
            family="stances",
            bytes=self.bytes,
            client=Client(statuses=[self.answered], then="kept") if local else None,
            upstream=[] if local else None if self.up is None else [_wanted(self.up)],
            cut="\r\n\r\n" in self.bytes[:-4],
        )

    def _refused(self) -> Client | None:
        """What a client sees of a refused answer behind interim ones; None: as ever."""
        interims = [int(status) for status in _STATUS.findall(self.bytes) if status[0] == "1"]
        status = faults.FAULTS[self.verdict].status
        return Client(statuses=[*interims, status], then="kept") if interims else None


def cases() -> list[RequestCase | ResponseCase]:
    """Every stance that a running proxy with default limits can show."""

    class File(msgspec.Struct, forbid_unknown_fields=True):
        case: list[Stance]

    found = msgspec.toml.decode((CORPUS / FILE).read_bytes(), type=File).case
    return [stance.case() for stance in found if not stance.limits]


def _wanted(up: str) -> Wanted:
    head, _, body = up.partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    method, target, _ = line.split(" ")
    said = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields)}
    chunked, length = "transfer-encoding" in said, said.get("content-length", "0")
    payload, trailers = _unchunked(body) if chunked else (body, "")
    return Wanted(
        method=method,
        target=target,
        host="*" if said["host"] == _ENDPOINT else said["host"],
        body=payload,
        framing="chunked" if chunked else "length" if int(length) else "",
        present=[each for each in fields if each.partition(":")[0].lower() not in _FRAMING],
        trailers=[_lowered(each) for each in trailers.split("\r\n") if each],
    )


def _lowered(line: str) -> str:
    name, _, value = line.partition(": ")
    return f"{name.lower()}: {value}"


def _client(down: str) -> Client:
    final = down[[match.start() for match in _STATUS.finditer(down)][-1] :]
    head, _, body = final.partition("\r\n\r\n")
    chunked = "transfer-encoding: chunked" in head.lower()
    return Client(
        statuses=[int(status) for status in _STATUS.findall(down)],
        then="kept",
        body=_unchunked(body)[0] if chunked else body,
    )


def _unchunked(body: str) -> tuple[str, str]:
    """The payload of canonical chunks, and the trailers behind them."""
    payload, at = "", 0
    while match := _CHUNK.match(body, at):
        size = int(match[1], 16)
        payload += body[match.end() : match.end() + size]
        at = match.end() + (size + 2 if size else 0)
        if not size:
            break
    return payload, body[at:].removesuffix("\r\n")

"""What became of a case, in a form that can be compared between proxies and printed in a column.

Left out is what any two honest proxies may do in their own way: which status a refusal has, what
fields of its own a proxy adds, and whether a body is passed on by length or in chunks.
"""

import re
from dataclasses import dataclass
from typing import Final

from tests.differential.play import Observation
from tests.differential.recorder import Received
from tests.support.corpus import RequestCase, ResponseCase

_STATUS: Final = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})\b")
_SHOWN_CHARACTERS_MAX = 18


@dataclass(frozen=True)
class Arrival:
    """A request that reached the upstream whole."""

    method: str
    target: str
    host: str
    body: bytes
    trailers: tuple[str, ...]

    def __str__(self) -> str:
        cut = len(self.target) > _SHOWN_CHARACTERS_MAX
        words = [f"{self.method} {self.target[:_SHOWN_CHARACTERS_MAX]}{'…' if cut else ''}"]
        if self.host != "a":
            words.append(f"@{self.host[:_SHOWN_CHARACTERS_MAX]}")
        if self.body:
            words.append(f"+{len(self.body)}")
        if self.trailers:
            words.append("and trailers")
        return " ".join(words)


@dataclass(frozen=True)
class Outcome:
    """What became of a case at one proxy."""

    arrived: tuple[Arrival, ...]
    unreadable: bool  # something arrived that a strict server could not read
    refused: int | None  # the first status of an answer that was not the upstream's
    answered: tuple[tuple[int, bytes, bool], ...]  # statuses, bodies, wholeness of the upstream's
    ending: str
    settled: bool

    def same(self, other: "Outcome") -> bool:
        """Whether both came to the same, but for the status of a refusal."""
        return self._claim() == other._claim()

    def _claim(self):
        return (
            self.arrived,
            self.unreadable,
            self.refused is not None,
            self.answered,
            self.ending,
            self.settled,
        )

    def __str__(self) -> str:
        words = [str(each) for each in self.arrived]
        if len(words) > 2:
            words = [words[0], f"… {len(words)} requests"]
        if self.unreadable:
            words.append("UNREADABLE")
        words += [f"{status}{'' if whole else ' cut'}" for status, _, whole in self.answered[-1:]]
        if self.refused:
            words.append(str(self.refused))
        words.append("" if self.settled else "UNSETTLED")
        words.append("" if self.ending == "closed" and self.refused else self.ending)
        return " ".join(word for word in words if word)


def outcome(case: RequestCase | ResponseCase, seen: Observation) -> Outcome:
    """What became of a case."""
    given = (case.answer or "") if isinstance(case, RequestCase) else case.bytes
    theirs = {200, *(int(status) for status in _STATUS.findall(given))}
    finals = seen.finals()
    refusals = [answer.status for answer in finals if answer.status not in theirs]
    return Outcome(
        arrived=tuple(_arrival(request) for request in seen.requests),
        unreadable=bool(seen.unreadable),
        refused=refusals[0] if refusals else None,
        answered=tuple(
            (each.status, each.body, each.whole) for each in finals if each.status in theirs
        ),
        ending=seen.ending,
        settled=seen.settled,
    )


def _arrival(request: Received) -> Arrival:
    return Arrival(
        method=request.method,
        target=request.target,
        host=request.host().lower(),
        body=request.body,
        trailers=tuple(line.lower() for line in request.trailers),
    )

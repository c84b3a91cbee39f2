"""What may come of a case: the right answer, an honest error, or a visible cut; and one log line.

Each function yields what is wrong, in words.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.faults.client import SWITCHING, Seen
from tests.faults.matrix import Case, Run
from tests.faults.scenes import BY_NAME, GOODBYE, Expected
from tests.support.meddler import HARMLESS

TIMED_OUT: Final = 504
ERRORS: Final = {502: "U", TIMED_OUT: "u"}
"""An honest error, and who ended the exchange then, as its log line says."""

AFTERWARDS: Final = frozenset(("insert", "insert_late"))
"""Faults that come when the answer is whole."""

LOSING: Final = frozenset(("cut", "cut_after", "close", "close_after", "half_down"))
"""Faults that lose the connection at once, while connecting anew works."""

ATTEMPTS_MAX: Final = 3

Wrong = Iterator[str]
Lines = Mapping[str, list[dict[str, Any]]]


def judge(run: Run, lines: Lines, asked: Counter[str]) -> Wrong:
    """All that is wrong with a run, given the access log and what the upstream was asked."""
    scene = run.case.scene
    for path, seen in zip(scene.paths(run.path), run.seen, strict=False):
        wrong = [*_answer(seen, scene.expected(path), first=path == run.path)]
        yield from wrong or _line(run, seen, path, lines.get(path, []))
    for path in scene.paths(run.path):
        yield from _once(path, lines, asked[path], 1 + (ATTEMPTS_MAX - 1) * scene.idempotent)
    if must_be_right(run) and not all(seen.complete and seen.status < 500 for seen in run.seen):
        yield f"this fault must not be noticed, yet {shown(run.seen[-1])}"
    if len(run.seen) < scene.requests and run.seen[-1].complete:
        yield "a pipelined request has no answer"
    yield from _afterwards(run, lines)


def _once(path: str, lines: Lines, asked: int, asked_max: int) -> Wrong:
    """A request is asked again only where that is safe, and written down once."""
    if asked > asked_max:
        yield f"the upstream was asked {asked} times"
    if len(lines.get(path, [])) > 1:
        yield f"{len(lines[path])} log lines for {path}"


def _afterwards(run: Run, lines: Lines) -> Wrong:
    """Nothing is left of it, and the next exchange is served as ever."""
    if run.looks_idle:
        return
    if run.leaked:
        yield f"connections to the upstream are left: {run.leaked}"
    expected = BY_NAME["get"].expected(run.next_path)
    if (run.next_seen.status, run.next_seen.body) != (200, expected.body):
        yield f"the next exchange: {shown(run.next_seen)}"
    if len(lines.get(run.next_path, [])) != 1:
        yield f"{len(lines.get(run.next_path, []))} log lines for the next exchange"


def shown(seen: Seen) -> str:
    """What came, in short."""
    return (
        f"{seen.status} {seen.body[:60]!r}… {len(seen.body)} bytes, complete={seen.complete}"
        f" {seen.ending} {seen.malformed}"
    )


def must_be_right(run: Run) -> bool:
    """Whether the client must not notice."""
    case = run.case
    if not run.met or case.fault in HARMLESS or case.fault in AFTERWARDS:
        return True
    early = case.event == "bytes up" or case.fault in {"cut", "close"}  # the piece itself is lost
    raced = case.fault in LOSING and early and not run.answered
    return raced and case.scene.reused and case.scene.idempotent


def _answer(seen: Seen, expected: Expected, *, first: bool) -> Wrong:
    """What came must be right, or an honest error, or visibly cut."""
    if seen.malformed or seen.ending == "hangs":
        yield f"no answer of HTTP: {shown(seen)}"
    elif not seen.status:
        if first:
            yield f"nothing came: {shown(seen)}"
    elif seen.status == expected.status:
        if not _is_right(seen, expected):
            yield f"wrong bytes: {shown(seen)} {seen.trailers}"
    elif seen.status not in ERRORS or not seen.complete:
        yield f"another status: {shown(seen)}"


def _is_right(seen: Seen, expected: Expected) -> bool:
    """Whether it is the right answer; as far as it came, where it is visibly cut."""
    if seen.status == SWITCHING:  # A tunnel has no end but its connection's.
        return expected.body.startswith(seen.body.removesuffix(GOODBYE))
    if seen.complete:
        return (seen.body, seen.trailers) == (expected.body, expected.trailers)
    return expected.body.startswith(seen.body)


def _line(run: Run, seen: Seen, path: str, lines: list[dict[str, Any]]) -> Wrong:
    """One line, which says what the client got and whose fault it was."""
    if not seen.status and path != run.path:
        return
    if len(lines) != 1:
        yield f"{len(lines)} log lines for {path}"
        return
    line = lines[0]
    said = line["termination"]
    if line["status"] != seen.status:
        yield f"status {line['status']} in the log, the client got {seen.status}"
    if said not in _endings(run.case, seen):
        yield f"termination {said} ({line['fault']}) for {shown(seen)}"


def _endings(case: Case, seen: Seen) -> set[str]:
    """The terminations that fit what the client got."""
    slow = case.fault == "stall"
    if seen.status in ERRORS:
        return {ERRORS[seen.status] + phase for phase in "CH" if slow == (seen.status == TIMED_OUT)}
    if seen.status == SWITCHING:
        # A FIN is an orderly end of a tunnel, and means nothing wrong.
        return {"UT", "--", *(["lT"] if slow else [])}
    if seen.complete:
        return {"--"}
    return {"UD", *(["uD"] if slow else [])}

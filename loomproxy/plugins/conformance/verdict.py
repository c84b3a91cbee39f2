"""A clause of the contract, and what an examination says of it. Knows no plugin.

A clause is an async function that is given the scene. It returns when the clause holds, and raises
`Unmet` when it does not or `Unjudged` when nothing can be said of it.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

DETAIL_CHARS_MAX: Final = 1600
"""Of what was seen, in a verdict: enough for an error object, too little to fill a screen twice."""

SceneT = TypeVar("SceneT")


class Mark(enum.Enum):
    """What can be said of a clause."""

    PASS = "PASS"  # noqa: S105 - a mark, no password
    FAIL = "FAIL"
    SKIP = "SKIP"


class Kind(enum.Enum):
    """What is examined."""

    PROCESS = "process"  # a plugin that we start
    REMOTE = "remote"  # a plugin that somebody else runs
    BUILTIN = "builtin"  # a manifest; the provider behind it is no plugin


class Verdict(msgspec.Struct, frozen=True):
    """What is said of one clause."""

    clause: str  # its id, as `stream.done`
    mark: Mark
    sentence: str  # what the clause asks for
    detail: str = ""  # of a FAIL what was seen, what was expected and what to do; of a SKIP why
    blocked: bool = False  # a SKIP because of another clause that does not hold

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; what was not judged is not wrong."""
        return self.mark is not Mark.FAIL


class Unmet(Exception):
    """A clause does not hold: what was seen, what was expected, what to do."""

    def __init__(self, *, seen: object, expected: str, do: str = "") -> None:
        advice = f"\ndo: {do}" if do else ""
        super().__init__(f"seen: {seen}\nexpected: {expected}{advice}")


class Unjudged(Exception):
    """Nothing can be said of a clause, and why."""


class Clause(msgspec.Struct, Generic[SceneT], frozen=True):
    """One sentence of the contract, and how it is judged."""

    id: str
    sentence: str
    check: Callable[[SceneT], Awaitable[None]]
    needs: tuple[str, ...]  # clauses without which this one says nothing
    of: tuple[Kind, ...]  # what it is asked of


NOT_OF: Final = {
    Kind.PROCESS: "it is asked of builtin providers only.",
    Kind.REMOTE: "it is asked of plugins that the examination itself starts: give their folder.",
    Kind.BUILTIN: "a builtin provider is a manifest, with no plugin of ours behind it.",
}


class Clauses(Generic[SceneT]):
    """The clauses of one subject, in the order in which they are judged."""

    def __init__(self) -> None:
        self.items: list[Clause[SceneT]] = []

    def clause(
        self,
        name: str,
        sentence: str,
        *,
        needs: tuple[str, ...] = (),
        of: tuple[Kind, ...] = (Kind.PROCESS, Kind.REMOTE),
    ) -> Callable[[Callable[[SceneT], Awaitable[None]]], Callable[[SceneT], Awaitable[None]]]:
        """Make a function the judge of a clause."""

        def register(
            check: Callable[[SceneT], Awaitable[None]],
        ) -> Callable[[SceneT], Awaitable[None]]:
            self.items.append(Clause(name, sentence, check, needs, of))
            return check

        return register


async def judge(
    clause: Clause[SceneT], scene: SceneT, kind: Kind, before: Mapping[str, Verdict]
) -> Verdict:
    """The verdict on one clause, after those `before` it."""
    for need in clause.needs:
        verdict = before[need]
        if verdict.blocked or not verdict.ok:
            why = f"it needs {need}, which does not hold."
            return Verdict(clause.id, Mark.SKIP, clause.sentence, why, blocked=True)
    if kind not in clause.of:
        return Verdict(clause.id, Mark.SKIP, clause.sentence, NOT_OF[kind])
    try:
        await clause.check(scene)
    except Unmet as unmet:
        return Verdict(clause.id, Mark.FAIL, clause.sentence, cut(str(unmet)))
    except Unjudged as why_not:
        return Verdict(clause.id, Mark.SKIP, clause.sentence, cut(str(why_not)))
    return Verdict(clause.id, Mark.PASS, clause.sentence)


def cut(text: str) -> str:
    """`text`, printable and within bounds: a plugin must not steer the terminal of its examiner."""
    clean = "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in text)
    if len(clean) <= DETAIL_CHARS_MAX:
        return clean
    return f"{clean[:DETAIL_CHARS_MAX]}… ({len(clean)} characters)"

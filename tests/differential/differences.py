"""Our proxy beside nginx and HAProxy: what each makes of a case, and why it is not the same."""

from collections.abc import Iterator
from typing import Final

import msgspec

from tests.differential.others import NAMES, version
from tests.differential.outcome import Outcome
from tests.support.corpus import CORPUS

Outcomes = dict[str, dict[str, Outcome]]
"""By proxy, then by case."""

OURS: Final = "loomproxy"
_CASE_CHARACTERS: Final = 62
_OUTCOME_CHARACTERS: Final = 30


class Difference(msgspec.Struct, forbid_unknown_fields=True):
    """Cases in which others do otherwise for one reason."""

    title: str
    why: str
    nginx: list[str] = []
    nginx_sometimes: list[str] = []
    haproxy: list[str] = []
    haproxy_sometimes: list[str] = []

    def always(self, name: str) -> list[str]:
        """The cases in which this proxy does otherwise."""
        found: list[str] = getattr(self, name)
        return found

    def sometimes(self, name: str) -> list[str]:
        """The cases in which it does so depending on how its reads fell."""
        found: list[str] = getattr(self, f"{name}_sometimes")
        return found


class Explained(msgspec.Struct, forbid_unknown_fields=True):
    """All of them, and the versions that they were measured with."""

    measured: dict[str, str]
    difference: list[Difference]

    def is_of(self, name: str) -> bool:
        """Whether the installed version is the one that was measured: another may do otherwise."""
        return self.measured[name] == version(name)

    def cases(self, name: str) -> list[str]:
        """Every case that is explained for this proxy."""
        return [
            case for each in self.difference for case in each.always(name) + each.sometimes(name)
        ]

    def unexplained(self, name: str, outcomes: Outcomes) -> list[str]:
        """The cases that differ and are in no group."""
        return sorted(differing(name, outcomes) - set(self.cases(name)))

    def outdated(self, name: str, outcomes: Outcomes) -> list[str]:
        """The cases that are in a group and do not differ."""
        claimed = {case for each in self.difference for case in each.always(name)}
        return sorted(claimed - differing(name, outcomes))


def load() -> Explained:
    """The explanations in the corpus."""
    return msgspec.toml.decode((CORPUS / "differences.toml").read_bytes(), type=Explained)


def differing(name: str, outcomes: Outcomes) -> set[str]:
    """The cases of which another outcome came from this proxy than from ours."""
    return {case for case, ours in outcomes[OURS].items() if not ours.same(outcomes[name][case])}


def table(outcomes: Outcomes, explained: Explained) -> Iterator[str]:
    """The differences, group by group; `=` is what ours did."""
    yield _row("case", OURS, *(f"{name} {version(name)}" for name in NAMES))
    for each in explained.difference:
        yield f"\n{each.title}: {each.why}"
        listed = {case for name in NAMES for case in each.always(name) + each.sometimes(name)}
        yield from (_line(case, outcomes) for case in outcomes[OURS] if case in listed)
    rest = {case for name in NAMES for case in explained.unexplained(name, outcomes)}
    if rest:
        yield "\nNOT EXPLAINED"
        yield from (_line(case, outcomes) for case in outcomes[OURS] if case in rest)
    total = len(outcomes[OURS])
    counts = ", ".join(f"{name} in {len(differing(name, outcomes))}" for name in NAMES)
    yield f"\n{total} cases; another outcome than ours: {counts}"
    for name in NAMES:
        if not explained.is_of(name):
            yield (
                f"{name} {version(name)} is not the {explained.measured[name]} that was measured:"
                " what differs otherwise is shown, and fails nothing"
            )


def _line(case: str, outcomes: Outcomes) -> str:
    ours = outcomes[OURS][case]
    theirs = [outcomes[name][case] for name in NAMES]
    return _row(case, str(ours), *("=" if ours.same(each) else str(each) for each in theirs))


def _row(case: str, *cells: str) -> str:
    shown = [cell[:_OUTCOME_CHARACTERS].ljust(_OUTCOME_CHARACTERS) for cell in cells]
    return " | ".join([case[:_CASE_CHARACTERS].ljust(_CASE_CHARACTERS), *shown]).rstrip()

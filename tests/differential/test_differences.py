"""Where nginx and HAProxy do otherwise than ours, the corpus says why; run with `-s` for the table.

What another version of theirs does is not ours to promise: a version that was not measured is
shown in the table, and fails nothing.
"""

import asyncio

import pytest

from tests.differential.differences import OURS, Explained, Outcomes, load, table
from tests.differential.lanes import loomproxy
from tests.differential.others import NAMES, other
from tests.differential.outcome import outcome
from tests.differential.play import play
from tests.support.corpus import every

CASES = every()
EXPLAINED = load()


@pytest.fixture(scope="module")
def outcomes(seen, seen_by_others) -> Outcomes:
    """What became of every case at each proxy."""
    all_seen = {OURS: seen, **seen_by_others}
    found = {
        name: {case.key: outcome(case, saw[case.key]) for case in CASES}
        for name, saw in all_seen.items()
    }
    print("\n".join(table(found, EXPLAINED)))
    return found


def judged_twice(name: str, outcomes: Outcomes, judge) -> list[str]:
    """What `judge` finds in these outcomes and again in others: a busy machine is no difference."""
    suspects = set(judge(name, outcomes))
    if not suspects or not EXPLAINED.is_of(name):
        return []
    again = asyncio.run(_played(name, suspects), debug=False)
    return sorted(suspects & set(judge(name, again)))


async def _played(name: str, keys: set[str]) -> Outcomes:
    cases = [case for case in CASES if case.key in keys]
    found: Outcomes = {}
    for which, proxy in ((OURS, loomproxy()), (name, other(name))):
        async with proxy as lanes:
            saw = await play(lanes, cases)
        found[which] = {case.key: outcome(case, saw[case.key]) for case in cases}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_difference_is_explained(name: str, outcomes: Outcomes):
    found = judged_twice(name, outcomes, EXPLAINED.unexplained)
    assert not found, f"say in tests/corpus/differences.toml why {name} does otherwise: {found}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_explanation_outlives_its_difference(name: str, outcomes: Outcomes):
    def outdated(name: str, found: Outcomes) -> list[str]:
        return [case for case in EXPLAINED.outdated(name, found) if case in found[OURS]]

    found = judged_twice(name, outcomes, outdated)
    assert not found, f"take out of tests/corpus/differences.toml, under {name}: {found}"


@pytest.mark.parametrize("name", NAMES)
def test_explanations_are_of_cases_that_there_are_and_each_has_one(name: str):
    listed = EXPLAINED.cases(name)
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) <= {case.key for case in CASES}


def test_a_difference_is_seen_and_an_outdated_explanation_too(outcomes: Outcomes):
    nothing = Explained(measured=EXPLAINED.measured, difference=[])
    everything = [each for each in EXPLAINED.difference if each.nginx]
    assert set(nothing.unexplained("nginx", outcomes)) >= set(everything[0].nginx)
    everything[0] = type(everything[0])(title="x", why="y", nginx=[CASES[0].key])
    one = Explained(measured=EXPLAINED.measured, difference=everything)
    assert CASES[0].key in one.outdated("nginx", outcomes)

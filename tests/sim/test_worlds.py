"""Random worlds: every rule of the exchange holds in each of them."""

import itertools
from pathlib import Path

import pytest

from loomproxy.core.exchange import TABLE
from tests.sim.world import WORST, Broken, Sim

FRESH_WORLDS = 3000
FRESH_BEGIN_AT = 1
QUIET_WORLDS = 40
CROWDED_WORLDS = 2
SEEDS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_that_once_broke_holds(seed: int) -> None:
    Sim(seed).run()


def test_fresh_worlds_hold_and_visit_the_whole_table() -> None:
    rows: set[tuple[str, type]] = set()
    for seed in range(FRESH_BEGIN_AT, FRESH_BEGIN_AT + FRESH_WORLDS):
        Sim(seed, rows=rows).run()
    unseen = [
        (phase.name, event.__name__)
        for phase, steps in TABLE.items()
        for event in steps
        if (phase.value, event) not in rows
    ]
    assert not unseen, "the worlds are too tame: they never come here"


@pytest.mark.parametrize("worst", WORST)
def test_the_worst_at_every_moment_of_a_quiet_world(worst: str) -> None:
    """For every n: the n-th step is the worst one (after SQLite's anomaly tests)."""
    worlds = 0
    for seed in range(QUIET_WORLDS):
        for at in range(Sim(seed, quiet=True).run().steps):
            Sim(seed, quiet=True, worst=(at, worst)).run()
            worlds += 1
    assert worlds > 8 * QUIET_WORLDS


@pytest.mark.parametrize("worst", WORST)
def test_the_worst_at_every_moment_of_a_crowded_world(worst: str) -> None:
    """Where all want the same slots, what is lost at one moment is missed by others later."""
    crowded = (seed for seed in itertools.count(1) if Sim(seed).crowded)
    for seed in itertools.islice(crowded, CROWDED_WORLDS):
        for at in range(Sim(seed).run().steps):
            Sim(seed, worst=(at, worst)).run()


def test_a_quiet_world_ends_well() -> None:
    for seed in range(200):
        for actor in Sim(seed, quiet=True).run().actors:
            outcome = actor.exchange.outcome
            assert outcome.fault in ("", "no_route", "body_too_large", "method_not_allowed") or (
                outcome.fault in ("queue_full", "pool_unavailable")
            ), outcome


def test_a_seed_is_the_same_world_again() -> None:
    for seed in range(50):
        first, second = Sim(seed).run(), Sim(seed).run()
        assert [entry[:3] for entry in first.trace] == [entry[:3] for entry in second.trace]


def test_a_broken_rule_is_told_with_its_seed_and_what_happened() -> None:
    sim = Sim(4, quiet=True)
    sim.troubles.client_full = "no number"
    with pytest.raises(Broken, match=r"seed 4, quiet=True, worst=None: TypeError[^\n]*\n.*>> "):
        sim.run()

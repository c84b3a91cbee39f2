"""Random worlds: effects exclude one another, tokens only grow, and what heals goes on."""

from pathlib import Path

import pytest

from tests.sim.leases.mutants import MUTANTS, WORLDS_MAX, LeaseMutant, unguarded_is_caught_by
from tests.sim.leases.world import World

FRESH_WORLDS = 500
SEEDS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_that_once_broke_holds(seed: int) -> None:
    World(seed).run()


def test_fresh_worlds_hold_and_are_troubled_enough() -> None:
    holders = 0
    for seed in range(FRESH_WORLDS):
        holders += len(World(seed).run().store.owners)
    assert holders > 5 * FRESH_WORLDS, "the worlds are too tame: it hardly changes hands"


def test_a_seed_is_the_same_world_again() -> None:
    for seed in range(20):
        assert World(seed).run().store.effects == World(seed).run().store.effects


@pytest.mark.parametrize("mutant", MUTANTS, ids=repr)
def test_a_seeded_bug_is_caught(mutant: LeaseMutant) -> None:
    assert mutant.caught_by(), f"{WORLDS_MAX} worlds, and nobody noticed that {mutant}"


def test_a_store_without_the_fence_is_caught() -> None:
    assert unguarded_is_caught_by()

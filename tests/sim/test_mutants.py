"""Would the simulator notice? Each seeded bug must be caught."""

import pytest

from tests.sim.mutants import MUTANTS, WORLDS_MAX, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=repr)
def test_a_seeded_bug_is_caught(mutant: Mutant) -> None:
    assert mutant.caught_by(), f"{WORLDS_MAX} worlds, and nobody noticed that {mutant}"


def test_a_bug_is_out_again_afterwards() -> None:
    mutant = MUTANTS[0]
    sound = mutant.function.__code__
    with mutant.at_large():
        assert mutant.function.__code__ is not sound
    assert mutant.function.__code__ is sound

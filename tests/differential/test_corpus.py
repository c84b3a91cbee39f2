"""Every case of the corpus through a running proxy: both sides see what the case says."""

import asyncio

import pytest

from tests.differential.expect import request_problems, response_problems
from tests.differential.lanes import loomproxy
from tests.differential.play import Observation, play
from tests.support import corpus

CASES = corpus.by_family([*corpus.requests(), *corpus.responses()])


@pytest.fixture(scope="module")
def seen() -> dict[str, Observation]:
    """What both sides saw of every case, all played through one proxy."""
    return asyncio.run(_played(), debug=False)


async def _played() -> dict[str, Observation]:
    async with loomproxy() as lanes:
        return await play(lanes, [case for family in CASES.values() for case in family])


@pytest.mark.parametrize("family", CASES)
def test_what_goes_in_comes_out_on_both_sides_as_the_corpus_says(family: str, seen):
    wrong = {}
    for case in CASES[family]:
        is_request = isinstance(case, corpus.RequestCase)
        problems = (request_problems if is_request else response_problems)(case, seen[case.key])
        if problems:
            wrong[case.name] = problems
    assert not wrong

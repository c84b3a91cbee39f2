"""Every case of the corpus through a running proxy: both sides see what the case says."""

import pytest

from tests.differential.expect import request_problems, response_problems
from tests.support.corpus import RequestCase, by_family, every

FAMILIES = by_family(every())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_goes_in_comes_out_on_both_sides_as_the_corpus_says(family: str, seen):
    wrong = {}
    for case in FAMILIES[family]:
        is_request = isinstance(case, RequestCase)
        problems = (request_problems if is_request else response_problems)(case, seen[case.key])
        if problems:
            wrong[case.name] = problems
    assert not wrong

"""What can be asked of `loadtest/cluster`, what it refuses, and how it counts."""

import pytest

from loadtest import agreeing, enduring
from loadtest.together import markdown
from loadtest.trouble import Trouble
from tests.support.pace import Asked


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("coordination", "--instances", "201"), "--instances: 201"),
        (("coordination", "--seconds", "0"), "--seconds: 0"),
        (("failover", "--times", "0"), "--times: 0"),
        (("scaling", "--rate", "0"), "--rate: 0"),
        (("soak", "--minutes", "0"), "--minutes: 0"),
        (("soak", "--every", "1"), "--every: 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(Trouble, match=words):
        agreeing.check(agreeing.parser().parse_args(argv))


@pytest.mark.parametrize("what", ["coordination", "failover", "scaling", "soak"])
def test_what_is_asked_for_without_options_is_well(what: str) -> None:
    agreeing.check(agreeing.parser().parse_args([what]))


def test_a_fault_costs_what_failed_until_the_next_one() -> None:
    faults = [enduring.Fault("a", 10.0, 11.0), enduring.Fault("b", 20.0, 21.0)]
    requests = [
        Asked(5.0, 0.1, 0, ""),
        Asked(12.0, 2.0, 200, ""),
        Asked(19.9, 0.1, 503, ""),
        Asked(20.0, 0.1, 0, ""),
        Asked(99.0, 0.1, 200, ""),
    ]
    assert enduring._cost("a", faults, requests) == ("a", 1, 1, 1, "2.00")
    assert enduring._cost("b", faults, requests) == ("b", 1, 1, 0, "0.10")
    assert enduring._whole("all", requests)[1:4] == (5, 3, "40.0000 %")


def test_a_table_is_markdown() -> None:
    assert markdown(("a", "b"), [(1, 2)]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"

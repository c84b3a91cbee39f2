"""The table of faults: what the client is told, what the log says, what may go again."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.fault import FAULTS, Again, Fault, Side

EVERY = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


@EVERY
def test_a_fault_is_found_by_its_name_and_is_a_constant_of_that_name(fault: Fault) -> None:
    assert FAULTS[fault.name] is fault
    assert getattr(faults, fault.name.upper()) is fault


@EVERY
def test_the_letter_is_lower_case_exactly_for_timeouts(fault: Fault) -> None:
    assert fault.letter.upper() == fault.side.value
    assert fault.letter.islower() is fault.timeout


@EVERY
def test_the_client_is_told_in_one_sentence_that_shows_nothing_of_the_inside(fault: Fault) -> None:
    assert fault.text[0].isupper()
    assert fault.text.endswith(".")
    assert not set(fault.text) & set("/:{}%\n")


@EVERY
def test_what_is_told_is_an_error_status_or_nothing(fault: Fault) -> None:
    assert fault.status == 0 or 400 <= fault.status <= 599


@EVERY
def test_the_client_is_blamed_with_4xx_and_the_upstream_with_gateway_errors(fault: Fault) -> None:
    blames = {
        Side.CLIENT: {0, 408},
        Side.UPSTREAM: {0, 502, 504},
        Side.RESOURCE: {503},
        Side.INTERNAL: {500, 503},
    }
    if fault.side in blames:
        assert fault.status in blames[fault.side]


@EVERY
def test_only_an_upstream_that_answered_nothing_lets_a_request_go_again(fault: Fault) -> None:
    if fault.again is not Again.NEVER:
        assert fault.side is Side.UPSTREAM
        assert fault.status in {502, 504}


def test_nothing_was_sent_means_elsewhere_and_a_closed_connection_means_only_if_reused() -> None:
    assert faults.CONNECT_FAILED.again is Again.ELSEWHERE
    assert faults.CONNECT_TIMEOUT.again is Again.ELSEWHERE
    assert faults.UPSTREAM_CLOSED.again is Again.IF_REUSED
    assert faults.UPSTREAM_TIMEOUT.again is Again.NEVER

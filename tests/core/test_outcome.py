"""The record of an exchange, before anything has happened to it."""

from loomproxy.core.outcome import Outcome


def test_an_exchange_that_nobody_blamed_ended_well_and_went_nowhere() -> None:
    outcome = Outcome(b"id", b"203.0.113.7", None)
    assert (outcome.termination, outcome.fault, outcome.status) == ("--", "", 0)
    assert (outcome.route, outcome.pool, outcome.endpoint) == ("-", "-", "-")
    assert outcome.attempts == 0
    assert not outcome.reused


def test_phases_that_never_came_have_the_moment_zero() -> None:
    outcome = Outcome(b"id", b"203.0.113.7", None)
    moments = (
        outcome.begun_at,
        outcome.connecting_at,
        outcome.opened_at,
        outcome.answered_at,
        outcome.ended_at,
    )
    assert set(moments) == {0.0}

"""A lease's row and its holder, event by event."""

import pytest

from loomproxy.core import lease
from loomproxy.core.lease import (
    NOBODYS,
    Ask,
    Busy,
    Cancel,
    Command,
    Event,
    Failed,
    Granted,
    Holder,
    Patience,
    Refused,
    Release,
    Renew,
    Renewed,
    Row,
    State,
    Wake,
    Work,
)
from loomproxy.core.units import NEVER, Instant

TTL_S = 30.0
PATIENCE = Patience(ttl_s=TTL_S, retry_s=4.0)


# ---- The row. ----------------------------------------------------------------------------------


def test_a_lease_nobody_held_is_taken_with_the_first_token() -> None:
    assert lease.take(NOBODYS, "a", 10.0, 100.0) == Row("a", 1, 110.0)


@pytest.mark.parametrize("owner", ["a", "b"])
def test_what_is_held_is_not_taken_even_by_its_holder(owner: str) -> None:
    assert lease.take(Row("a", 3, 110.0), owner, 10.0, 109.9) is None


def test_what_ran_out_is_taken_with_a_larger_token() -> None:
    assert lease.take(Row("a", 3, 110.0, leaving=True), "a", 10.0, 110.0) == Row("a", 4, 120.0)


def test_only_who_holds_it_now_may_write() -> None:
    row = Row("a", 3, 110.0)
    assert lease.permits(row, "a", 3, 109.9)
    assert not lease.permits(row, "a", 3, 110.0), "it ran out"
    assert not lease.permits(row, "a", 2, 109.9), "an older time that it was held"
    assert not lease.permits(row, "b", 3, 109.9), "somebody else"
    assert not lease.permits(Row("", 3, 110.0), "", 3, 109.9), "nobody holds it"


def test_renewing_prolongs_and_keeps_the_wish_that_it_be_let_go() -> None:
    row = lease.ask_to_step_down(Row("a", 3, 110.0))
    assert lease.renew(row, "a", 3, 10.0, 105.0) == Row("a", 3, 115.0, leaving=True)
    assert lease.renew(row, "a", 3, 10.0, 110.0) is None
    assert lease.renew(row, "a", 2, 10.0, 105.0) is None


def test_what_is_given_back_is_nobodys_and_keeps_its_token() -> None:
    row = Row("a", 3, 110.0)
    freed = lease.free(row, "a", 3)
    assert freed == Row("", 3, 0.0)
    assert lease.free(freed, "a", 3) is None
    assert lease.free(row, "a", 2) is None
    assert lease.take_away(row) == freed
    taken = lease.take(freed, "b", 10.0, 50.0)
    assert taken is not None
    assert taken.token == 4


# ---- The holder. -------------------------------------------------------------------------------


class Play:
    """A holder and its clock."""

    def __init__(self) -> None:
        self.now = Instant(1000.0)
        self.holder = Holder(PATIENCE, self.now)

    def after(self, seconds: float, event: Event | None = None) -> list[Command]:
        self.now = self.now + seconds
        return self.holder.handle(event or Wake(), self.now, 1.0)

    def at_deadline(self) -> list[Command]:
        self.now = self.holder.deadline
        return self.holder.handle(Wake(), self.now, 1.0)

    def held(self) -> "Play":
        assert self.after(0.0) == [Ask(1)]
        assert self.after(1.0, Granted(1, 7)) == [Work(7)]
        return self


def test_it_asks_at_once_and_works_when_granted() -> None:
    play = Play()
    assert play.after(0.0) == [Ask(1)]
    assert play.holder.state is State.ASKING
    assert play.holder.deadline == NEVER, "the store bounds its answer"
    assert play.after(2.0) == [], "one question at a time"
    assert play.after(0.0, Granted(1, 7)) == [Work(7)]
    assert play.holder.believes


def test_it_believes_from_before_it_asked_and_less_than_the_lease_lasts() -> None:
    play = Play().held()
    assert play.holder.believes_until == 1000.0 + TTL_S * 0.9
    assert play.holder.deadline == 1000.0 + TTL_S / 3


def test_a_grant_that_took_too_long_is_given_back() -> None:
    play = Play()
    play.after(0.0)
    assert play.after(TTL_S, Granted(1, 7)) == [Release(7)]
    assert not play.holder.believes
    assert play.after(0.0) == [Ask(2)]


def test_while_another_holds_it_it_asks_again_when_that_may_be_over() -> None:
    play = Play()
    play.after(0.0)
    assert play.after(0.0, Busy(1, 1.5)) == []
    assert play.holder.deadline == 1001.5
    assert play.after(1.0) == [], "not yet"
    assert play.after(0.5) == [Ask(2)]
    play.after(0.0, Busy(2, 25.0))
    assert play.holder.deadline == 1001.5 + 4.0, "it may be let go earlier"


def test_tries_are_spread_by_jitter() -> None:
    play = Play()
    play.after(0.0)
    play.holder.handle(Failed(1), play.now, 0.0)
    assert play.holder.deadline == 1002.0


def test_a_store_that_is_away_is_asked_again() -> None:
    play = Play()
    play.after(0.0)
    assert play.after(2.0, Failed(1)) == []
    assert play.holder.deadline == 1006.0
    assert play.at_deadline() == [Ask(2)]


def test_it_renews_at_a_third_and_believes_anew_from_then() -> None:
    play = Play().held()
    assert play.at_deadline() == [Renew(2, 7)]
    assert play.holder.state is State.RENEWING
    assert play.after(3.0, Renewed(2, leaving=False)) == []
    assert play.holder.state is State.HELD
    assert play.holder.believes_until == 1010.0 + TTL_S * 0.9


def test_a_renewal_that_fails_is_tried_again_while_belief_lasts() -> None:
    play = Play().held()
    play.at_deadline()
    assert play.after(4.0, Failed(2)) == []
    assert play.holder.believes
    assert play.holder.deadline == 1018.0
    assert play.at_deadline() == [Renew(3, 7)]
    play.after(8.0, Failed(3))
    assert play.holder.deadline == 1027.0, "no later than belief ends"
    assert play.at_deadline() == [Cancel(lost=True), Release(7)]
    assert play.after(0.0) == [Ask(5)]


def test_belief_ends_while_a_renewal_is_under_way_and_its_answer_is_too_late() -> None:
    play = Play().held()
    play.at_deadline()
    assert play.holder.deadline == play.holder.believes_until
    assert play.at_deadline() == [Cancel(lost=True), Release(7)]
    assert play.after(0.0, Renewed(2, leaving=False)) == []
    assert not play.holder.believes


def test_an_answer_that_finds_belief_over_loses_it_first() -> None:
    play = Play().held()
    play.at_deadline()
    assert play.after(TTL_S, Renewed(2, leaving=False)) == [Cancel(lost=True), Release(7)]
    assert not play.holder.believes


def test_a_renewal_that_is_refused_loses_it() -> None:
    play = Play().held()
    play.at_deadline()
    assert play.after(0.1, Refused(2)) == [Cancel(lost=True), Release(7)]
    assert play.after(0.0) == [Ask(4)]


def test_a_late_grant_is_given_back_and_other_late_answers_mean_nothing() -> None:
    play = Play().held()
    assert play.after(0.0, Granted(0, 6)) == [Release(6)]
    for late in (Busy(0, 1.0), Renewed(0, leaving=True), Refused(0), Failed(0)):
        assert play.after(0.0, late) == []
    assert play.holder.believes


def test_who_is_asked_to_step_down_does_and_stands_back() -> None:
    play = Play().held()
    play.at_deadline()
    assert play.after(1.0, Renewed(2, leaving=True)) == [Cancel(lost=False), Release(7)]
    assert play.holder.state is State.STANDING_BACK
    assert play.after(TTL_S - 1.0) == []
    assert play.holder.hint(play.now) == [], "others go first, whatever happens"
    assert play.after(1.0) == [Ask(4)]


def test_giving_up_what_is_not_held_only_stands_back() -> None:
    play = Play()
    play.after(0.0)
    assert play.holder.give_up(play.now) == []
    assert play.after(0.0, Granted(1, 7)) == [Release(7)], "its grant came too late"
    assert play.holder.state is State.STANDING_BACK


def test_a_guarded_write_that_is_refused_loses_it() -> None:
    play = Play()
    assert play.holder.fenced(play.now) == []
    play.held()
    assert play.holder.fenced(play.now) == [Cancel(lost=True), Release(7)]
    assert not play.holder.believes


def test_a_hint_asks_or_renews_at_once() -> None:
    play = Play()
    play.after(0.0)
    assert play.holder.hint(play.now) == [], "the question under way will tell"
    play.after(0.0, Busy(1, 20.0))
    assert play.holder.hint(play.now) == [Ask(2)]
    play.after(0.0, Granted(2, 7))
    assert play.holder.hint(play.now) == [Renew(3, 7)]
    play.after(0.0, Renewed(3, leaving=False))
    play.now = play.now + TTL_S
    assert play.holder.hint(play.now) == [Cancel(lost=True), Release(7)]


def test_waking_while_it_renews_or_before_the_time_does_nothing() -> None:
    play = Play().held()
    assert play.after(1.0) == []
    play.at_deadline()
    assert play.after(1.0) == []

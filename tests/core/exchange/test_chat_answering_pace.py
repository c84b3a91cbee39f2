"""A provider's stream on its way down to a client that takes it slowly."""

import pytest

from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamTaken,
    UpstreamGone,
)
from loomproxy.core.exchange.chat_answering import (
    AFTER_DONE_S,
)
from loomproxy.core.fault import UPSTREAM_CUT
from tests.commands import Fate, PauseUp, ResumeUp, SendDown
from tests.core.exchange.chats import (
    CHUNK_S,
    DONE,
    HI,
    LAST_CHUNK,
    LET_GO,
    STREAMED,
    framed,
    market,
    part,
    post,
    stream_head,
    streaming,
    taken,
    whole,
)
from tests.core.exchange.scenery import SEND_S, play
from tests.playbook import (
    Later,
    Play,
    deadline,
    finish,
    opened,
)


def test_a_client_that_reads_slowly_hears_of_it_still() -> None:
    it = streaming(STREAMED)
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert (
        it
        >> UpstreamGone(UPSTREAM_CUT)
        << LET_GO
        << ...
        << deadline(SEND_S)
        >> DownstreamTaken()
        << ...
        << finish(Fate.CLOSE, "UD", fault="stream_truncated")
    )


@pytest.mark.parametrize("event", [DeadlineExpired(), UpstreamGone(UPSTREAM_CUT)])
def test_a_provider_that_does_not_end_what_is_done_is_not_waited_for(event: object) -> None:
    it = taken(streaming(STREAMED))
    assert it >> part(HI + DONE) << ... << SendDown(framed(HI + DONE)) << deadline(AFTER_DONE_S)
    assert it >> Later(0.5) >> part(b": more\n\n")
    assert (
        it >> event << LAST_CHUNK << LET_GO << ... << finish(Fate.KEEP, "--", status=200, fault="")
    )


def test_what_is_done_and_was_taken_late_is_not_waited_for_either() -> None:
    it = streaming(STREAMED)
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> part(DONE) << deadline(SEND_S) << SendDown(framed(DONE))
    assert it >> DownstreamTaken() << ResumeUp() << ... << deadline(AFTER_DONE_S)


def told_to_go_on(it: Play) -> Play:
    """Up to the head of the stream, for a client that waited to be told."""
    assert (
        it
        >> post(STREAMED, "Expect: 100-continue")
        << ...
        >> whole(STREAMED)
        << ...
        >> opened()
        << ...
        >> stream_head()
        << ...
    )
    return it


def test_a_client_that_was_told_to_go_on_and_takes_nothing_slows_the_provider() -> None:
    it = told_to_go_on(play(market()))
    assert it >> part(HI) << ... << SendDown(framed(HI)) << PauseUp() << deadline(SEND_S)
    assert it >> DownstreamTaken() << ResumeUp() << deadline(CHUNK_S)


def test_a_client_that_was_told_to_go_on_and_takes_all_slows_nobody() -> None:
    it = told_to_go_on(taken(play(market())))
    assert it >> part(HI) << ... << SendDown(framed(HI))


def test_a_client_that_does_not_read_slows_the_provider() -> None:
    it = streaming(STREAMED)
    assert it >> part(HI) << ... << SendDown(framed(HI))
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert it >> DownstreamTaken() << ResumeUp() << deadline(CHUNK_S)
    assert it >> DownstreamFull() << PauseUp() << deadline(SEND_S)
    assert (
        it
        >> Later(SEND_S)
        >> DeadlineExpired()
        << LET_GO
        << ...
        << finish(Fate.ABORT, "cD", fault="client_take_timeout")
    )

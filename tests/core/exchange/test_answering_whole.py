"""Answers that are there, or taken, all at once: what is known at once is not waited for."""

from loomproxy.core.event import DownstreamTaken
from loomproxy.core.message import Response, ResponseHead
from tests.commands import Fate, Release, SendDown
from tests.core.exchange.scenery import (
    NEVER_FROM_NOW,
    SEND_S,
    get,
    waiting,
    with_length,
)
from tests.playbook import deadline, finish, head_down


def whole(length: int = 5) -> Response:
    head = with_length(length)
    assert isinstance(head, ResponseHead)
    return Response(head, b"x" * length)


def test_an_answer_that_came_whole_goes_down_whole() -> None:
    assert (
        waiting(get())
        >> whole()
        << head_down(200, b"Content-Length: 5\r\n", end=b"\r\n\r\n")
        << SendDown(b"xxxxx")
        << Release(reusable=True)
        << deadline(SEND_S)
        >> DownstreamTaken()
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, status=200, response_bytes=5)
    )


def test_an_answer_that_the_client_takes_at_once_is_over_at_once() -> None:
    it = waiting(get())
    it.scribe.taken = True
    assert (
        it
        >> whole()
        << head_down(200)
        << SendDown(b"xxxxx")
        << Release(reusable=True)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.KEEP, status=200, response_bytes=5)
    )

"""Where a chat goes, at each attempt anew."""

import pytest
from msgspec import structs

from loomproxy.core.event import Opened
from loomproxy.core.fault import CONNECT_FAILED
from loomproxy.core.hygiene import ForwardPolicy
from tests.commands import SendUp
from tests.core.exchange.chats import (
    ACME_1,
    ACME_2,
    ASKED,
    CONNECT_S,
    FIRST_BYTE_S,
    LET_GO,
    acme,
    asking,
    endpoint,
    market,
    post,
    snapshot,
    whole,
)
from tests.core.exchange.scenery import IDLE_S, SEND_S, play
from tests.playbook import deadline, head_down, open_failed, opened, opens, sends_up, slot_freed


def test_each_endpoint_has_its_own_secrets() -> None:
    assert (
        play(market())
        >> post(ASKED)
        << deadline(IDLE_S)
        >> whole(ASKED)
        << opens(ACME_1)
        << deadline(CONNECT_S)
        >> opened()
        << deadline(FIRST_BYTE_S)
        << sends_up(b"POST /chat/completions HTTP/1.1\r\nHost: localhost\r\n", b"of-the-guest")
    )


@pytest.mark.parametrize("name", [b"X-Request-ID", b"x-request-id", b"X-Correlation-ID", b""])
def test_a_guest_is_told_the_id_by_the_name_it_knows(name: bytes) -> None:
    world = market()
    world.snapshot = structs.replace(world.snapshot, policy=ForwardPolicy(request_id_header=name))
    it = play(world)
    assert it >> post(ASKED) << ... >> whole(ASKED) << ...
    it.exchange.handle(Opened(it.exchange.ask), it.now)
    (sent,) = [said.data for said in it.scribe.take() if isinstance(said, SendUp)]
    assert sent.lower().count(b"\r\nx-request-id: id-1\r\n") == 1


def test_another_attempt_goes_to_the_newest_generation() -> None:
    world = market()
    it = play(world)
    assert it >> post(ASKED) << deadline(IDLE_S) >> whole(ASKED) << opens(ACME_1) << ...
    world.publish(snapshot(acme(endpoint("/run/acme-1", enabled=False), endpoint("/run/acme-2"))))
    assert it >> open_failed(CONNECT_FAILED) << LET_GO << opens(ACME_2) << deadline(CONNECT_S)


def test_who_waits_goes_to_the_newest_generation() -> None:
    world = market(in_flight_max=1)
    asking(ASKED, world)
    it = play(world)
    assert it >> post(ASKED) << deadline(IDLE_S) >> whole(ASKED) << deadline(5)
    old, new = endpoint("/run/acme-1", enabled=False), endpoint("/run/acme-2")
    world.publish(snapshot(acme(old, new), in_flight_max=1))
    woken = world.pools["plugin:acme"].wake(it.now)
    assert [ticket.owner for ticket in woken] == [it.exchange]
    assert it >> slot_freed() << opens(ACME_2) << deadline(CONNECT_S)


def test_a_provider_that_was_taken_away_gets_nothing_more() -> None:
    world = market()
    it = play(world)
    assert it >> post(ASKED) << deadline(IDLE_S) >> whole(ASKED) << opens(ACME_1) << ...
    world.publish(snapshot())
    assert (
        it
        >> open_failed(CONNECT_FAILED)
        << LET_GO
        << head_down(503, b'"code":"provider_unavailable"', b"Retry-After: 1\r\n")
        << deadline(SEND_S)
    )

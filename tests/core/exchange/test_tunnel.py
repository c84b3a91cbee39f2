"""After 101: bytes that are not HTTP any more."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.endpoint import EjectionPolicy
from loomproxy.core.event import (
    DeadlineExpired,
    DownstreamFull,
    DownstreamTaken,
    DownstreamTaking,
    HalfClosed,
    TunnelData,
    UpstreamFull,
    UpstreamGone,
    UpstreamTaken,
)
from loomproxy.core.message import RequestHead
from loomproxy.core.world import World
from tests.commands import (
    BeginTunnel,
    Fate,
    PauseDown,
    PauseUp,
    Release,
    ResumeDown,
    ResumeUp,
    SendDown,
    SendUp,
    ShutDown,
    ShutUp,
)
from tests.core.exchange.scenery import (
    FIRST,
    NEVER_FROM_NOW,
    SEND_S,
    TUNNEL_S,
    endpoint,
    get,
    house,
    post,
    response,
    upgrade,
    waiting,
)
from tests.playbook import Later, Play, deadline, finish, head_down

FIN_OF_CLIENT = HalfClosed(from_downstream=True)
FIN_OF_UPSTREAM = HalfClosed(from_downstream=False)


def tunnel(world: World | None = None) -> Play:
    it = waiting(upgrade(), world)
    assert (
        it
        >> response(101, "Connection: upgrade", "Upgrade: websocket")
        << head_down(101, b"Connection: upgrade\r\nUpgrade: websocket\r\n", end=b"\r\n\r\n")
        << BeginTunnel()
        << deadline(TUNNEL_S)
    )
    return it


def test_bytes_pass_both_ways_and_both_sides_may_end() -> None:
    world = house()
    assert (
        tunnel(world)
        >> TunnelData(b"ping", from_downstream=True)
        << SendUp(b"ping")
        << deadline(TUNNEL_S)
        >> Later(10)
        >> TunnelData(b"pong!", from_downstream=False)
        << SendDown(b"pong!")
        << deadline(TUNNEL_S)
        >> FIN_OF_CLIENT
        << ShutUp()
        >> TunnelData(b"last", from_downstream=False)
        << SendDown(b"last")
        << deadline(TUNNEL_S)
        >> FIN_OF_UPSTREAM
        << ShutDown()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "--", status=101, request_bytes=4, response_bytes=9)
    )
    assert endpoint(world, FIRST).in_flight == 0


def test_the_upstream_may_end_first() -> None:
    assert (
        tunnel()
        >> FIN_OF_UPSTREAM
        << ShutDown()
        >> FIN_OF_CLIENT
        << ShutUp()
        << ...
        << finish(Fate.CLOSE, "--")
    )


def test_a_client_that_said_fin_before_the_switch_is_heard_by_the_tunnel() -> None:
    it = waiting(upgrade())
    assert it >> FIN_OF_CLIENT
    assert it >> response(101, "Connection: upgrade", "Upgrade: websocket") << ...
    assert (
        it
        >> TunnelData(b"sent before", from_downstream=True)
        << SendUp(b"sent before")
        << deadline(TUNNEL_S)
        >> FIN_OF_CLIENT
        << ShutUp()
        >> FIN_OF_UPSTREAM
        << ...
        << finish(Fate.CLOSE, "--")
    )


def test_each_side_is_read_as_fast_as_the_other_takes() -> None:
    assert (
        tunnel()
        >> UpstreamFull()
        << PauseDown()
        >> UpstreamTaken()
        << ResumeDown()
        >> DownstreamFull()
        << PauseUp()
        >> DownstreamTaken()
        << ResumeUp()
    )


def test_a_silent_tunnel_ends() -> None:
    assert (
        tunnel()
        >> Later(TUNNEL_S)
        >> DeadlineExpired()
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "lT", fault="tunnel_idle")
    )


def test_an_upstream_that_breaks_its_tunnel_breaks_the_clients() -> None:
    assert (
        tunnel()
        >> UpstreamGone(faults.UPSTREAM_CUT)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.ABORT, "UT")
    )


def test_an_upstream_that_closes_wholly_after_its_fin_leaves_the_client_an_orderly_end() -> None:
    world = house(ejection=EjectionPolicy(failures=1))
    assert (
        tunnel(world)
        >> FIN_OF_UPSTREAM
        << ShutDown()
        >> TunnelData(b"too late", from_downstream=True)
        << SendUp(b"too late")
        << deadline(TUNNEL_S)
        >> UpstreamGone(faults.UPSTREAM_CUT)
        << Release(reusable=False)
        << deadline(NEVER_FROM_NOW)
        << finish(Fate.CLOSE, "--")
    )
    assert not endpoint(world, FIRST).failed


def test_a_client_that_takes_slowly_keeps_its_tunnel() -> None:
    assert (
        tunnel()
        >> DownstreamFull()
        << PauseUp()
        >> Later(TUNNEL_S)
        >> DownstreamTaking()
        << deadline(TUNNEL_S)
    )


def test_a_tunnel_that_begins_is_a_success_of_its_endpoint() -> None:
    world = house(ejection=EjectionPolicy(failures=3))
    endpoint(world, FIRST).failures = 2
    tunnel(world)
    assert endpoint(world, FIRST).failures == 0


@pytest.mark.parametrize(
    ("head", "to"),
    [
        (get(), "websocket"),
        (post(0), "websocket"),
        (upgrade(), "chat"),
        (upgrade("/", to="chat"), "chat"),
    ],
    ids=["not asked", "not asked by post", "to something else", "not allowed"],
)
def test_a_switch_that_was_not_agreed_on_is_refused(head: RequestHead, to: str) -> None:
    it = waiting(head)
    assert (
        it
        >> response(101, "Connection: upgrade", f"Upgrade: {to}")
        << Release(reusable=False)
        << head_down(502)
        << deadline(SEND_S)
    )

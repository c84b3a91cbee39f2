"""Three real instances behind the real nginx and the real HAProxy, with a real PostgreSQL.

Clients ask both balancers at a constant pace while the worst happens; no idempotent request fails.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.balanced import Balanced, balanced
from tests.support.caller import Caller
from tests.support.instances import TTL_S, Together, asked, document, leader, listed, published
from tests.support.loom import Loom
from tests.support.origin import Origin
from tests.support.pace import Pace, pace
from tests.support.waiting import eventually

PER_S = 40.0
PATH = "/hello"


@pytest.fixture
def play(together: Together) -> Iterator[Balanced]:
    with Origin() as origin, balanced(together, origin.url) as made:
        yield made


@pytest.fixture
def clients(play: Balanced) -> Iterator[tuple[Pace, Pace]]:
    """One asks nginx, one asks HAProxy; at the end neither has failed once."""
    with pace(play.nginx, PER_S, PATH) as nginx, pace(play.sticky, PER_S, PATH) as haproxy:
        both = (nginx, haproxy)
        for one in both:
            eventually(lambda one=one: len({each.instance for each in one.asked}) == 3, "all serve")
        yield both
        on = time.monotonic()
        for one in both:  # What was last done to it has its effect before they stop.
            eventually(lambda one=one: len(one.since(on)) > PER_S, "they go on")
    for one in both:
        assert not one.failed, one.failed[:5]


def served_again(play: Balanced, clients: tuple[Pace, Pace], name: str) -> None:
    """Wait until both balancers send traffic to an instance."""
    began = time.monotonic()
    for one in clients:
        eventually(
            lambda one=one: name in {each.instance for each in one.since(began)},
            f"{name} serves",
            within_s=30.0,
        )


def test_a_rolling_restart_fails_nobody(play: Balanced, clients: tuple[Pace, Pace]) -> None:
    for name in play.names:
        loom = play.looms[name]
        loom.signal(signal.SIGTERM)
        assert loom.wait_exit() == 0
        play.start(name)
        served_again(play, clients, name)


def test_a_leader_that_is_killed_under_load_fails_nobody(
    play: Balanced, clients: tuple[Pace, Pace]
) -> None:
    gone = leader(*play.looms.values())
    name = next(name for name, loom in play.looms.items() if loom is gone)
    gone.expected_to_fail = True
    gone.signal(signal.SIGKILL)
    gone.wait_exit()
    others = [loom for loom in play.looms.values() if loom is not gone]
    leader(*others, within_s=TTL_S + 5.0)
    play.start(name)
    served_again(play, clients, name)


def test_a_restart_of_the_database_fails_nobody(play: Balanced, clients: tuple[Pace, Pace]) -> None:
    play.together.server.stop("immediate")
    for loom in play.looms.values():
        eventually(lambda loom=loom: asked(loom)["away"], "it has noticed")
    play.together.server.start()
    for loom in play.looms.values():
        eventually(lambda loom=loom: not asked(loom)["away"], "it has noticed", within_s=20.0)
    leader(*play.looms.values(), within_s=2 * TTL_S + 5.0)


def test_a_leader_that_is_cut_off_fails_nobody_and_leads_no_more(
    play: Balanced, clients: tuple[Pace, Pace]
) -> None:
    gone = leader(*play.looms.values())
    name = next(name for name, loom in play.looms.items() if loom is gone)
    play.ways[name].stall()
    others = [loom for loom in play.looms.values() if loom is not gone]
    leading = leader(*others, within_s=TTL_S + 5.0)
    assert not asked(gone)["leads"], "it stopped before another began"
    assert play.is_ready(name), "and goes on serving"
    assert listed(leading)[name]["status"] == "silent"
    play.ways[name].heal()
    eventually(lambda: listed(leading)[name]["status"] == "active", "it is back", within_s=20.0)


def test_what_is_published_is_served_through_both_and_fails_nobody(
    play: Balanced, clients: tuple[Pace, Pace], tmp_path
) -> None:
    one = play.looms["inst1"]
    assert published(one, document("shared"), tmp_path) == 0
    assert published(one, document("shared again"), tmp_path) == 0
    done = one.run("cluster", "rollback", "0", "--admin", f"unix:{one.admin}")
    assert done.returncode == 0, done.stderr


def test_a_sticky_client_stays_until_its_instance_leaves(play: Balanced) -> None:
    def ask(cookie: str = "") -> tuple[str, str]:
        with Caller(("127.0.0.1", play.sticky)) as caller:
            fields = {"Cookie": f"LOOM_INSTANCE={cookie}"} if cookie else {}
            head = caller.get(PATH, fields=fields).head
        assert head.status == 200
        return head.field("x-instance-id") or "", head.field("set-cookie") or ""

    mine, cookie = ask()
    assert cookie == f"LOOM_INSTANCE={mine}; path=/; HttpOnly"
    assert {ask(mine)[0] for _ in range(12)} == {mine}
    loom: Loom = play.looms[mine]
    loom.signal(signal.SIGTERM)
    loom.wait_exit()
    other, cookie = ask(mine)
    assert other != mine
    assert f"LOOM_INSTANCE={other};" in cookie
    assert {ask(other)[0] for _ in range(12)} == {other}


def test_clients_are_kept_apart_by_hash(play: Balanced) -> None:
    for port in (play.by_client, play.hashed):
        with pace(port, PER_S, PATH) as one:
            eventually(lambda one=one: len(one.asked) > 20, "twenty answers")
        assert not one.failed
        assert len({each.instance for each in one.asked}) == 1, "a client stays with its instance"

"""The database is away, hangs or comes back: requests never notice, and instances make do."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.support.instances import Together, asked, document, leader, listed, published, runs
from tests.support.passage import passage
from tests.support.waiting import eventually


def test_requests_never_notice_that_the_database_hangs(together: Together) -> None:
    with passage(together.server.port) as way:
        one = together.start("one", port=way.port)
        eventually(lambda: asked(one)["beats"] > 1, "it beats")
        way.stall()
        eventually(lambda: asked(one)["away"], "it has noticed", within_s=5.0)
        for _ in range(50):
            began = time.monotonic()
            assert runs(one, "file")
            assert time.monotonic() - began < 1.0
        assert one.ask_admin("/health/ready").status == 200, "the database is not required"
        health = json.loads(one.ask_admin("/health").body)
        assert health["dependencies"]["database"]["status"] == "degraded"
        assert "127.0.0.1" not in json.dumps(health["dependencies"]["database"])
        assert one.ask_admin("/api/v1/instances").status == 503
        way.heal()
        eventually(lambda: not asked(one)["away"], "it beats again", within_s=10.0)


@pytest.mark.parametrize("fault", ["stall", "swallow_answers", "cut"])
def test_it_leaves_in_order_although_the_database_does_not_answer(
    together: Together, fault: str
) -> None:
    with passage(together.server.port) as way:
        one = together.start("one", port=way.port)
        leader(one)
        getattr(way, fault)()
        began = time.monotonic()
        one.signal(signal.SIGTERM)
        assert one.wait_exit(within_s=20.0) == 0
        assert time.monotonic() - began < 10.0


def test_readiness_includes_the_database_where_the_operator_says_so(together: Together) -> None:
    with passage(together.server.port) as way:
        one = together.start("one", port=way.port, database={"required": True})
        eventually(lambda: one.ask_admin("/health/ready").status == 200, "it is ready")
        way.cut()
        eventually(lambda: one.ask_admin("/health/ready").status == 503, "it is not", within_s=5.0)
        assert one.ask_admin("/health/live").status == 200
        assert runs(one, "file"), "and serves whoever comes all the same"
        way.heal()
        eventually(lambda: one.ask_admin("/health/ready").status == 200, "again", within_s=10.0)


def test_without_database_and_memory_it_does_not_start(together: Together) -> None:
    with passage(together.server.port) as way:
        way.cut()
        one = together.prepare("one", port=way.port, node={"startup_timeout": "2s"})
        one.expected_to_fail = True
        one.start(ready=False)
        assert one.wait_exit() == 1
        assert "startup gate 'database' stayed closed" in one.said()


def test_it_waits_for_a_database_that_comes_up_later(together: Together) -> None:
    with passage(together.server.port) as way:
        way.cut()
        one = together.prepare("one", port=way.port)
        one.start(ready=False)
        eventually(
            lambda: (
                Path(str(one.admin)).exists()
                and b"starting, waits for database" in one.ask_admin("/health").body
            ),
            "it says what it waits for",
        )
        way.heal()
        one.wait_note("READY=1")


def test_it_starts_from_what_it_ran_last_while_the_database_is_away_and_catches_up(
    together: Together, tmp_path: Path
) -> None:
    state = {"state_directory": str(tmp_path / "state")}
    with passage(together.server.port) as way:
        one = together.start("one", port=way.port, cluster=state)
        two = together.start("two")
        assert published(two, document("published"), tmp_path) == 0
        eventually(lambda: runs(one, "published"), "one runs it")
        one.signal(signal.SIGTERM)
        one.wait_exit()
        way.cut()
        again = together.start("one", port=way.port, cluster=state, joins=False)
        assert runs(again, "published")
        assert asked(again)["running"] == 1
        assert published(two, document("newer"), tmp_path) == 0
        assert runs(again, "published")
        way.heal()
        eventually(lambda: runs(again, "newer"), "it has caught up", within_s=15.0)
        eventually(lambda: "one" in listed(two), "and is on the list")


def test_a_damaged_memory_is_told_and_not_used(together: Together, tmp_path: Path) -> None:
    state = {"state_directory": str(tmp_path)}
    (tmp_path / "published-one.json").write_text(
        '{"number":3,"digest":"x","document":"routes: []"}'
    )
    with passage(together.server.port) as way:
        way.cut()
        one = together.prepare("one", port=way.port, cluster=state, node={"startup_timeout": "2s"})
        one.expected_to_fail = True
        one.start(ready=False)
        assert one.wait_exit() == 1
        assert "its digest is not that of what it holds" in one.said()

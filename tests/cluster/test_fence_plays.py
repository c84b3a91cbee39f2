"""Real processes, a real PostgreSQL, and the worst: stopped, killed, cut off, restarted.

What is looked at is what cannot be taken back: every guarded write is journalled by the database
itself, in the order in which it happened. Under a newer token nothing may follow of an older one.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import holder
from tests.cluster.house import opened
from tests.support.passage import Passage, passage
from tests.support.postgres import Postgres
from tests.support.waiting import Fact, Journal, eventually

ROOT = Path(__file__).resolve().parents[2]
TTL_S = 2.4
RETRY_S = 0.3
SLACK_S = 2.0  # of a busy machine

JOURNAL = """
CREATE TABLE loomproxy.effects (number bigserial, token bigint, owner text);
CREATE FUNCTION loomproxy.journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO loomproxy.effects (token, owner) VALUES
        (split_part(NEW.value, ' ', 2)::bigint, split_part(NEW.value, ' ', 1));
    RETURN NEW;
END $$;
CREATE TRIGGER journal AFTER INSERT OR UPDATE ON loomproxy.config_kv
    FOR EACH ROW WHEN (NEW.key = 'effect') EXECUTE FUNCTION loomproxy.journal();
"""


class Holder:
    """A running `tests.cluster.holder`; what it says is noted as it says it."""

    def __init__(self, dsn: str, name: str, *how: str) -> None:
        self.name = name
        self.facts = Journal()
        self.process = subprocess.Popen(
            (sys.executable, "-m", "tests.cluster.holder", dsn, name, str(TTL_S), *how),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, what: str, *, within_s: float = 20.0, **known: int) -> Fact:
        return self.facts.wait(what, within_s=within_s, **known)

    def token(self) -> int:
        """The token of the last time that it held the lease."""
        return int(self.facts.all("held")[-1].token)

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.process.pid, which)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                at, what, token = line.split()
                self.facts.note(what, token=int(token), said_at=float(at))


class Stage:
    """A database with a journal of effects, and who wants the lease."""

    def __init__(self, server: Postgres, database: str) -> None:
        self.server = server
        self.database = database
        self.holders: list[Holder] = []
        asyncio.run(self._prepare())
        server.sql(JOURNAL, database)

    def join(self, name: str, *how: str, through: Passage | None = None) -> Holder:
        port = None if through is None else through.port
        made = Holder(self.server.dsn(self.database, port=port), name, *how)
        self.holders.append(made)
        return made

    def effects(self) -> list[tuple[int, str]]:
        rows = self.server.sql(
            "SELECT token, owner FROM loomproxy.effects ORDER BY number", self.database
        )
        return [(int(token), owner) for token, owner in rows]

    def check(self) -> None:
        """No effect under an older token after one under a newer; one owner to a token."""
        effects = self.effects()
        tokens = [token for token, _ in effects]
        assert tokens == sorted(tokens), f"an effect came late: {_turns(effects)}"
        owners = dict(effects)
        assert all(owners[token] == owner for token, owner in effects), _turns(effects)

    def goes_on(self, after: int) -> None:
        """There are effects under a token that is newer than `after`."""
        eventually(
            lambda: (effects := self.effects()) and effects[-1][0] > after,
            f"effects under a newer token than {after}",
            within_s=20.0,
        )

    async def _prepare(self) -> None:
        from loomproxy.config.cluster import Database

        async with opened(Database(type="postgres", dsn=self.server.dsn(self.database))):
            pass


def _turns(effects: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Where it changed hands."""
    return [one for one, before in zip(effects, [None, *effects], strict=False) if one != before]


@pytest.fixture
def stage(own_server: Postgres) -> Iterator[Stage]:
    made = Stage(own_server, own_server.database())
    try:
        yield made
    finally:
        for one in made.holders:
            one.end()


def test_who_is_killed_is_replaced_within_its_time_to_live_and_a_retry(stage: Stage) -> None:
    first = stage.join("a")
    first.wait("wrote")
    second = stage.join("b")
    first.signal(signal.SIGKILL)
    first.process.wait()
    killed = stage.effects()[-1]
    taken = second.wait("held", within_s=TTL_S + RETRY_S + SLACK_S)
    assert taken.token == killed[0] + 1
    second.wait("wrote")
    stage.check()


def test_who_was_stopped_past_its_time_writes_nothing_when_it_goes_on(stage: Stage) -> None:
    first = stage.join("a", "stubborn")
    first.wait("wrote")
    old = first.token()
    second = stage.join("b")
    first.signal(signal.SIGSTOP)
    second.wait("wrote", within_s=TTL_S + RETRY_S + SLACK_S)
    first.signal(signal.SIGCONT)
    first.wait("ended", token=old)
    first.wait("fenced", token=old)
    before = len([1 for token, _ in stage.effects() if token == old])
    second.facts.wait("wrote", count=len(second.facts.all("wrote")) + 10)
    stage.check()
    assert len([1 for token, _ in stage.effects() if token == old]) == before


def test_the_check_notices_a_store_without_a_fence(stage: Stage) -> None:
    """The same play with the guard taken out: the journal shows it, so the play above can fail."""
    first = stage.join("a", "stubborn", "unguarded")
    first.wait("wrote")
    second = stage.join("b")
    first.signal(signal.SIGSTOP)
    second.wait("wrote", within_s=TTL_S + RETRY_S + SLACK_S)
    first.signal(signal.SIGCONT)
    first.facts.wait("wrote", count=len(first.facts.all("wrote")) + 5)
    with pytest.raises(AssertionError, match="came late"):
        eventually(stage.check, "a check that fails", within_s=5.0)


@pytest.mark.parametrize("fault", ["stall", "swallow_answers", "cut", "half_close", "reset"])
def test_who_is_cut_off_ends_its_work_before_another_begins(stage: Stage, fault: str) -> None:
    with passage(stage.server.port) as way:
        first = stage.join("a", through=way)
        first.wait("wrote")
        old = first.token()
        second = stage.join("b")
        getattr(way, fault)()
        if fault in ("half_close", "reset"):  # What a new connection mends is no reason to stop.
            count = len(first.facts.all("wrote"))
            first.facts.wait("wrote", count=count + 20, within_s=20.0)
            stage.check()
            assert first.token() == old, "a connection was lost, and the lease was not"
            return
        ended = first.wait("ended", token=old, within_s=TTL_S + SLACK_S)
        held = second.wait("held", within_s=TTL_S + RETRY_S + SLACK_S)
        assert ended.said_at < held.said_at, "both believed at once"
        second.wait("wrote")
        way.heal()
        second.signal(signal.SIGKILL)
        first.wait("held", token=held.token + 1, within_s=2 * TTL_S + SLACK_S)
        stage.goes_on(held.token)
        stage.check()


@pytest.mark.parametrize("fault", ["stall", "cut"])
def test_who_was_cut_off_and_goes_on_is_refused_by_the_fence(stage: Stage, fault: str) -> None:
    with passage(stage.server.port) as way:
        first = stage.join("a", "stubborn", through=way)
        first.wait("wrote")
        old = first.token()
        second = stage.join("b")
        getattr(way, fault)()
        second.wait("wrote", within_s=TTL_S + RETRY_S + SLACK_S)
        before = len([1 for token, _ in stage.effects() if token == old])
        way.heal()
        first.wait("fenced", token=old)
        second.facts.wait("wrote", count=len(second.facts.all("wrote")) + 10)
        stage.check()
        assert len([1 for token, _ in stage.effects() if token == old]) == before


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_database_that_comes_back_knows_who_holds_what(stage: Stage, how: str) -> None:
    first = stage.join("a")
    first.wait("wrote")
    second = stage.join("b")
    token = first.token()
    if how == "restart":
        stage.server.restart()
    else:
        stage.server.sql("CHECKPOINT")  # fsync is off: what it would have written is on disk
        stage.server.kill()
        stage.server.start()
    newest = max(
        token, *(fact.token for fact in (*first.facts.all("held"), *second.facts.all("held")))
    )
    count = len(first.facts.all("wrote")) + len(second.facts.all("wrote"))

    def wrote() -> bool:
        return len(first.facts.all("wrote")) + len(second.facts.all("wrote")) > count + 10

    eventually(wrote, f"effects after token {newest}", within_s=20.0)
    stage.check()


def test_what_holder_says_is_what_was_journalled(stage: Stage) -> None:
    first = stage.join("a")
    first.facts.wait("wrote", count=20)
    assert holder.KEY == "effect"
    eventually(lambda: len(stage.effects()) >= 20, "twenty effects")

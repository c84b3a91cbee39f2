"""Clients that are slow, silent or too many: what is counted, and under which name."""

import pytest

from tests.core.exchange.scenery import IDLE_S as BODY_IDLE_S
from tests.core.exchange.scenery import SEND_S
from tests.shell.fakes import Door
from tests.shell.stage import FIXED, GET, HEAD_S, IDLE_S, Stage, run, stage

POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\n"


def limits(it: Stage) -> dict[str, int]:
    """What was counted, by reason."""
    assert {listener for listener, _ in it.services.tally.limits} <= {it.door.listener.name}
    return {reason: times for (_, reason), times in it.services.tally.limits.items()}


@pytest.mark.parametrize(
    ("sent", "wait_s", "reason"),
    [
        (b"", HEAD_S, "client_silent"),
        (b"GET /x HT", HEAD_S, "client_head_timeout"),
        (FIXED, IDLE_S, "client_idle"),
        (FIXED + b"GET /x HT", HEAD_S, "client_head_timeout"),
        (b"hello\r\n\r\n", 0.0, "request_malformed"),
        (FIXED.replace(b"1.1", b"2.0"), 0.0, "version_unsupported"),
    ],
)
def test_what_ends_a_client_without_a_request_is_counted(
    sent: bytes, wait_s: float, reason: str
) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            if sent:
                client.send(sent)
            assert limits(it) == ({reason: 1} if not wait_s else {})
            await it.later(wait_s + 0.2)
            assert limits(it) == {reason: 1}

    run(play)


def test_clients_that_a_draining_worker_sends_away_met_no_limit() -> None:
    async def play() -> None:
        async with stage() as it:
            clients = [it.client(), it.client()]
            clients[0].send(FIXED)
            it.services.world.draining = True
            for client in clients:
                client.downstream.hurry()
            await it.later(2.0)
            assert all(client.transport.lost for client in clients)
            assert limits(it) == {}

    run(play)


def test_trickled_body_is_counted_as_slow_and_frees_its_upstream() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(POST + b"a")
            upstream = await it.accept()
            for _ in range(8):
                await it.later(BODY_IDLE_S / 4)
                if client.exchange is not None:
                    client.send(b"b")
            assert client.statuses() == [408]
            assert upstream.lost
            assert limits(it) == {"client_body_slow": 1}
            assert it.terminations == ["cH"]
            await it.later(10.0)

    run(play)


def test_answer_that_is_taken_byte_by_byte_is_counted_as_slow_and_cut() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            upstream = await it.accept()
            client.transport.kernel = 0
            upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 900)
            client.transport.take(1)
            await it.later(SEND_S + 0.2)
            assert client.transport.was_reset
            assert upstream.lost
            assert limits(it) == {"client_take_slow": 1}

    run(play)


def test_client_that_is_one_too_many_is_reset_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        async with stage() as it:
            monkeypatch.setattr(Door, "opened", lambda *_: False)
            monkeypatch.setattr(Door, "closed", lambda *_: None)
            client = it.client()
            assert client.transport.was_reset
            await it.turn()
            assert client.transport.lost
            assert len(it.services.wheel) == 0

    run(play)

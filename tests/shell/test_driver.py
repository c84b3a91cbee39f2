"""What an exchange asks for is done in order, and nothing is held when it is over."""

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from loomproxy.core.chat.dialect import OPENAI
from loomproxy.core.chat.talk import Talk
from loomproxy.core.endpoint import TlsSpec
from loomproxy.core.exchange import Exchange, Phase
from tests.shell.stage import FIXED, GET, OK, Client, Stage, run, stage

HOUSE = b"GET /health HTTP/1.1\r\nHost: a.example\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(size: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % size


def heard(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the client's exchange is told from now on, and after each the phase it is in."""
    events: list[str] = []
    handle = Exchange.handle

    def listening(self: Exchange, event: Any, now: Any) -> Any:
        commands = handle(self, event, now)
        if self is client.exchange:
            events.append(f"{type(event).__name__} {self.phase.name}")
        return commands

    monkeypatch.setattr(Exchange, "handle", listening)
    return events


async def exchange(it: Stage, client: Client, upstream: Any = None) -> Any:
    """One whole exchange; the upstream connection that carried it."""
    client.send(GET)
    if upstream is None:
        upstream = await it.accept()
    upstream.feed(OK)
    assert client.statuses() == [200]
    return upstream


# --- one turn -------------------------------------------------------------------------------------


def test_one_turn_is_one_write_for_each_side() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(post(4) + b"body")
            upstream = await it.accept()
            assert len(upstream.writes) == 1
            assert upstream.writes[0].endswith(b"\r\n\r\nbody")
            upstream.feed(CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
            assert len(client.transport.writes) == 1
            assert client.transport.writes[0].endswith(b"0\r\n\r\n")

    run(play)


def test_buffer_that_fills_within_a_write_is_told_after_what_was_being_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(post(8))
            upstream = await it.accept()
            events = heard(client, monkeypatch)
            upstream.kernel = 0
            client.send(b"abcd")
            assert events == ["RequestPart HEAD", "UpstreamFull HEAD"]
            assert not client.transport.reading
            upstream.take()
            assert events[2:] == ["UpstreamTaken HEAD"]
            assert client.transport.reading
            client.transport.kernel = 20
            client.send(b"efgh")
            upstream.feed(OK)
            assert events[3:] == [
                "RequestPart HEAD",
                "Response LAST",
                "DownstreamFull LAST",
            ]
            client.transport.take()
            assert client.exchange is None

    run(play)


def test_idle_connection_takes_the_request_within_the_turn_that_brought_it() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            upstream = await exchange(it, client)
            client.send(GET)
            assert client.exchange.phase is Phase.HEAD
            assert len(upstream.writes) == 2
            assert len(it.network.calls) == 1
            upstream.feed(OK)
            assert [outcome.reused for outcome in it.outcomes] == [False, True]

    run(play)


# --- opening --------------------------------------------------------------------------------------


def test_refused_connection_goes_elsewhere_and_then_to_the_client() -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            client = it.client()
            client.send(GET)
            (await it.call()).refuse()
            second = await it.call()
            assert second.place == ("10.0.0.2", 80)
            second.accept()
            await it.turn()
            second.transport.feed(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert client.statuses() == [200]
            client.send(GET)
            while client.exchange is not None:
                (await it.call()).refuse()
                await it.turn()
            assert client.statuses() == [502]
            assert it.terminations == ["--", "UC"]

    run(play)


def test_name_that_no_host_can_have_is_an_endpoint_that_failed() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            while client.exchange is not None:
                (await it.call()).refuse(UnicodeError("label too long"))
                await it.turn()
            assert client.statuses() == [502]

    run(play)


@pytest.mark.parametrize(
    "error", [ssl.SSLCertVerificationError(1, "expired"), ConnectionResetError()]
)
def test_endpoint_that_cannot_be_believed_goes_elsewhere_and_is_blamed(error: OSError) -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            it.pool.endpoints[0].tls = TlsSpec(verify=False)
            client = it.client()
            client.send(GET)
            call = await it.call()
            assert call.secured["server_hostname"] == "10.0.0.1"
            assert isinstance(call.secured["ssl"], ssl.SSLContext)
            call.refuse(error)
            second = await it.call()
            assert second.secured == {}
            upstream = second.accept()
            await it.turn()
            upstream.feed(OK)
            assert client.statuses() == [200]
            assert it.outcomes[-1].attempts == 2
            assert it.pool.endpoints[0].failed == 1

    run(play)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_endpoint_is_not_blamed_for_what_we_lack(number: int) -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            client = it.client()
            client.send(GET)
            (await it.call()).refuse(OSError(number, "none left"))
            await it.turn()
            assert client.statuses() == [503]
            assert it.terminations == ["RC"]
            assert len(it.network.calls) == 1
            assert [each.failures for each in it.pool.endpoints] == [0, 0]

    run(play)


def test_connect_timeout_gives_the_connection_up() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            calls = []
            for _ in range(3):
                calls.append(await it.call())
                await it.later(3.2)
            assert [call.cancelled for call in calls] == [True] * 3
            assert client.statuses() == [504]
            assert it.terminations == ["uC"]

    run(play)


def test_connection_that_comes_in_the_moment_it_is_given_up_is_closed() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(GET)
            call = await it.call()
            upstream = call.accept()  # its task has not heard of it
            client.transport.feed_eof()
            await it.turn()
            assert upstream.lost
            assert upstream.answers() == b""
            assert it.terminations == ["CC"]

    run(play)


@pytest.mark.parametrize("how", ["ends", "speaks", "breaks"])
def test_endpoint_that_closes_or_speaks_at_once_had_nothing_sent_to_it(how: str) -> None:
    async def play() -> None:
        async with stage(endpoints=2) as it:
            client = it.client()
            client.send(GET)
            upstream = (await it.call()).accept()
            if how == "ends":
                upstream.feed_eof()
            elif how == "speaks":
                upstream.feed(b"220 mail.example ESMTP\r\n")
            else:
                upstream.lose(ConnectionResetError())
            await it.turn()
            assert upstream.answers() == b""
            second = await it.accept()
            second.feed(OK)
            assert client.statuses() == [200]
            assert it.outcomes[0].attempts == 2

    run(play)


# --- the house ------------------------------------------------------------------------------------


def test_house_is_asked_and_its_answer_comes_once() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(HOUSE)
            (number, path), *rest = it.asked
            assert (path, rest) == (b"/health", [])
            asker = it.services.served(number)
            assert asker == (client.driver, client.exchange.ask)
            assert it.services.served(number) is None
            await it.later(8)
            assert client.statuses() == [503]
            assert it.terminations == ["iP"]

    run(play)


def test_late_answer_of_the_house_is_not_taken_for_the_next_one() -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            client.send(HOUSE)
            await it.later(8)
            assert client.statuses() == [503]
            client.send(HOUSE)
            first, second = (number for number, _ in it.asked)
            assert it.services.served(first) is None
            assert it.services.served(second) == (client.driver, client.exchange.ask)

    run(play)


def test_answer_for_a_client_that_left_finds_nobody() -> None:
    async def play() -> None:
        async with stage() as it:
            client, other = it.client(), it.client()
            client.send(HOUSE)
            other.send(HOUSE)
            client.transport.lose()
            await it.turn()
            assert it.services.served(1) is None
            assert it.services.served(2) is not None

    run(play)


# --- our own bugs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["asking", "connecting", "answering"])
def test_internal_error_cuts_one_client_and_nothing_else(
    when: str, monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    async def play() -> None:
        async with stage(in_flight_max=1) as it:
            broken, waiting = it.client(), it.client()
            step = {"asking": "RequestHead", "connecting": "Opened", "answering": "Response"}
            handle = Exchange.handle

            def stumbling(self: Exchange, event: Any, now: Any) -> Any:
                if self is broken.exchange and type(event).__name__ == step[when]:
                    raise ZeroDivisionError("a bug of ours")
                return handle(self, event, now)

            monkeypatch.setattr(Exchange, "handle", stumbling)
            broken.send(GET)
            waiting.send(GET)
            if when != "asking":
                upstream = await it.accept()
            if when == "answering":
                upstream.feed(OK)
            await it.turn()
            (line,) = said().splitlines()
            assert " level=error " in line
            assert "ZeroDivisionError: a bug of ours" in line
            assert broken.transport.was_reset
            if when != "asking":
                assert upstream.lost
            # Its slot went on to who waited for it.
            (await it.accept()).feed(OK)
            assert waiting.statuses() == [200]
            outcome = it.outcomes[0]
            assert outcome.fault == "internal_error"
            assert outcome.termination[0] == "I"
            assert outcome.ended_at >= outcome.begun_at > 0

    run(play)


def test_internal_error_in_a_chat_makes_room_for_others(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    async def play() -> None:
        async with stage() as it:

            def stumbling(self: Exchange, event: Any, _now: Any) -> Any:
                self.chat = Talk(OPENAI, streams=False)
                self.chat.held_bytes = 7
                self.world.chat_bytes += 7
                raise ZeroDivisionError("a bug of ours")

            monkeypatch.setattr(Exchange, "handle", stumbling)
            it.client().send(GET)
            await it.turn()
            assert "ZeroDivisionError" in said()
            assert not it.services.world.chat_bytes

    run(play)


def test_nothing_of_an_exchange_is_heard_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with stage() as it:
            client = it.client()
            upstream = await exchange(it, client)
            events = heard(client, monkeypatch)
            protocol = upstream.protocol
            protocol.pause_writing()
            protocol.resume_writing()
            client.downstream.pause_writing()
            client.downstream.resume_writing()
            assert events == []
            client.send(FIXED)
            assert client.statuses() == [200]

    run(play)


def test_opening_is_no_task_of_its_own_when_it_is_over() -> None:
    async def play() -> None:
        async with stage() as it:
            before = len(asyncio.all_tasks())
            client = it.client()
            for _ in range(3):
                client.send(GET)
                call = await it.call()
                if call.transport.protocol is None:
                    call.accept()
                    await it.turn()
                call.transport.feed(OK)
            client.send(GET)
            client.transport.lose()
            await it.turn()
            assert len(asyncio.all_tasks()) == before

    run(play)

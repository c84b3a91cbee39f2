"""After 101 both connections carry bytes that are not HTTP any more."""

import asyncio

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions

from tests.support.loom import pool, settings, to
from tests.support.origin import Scene, head
from tests.support.places import free_port
from tests.support.stage import Stage

ASK = {"Connection": "Upgrade", "Upgrade": "websocket"}
SWITCH = head(
    101, [("Connection", "Upgrade"), ("Upgrade", "websocket")], reason="Switching Protocols"
)

STAGE = {
    "routes": [{"name": "plain", "match": {"path_prefix": "/plain"}, "pool": "app", "upgrades": []}]
}


async def mirror(scene: Scene) -> None:
    """Switch, then send back whatever comes, until the other side says its last; then say ours."""
    await scene.send(SWITCH)
    while data := await scene.line.some():
        await scene.send(data)
    await scene.send(b"and out")
    scene.line.close()


def test_bytes_go_both_ways_after_the_switch(stage: Stage):
    stage.on(mirror)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        answer = caller.head()
        assert (answer.status, answer.field("upgrade"), answer.field("connection").lower()) == (
            101,
            "websocket",
            "upgrade",
        )
        for number in range(5):
            caller.send(b"\x00\xff%d" % number)
            assert caller.exactly(3) == b"\x00\xff%d" % number


def test_bytes_sent_with_the_question_reach_the_other_side(stage: Stage):
    """A client that does not wait for 101 before it speaks."""
    stage.on(mirror)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK).send(b"early bird")
        assert caller.head().status == 101
        assert caller.exactly(10) == b"early bird"


def test_bytes_that_come_with_the_switch_reach_the_client(stage: Stage):
    async def greet(scene: Scene) -> None:
        await scene.send(SWITCH + b"hello at once")
        await scene.left()
        scene.line.close()

    stage.on(greet)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        assert caller.head().status == 101
        assert caller.exactly(13) == b"hello at once"


def test_half_a_tunnel_may_close_while_the_other_half_goes_on(stage: Stage):
    stage.on(mirror)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        assert caller.head().status == 101
        caller.send(b"last words").finish()
        assert caller.rest() == (b"last wordsand out", "closed")
    written = stage.loom.line(stage.path)
    assert (written["status"], written["termination"]) == (101, "--")


def test_the_upstream_may_close_its_half_first(stage: Stage):
    async def speak_first(scene: Scene) -> None:
        await scene.send(SWITCH + b"all I have")
        scene.line.finish()
        heard = b""
        while data := await scene.line.some():
            heard += data
        scene.note("heard", data=heard)
        scene.line.close()

    stage.on(speak_first)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        assert caller.head().status == 101
        assert caller.rest() == (b"all I have", "closed")
        caller.send(b"and I still speak").finish()
        stage.origin.journal.wait("heard", path=stage.path, data=b"and I still speak")


def test_a_client_that_vanishes_takes_the_tunnel_with_it(stage: Stage):
    async def hold(scene: Scene) -> None:
        await scene.send(SWITCH)
        await scene.left()
        scene.line.close()

    stage.on(hold)
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        assert caller.head().status == 101
        line = stage.origin.journal.wait("request", path=stage.path).line
        caller.reset()
    stage.origin.journal.wait("left", line=line, within_s=1.0)


def test_a_large_stream_passes_a_tunnel_whole(stage: Stage):
    stage.on(mirror)
    data = bytes(range(256)) * 4096
    with stage.caller() as caller:
        caller.ask(stage.path, fields=ASK)
        assert caller.head().status == 101
        got = b""
        for at in range(0, len(data), 65536):
            caller.send(data[at : at + 65536])
            got += caller.exactly(65536)
    assert got == data


def test_an_upstream_that_declines_to_switch_answers_as_ever(stage: Stage):
    async def decline(scene: Scene) -> None:
        await scene.reply(426, b"not here")

    stage.on(decline)
    with stage.caller() as caller:
        assert caller.get(stage.path, fields=ASK).status == 426
        assert caller.get("/again").status == 200


def test_an_upgrade_that_the_route_does_not_allow_is_not_passed_on(stage: Stage):
    seen = stage.loom.ask("/plain/x", fields=ASK).json()
    assert not {"upgrade", "connection"} & {name for name, _ in seen["fields"]}
    seen = stage.loom.ask(
        "/h2", fields={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    ).json()
    assert not {"upgrade", "http2-settings"} & {name for name, _ in seen["fields"]}


def test_a_switch_that_nobody_asked_for_is_a_502(stage: Stage):
    async def switch(scene: Scene) -> None:
        await scene.send(SWITCH)
        await scene.left()
        scene.line.close()

    assert stage.ask(switch).status == 502


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_websocket_client_and_server_talk_through_us(proxies, compression):
    port = free_port()
    loom = proxies.start(
        settings(pools={"app": pool(f"http://127.0.0.1:{port}")}, routes=[to("app")])
    )

    async def reply(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message[::-1])
        await connection.close(1000)

    async def play() -> list[object]:
        async with (
            websockets.asyncio.server.serve(
                reply, "127.0.0.1", port, compression=compression, max_size=1 << 22
            ),
            websockets.asyncio.client.connect(
                loom.url("/chat").replace("http", "ws"),
                compression=compression,
                max_size=1 << 22,
                proxy=None,
            ) as client,
        ):
            answers: list[object] = []
            for message in ("hello", b"\x00\x01\x02", "ü" * 1000, b"z" * (1 << 20)):
                await client.send(message)
                answers.append(await client.recv() == message[::-1])
            await (await client.ping())
            await client.close(4000, "enough")
            return [*answers, client.close_code]

    async def within() -> list[object]:
        async with asyncio.timeout(20):
            return await play()

    assert asyncio.run(within()) == [True, True, True, True, 4000]
    assert loom.line("/chat")["termination"] == "--"

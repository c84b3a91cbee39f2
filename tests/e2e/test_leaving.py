"""Somebody leaves in the middle: the other side learns it, and nobody takes half for whole."""

import pytest

from tests.support.origin import Scene, chunk, head
from tests.support.places import free_port, silent_place
from tests.support.stage import Stage

WITHIN_S = 1.0
"""How soon an upstream must learn that its client has left."""

CHUNKED = [("Transfer-Encoding", "chunked")]


async def never(scene: Scene) -> None:
    """Take the request and say nothing."""
    await scene.cue("never")


async def begin(scene: Scene) -> None:
    """Begin an answer and never end it."""
    await scene.send(head(200, CHUNKED) + chunk(b"begun"))
    await scene.cue("never")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_leaves_while_the_upstream_thinks(stage: Stage, how: str):
    stage.on(never)
    with stage.caller() as caller:
        caller.ask(stage.path)
        line = stage.origin.journal.wait("request", path=stage.path).line
        getattr(caller, how)()
        stage.origin.journal.wait("left", line=line, within_s=WITHIN_S)
    written = stage.loom.line(stage.path)
    assert (written["status"], written["termination"], written["fault"]) == (0, "CH", "client_left")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_leaves_in_the_middle_of_its_answer(stage: Stage, how: str):
    stage.on(begin)
    with stage.caller() as caller:
        caller.ask(stage.path)
        assert caller.head().status == 200
        assert caller.chunk() == b"begun"
        line = stage.origin.journal.wait("request", path=stage.path).line
        getattr(caller, how)()
        stage.origin.journal.wait("left", line=line, within_s=WITHIN_S)
    assert stage.loom.line(stage.path)["termination"] == "CD"


def test_client_leaves_in_the_middle_of_its_upload(stage: Stage):
    async def hear(scene: Scene) -> None:
        await scene.body()

    stage.on(hear)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", {"Content-Length": "1000"}).send(b"some")
        line = stage.origin.journal.wait("request", path=stage.path).line
        caller.close()
        stage.origin.journal.wait("left", line=line, within_s=WITHIN_S)
    assert not stage.origin.journal.all("body", path=stage.path), (
        "half an upload is not a whole one"
    )
    assert stage.loom.line(stage.path)["termination"] == "CH"


def test_client_leaves_while_we_connect(proxies):
    from tests.support.loom import pool, settings, to

    with silent_place() as port:
        loom = proxies.start(
            settings(
                pools={"app": pool(f"http://127.0.0.1:{port}")},
                routes=[to("app", timeouts={"connect": "30s"})],
            )
        )
        with loom.caller() as caller:
            caller.ask("/x")
            loom_is_busy(loom)
            caller.close()
        assert loom.line("/x")["termination"] == "CC"


def loom_is_busy(loom) -> None:
    """Wait until one exchange is in flight."""
    from tests.support.waiting import eventually

    eventually(lambda: loom.metric("loomproxy_in_flight") >= 1, "an exchange in flight")


def test_a_client_that_finishes_sending_is_taken_for_gone(stage: Stage):
    """The default for half-closed clients: `client_half_close: abort`."""
    stage.on(never)
    with stage.caller() as caller:
        caller.ask(stage.path)
        line = stage.origin.journal.wait("request", path=stage.path).line
        caller.finish()
        stage.origin.journal.wait("left", line=line, within_s=WITHIN_S)
        assert caller.rest()[0] == b""


def test_a_client_that_finishes_sending_is_served_where_that_is_configured(proxies, origin):
    from tests.support.loom import pool, settings, to

    async def wait(scene: Scene) -> None:
        await scene.cue("finished")
        await scene.reply(200, b"still served")

    loom = proxies.start(
        settings(
            listeners=[{"name": "http", "client_half_close": "serve"}],
            pools={"app": pool(origin.url)},
            routes=[to("app")],
        )
    )
    origin.on("/half", wait)
    with loom.caller() as caller:
        caller.ask("/half").finish()
        origin.journal.wait("request", path="/half")
        origin.give("finished")
        assert caller.response().body == b"still served"
        assert caller.rest() == (b"", "closed")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_upstream_dies_in_the_middle_and_the_client_can_tell(stage: Stage, framing: str, how: str):
    async def die(scene: Scene) -> None:
        if framing == "length":
            await scene.send(head(200, [("Content-Length", "100")]) + b"half")
        else:
            await scene.send(head(200, CHUNKED) + chunk(b"half"))
        await scene.cue(f"die {scene.path}")
        getattr(scene.line, how)()

    stage.on(die)
    with stage.caller() as caller:
        caller.ask(stage.path)
        stage.origin.journal.wait("request", path=stage.path)
        stage.origin.give(f"die {stage.path}")
        response = caller.response()
    assert (response.status, response.body, response.complete) == (200, b"half", False)
    written = stage.loom.line(stage.path)
    assert (written["status"], written["termination"], written["fault"]) == (
        200,
        "UD",
        "upstream_cut",
    )


def test_upstream_resets_an_answer_that_ends_by_closing_and_the_client_can_tell(stage: Stage):
    async def die(scene: Scene) -> None:
        await scene.send(head(200) + b"half")
        await scene.cue("half seen")
        scene.line.reset()

    stage.on(die)
    with stage.caller() as caller:
        caller.ask(stage.path)
        answer = caller.head()
        assert answer.field("transfer-encoding") == "chunked", (
            "only chunks let a client tell the end"
        )
        assert caller.chunk() == b"half"
        stage.origin.give("half seen")
        rest, _ = caller.rest()
        assert rest == b"", "no last chunk after a reset"


def test_an_old_client_can_tell_too_when_its_answer_is_cut(stage: Stage):
    async def die(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED) + chunk(b"half"))
        await scene.cue("old half seen")
        scene.line.reset()

    stage.on(die)
    with stage.caller() as caller:
        caller.send(f"GET {stage.path} HTTP/1.0\r\n\r\n".encode())
        assert caller.head().status == 200
        assert caller.exactly(4) == b"half"
        stage.origin.give("old half seen")
        assert caller.rest() == (b"", "reset"), "the end of the connection is all that HTTP/1.0 has"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_upstream_leaves_before_it_answers(stage: Stage, how: str):
    async def leave(scene: Scene) -> None:
        getattr(scene.line, how)()

    response = stage.ask(leave, "POST", body=b"x")
    assert response.status == 502
    assert stage.loom.line(stage.path)["termination"] == "UH"


def test_upstream_leaves_in_the_middle_of_its_head(stage: Stage):
    async def leave(scene: Scene) -> None:
        await scene.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        scene.line.close()

    assert stage.ask(leave, "POST", body=b"x").status == 502


def test_upstream_talks_nonsense(stage: Stage):
    async def nonsense(scene: Scene) -> None:
        await scene.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await scene.left()

    response = stage.ask(nonsense)
    assert response.status == 502
    assert stage.loom.line(stage.path)["fault"] == "upstream_malformed"


def test_upstream_breaks_its_own_chunks(stage: Stage):
    async def nonsense(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED) + chunk(b"fine") + b"zz\r\n")
        await scene.left()

    response = stage.ask(nonsense)
    assert (response.status, response.body, response.complete) == (200, b"fine", False)


def test_a_refused_connection_is_a_502_without_inside_information(proxies):
    from tests.support.loom import pool, settings, to

    port = free_port()
    loom = proxies.start(
        settings(pools={"app": pool(f"http://127.0.0.1:{port}")}, routes=[to("app")])
    )
    response = loom.ask("/x")
    assert response.status == 502
    text = (response.head.raw + response.body).decode()
    assert str(port) not in text
    assert "refused" not in text.lower()
    assert "traceback" not in text.lower()
    assert response.head.field("x-request-id") in response.body.decode()
    written = loom.line("/x")
    assert (written["termination"], written["fault"]) == ("UC", "connect_failed")
    answer = loom.ask("/x", fields={"Accept": "application/json"})
    assert answer.head.field("content-type").startswith("application/json")
    assert answer.json()


def test_a_dead_endpoint_beside_a_living_one_is_not_noticed(proxies, origin):
    from tests.support.loom import pool, settings, to

    dead = f"http://127.0.0.1:{free_port()}"
    loom = proxies.start(settings(pools={"app": pool(dead, origin.url)}, routes=[to("app")]))
    assert [loom.ask("/x", "POST", body=b"b").status for _ in range(10)] == [200] * 10
    assert any(line["attempts"] == 2 for line in loom.lines()) or loom.line("/x", count=10)

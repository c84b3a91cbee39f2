"""Bodies pass as they come: events, chunks, trailers, interim answers, early answers."""

import httpx

from tests.support.caller import request
from tests.support.origin import Scene, chunk, head
from tests.support.stage import Stage

CHUNKED = [("Transfer-Encoding", "chunked")]


def test_events_arrive_one_by_one(stage: Stage):
    """Each is sent only once the client has the one before: one held back would hang the play."""

    async def events(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Type", "text/event-stream"), *CHUNKED]))
        for number in range(5):
            await scene.cue(f"event {number}")
            await scene.send(chunk(b"data: %d\n\n" % number))
        await scene.send(b"0\r\n\r\n")

    stage.on(events)
    with (
        httpx.Client(trust_env=False, timeout=10) as client,
        client.stream("GET", stage.loom.url(stage.path)) as answer,
    ):
        stage.origin.give("event 0")
        for number, text in enumerate(answer.iter_text()):
            assert text == f"data: {number}\n\n"
            stage.origin.give(f"event {number + 1}")
    assert number == 4


def test_a_close_delimited_answer_streams_and_ends(stage: Stage):
    async def dribble(scene: Scene) -> None:
        await scene.send(head(200, [("Connection", "close")]))
        for number in range(3):
            await scene.send(b"%d" % number)
            await scene.cue(f"dribble {number}")
        scene.line.close()

    stage.on(dribble)
    with stage.caller() as caller:
        caller.ask(stage.path)
        answer = caller.head()
        assert answer.field("content-length") is None
        got = b""
        for number in range(3):
            got += caller.chunk() if answer.field("transfer-encoding") else caller.exactly(1)
            assert got == b"012"[: number + 1]
            stage.origin.give(f"dribble {number}")


def test_a_chunked_upload_reaches_the_upstream_part_by_part(stage: Stage):
    async def hear(scene: Scene) -> None:
        async for part in scene.parts():
            scene.note("part", data=part)
        await scene.reply(200, ",".join(scene.trailers).encode())

    stage.on(hear)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", [*CHUNKED, ("Trailer", "X-Sum")])
        for number in range(3):
            caller.send(chunk(b"part %d" % number))
            stage.origin.journal.wait("part", path=stage.path, data=b"part %d" % number)
        caller.send(b"0\r\nX-Sum: 3\r\n\r\n")
        assert caller.response().body == b"X-Sum: 3"


def test_trailers_come_down(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.send(head(200, [*CHUNKED, ("Trailer", "X-Sum")]) + chunk(b"abc"))
        await scene.send(b"0\r\nX-Sum: 3\r\nContent-Length: 9\r\n\r\n")

    response = stage.ask(answer, fields={"TE": "trailers", "Connection": "TE"})
    assert response.body == b"abc"
    assert response.trailers == [("x-sum", "3")], "a trailer that would frame is not passed on"


def test_expect_continue_is_answered_before_the_body_is_sent(stage: Stage):
    async def wait(scene: Scene) -> None:
        await scene.send(head(100, reason="Continue"))
        await scene.reply(200, await scene.body())

    stage.on(wait)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", [("Expect", "100-continue"), ("Content-Length", "4")])
        assert caller.head().status == 100
        caller.send(b"body")
        response = caller.response()
    assert (response.status, response.body) == (200, b"body")
    assert all(interim.status == 100 for interim in response.interims)


def test_a_refused_expectation_spares_the_client_its_body(stage: Stage):
    async def refuse(scene: Scene) -> None:
        await scene.reply(413, b"too much")
        scene.line.close()

    stage.on(refuse)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", [("Expect", "100-continue"), ("Content-Length", "4000000")])
        response = caller.response()
        assert (response.status, response.body) == (413, b"too much")
        assert response.head.field("connection") == "close", "the body was never sent"


def test_an_early_answer_arrives_while_the_client_still_sends(stage: Stage):
    async def early(scene: Scene) -> None:
        await scene.line.exactly(10)
        await scene.reply(403, b"no need for the rest", [("Connection", "close")])
        scene.line.close()

    stage.on(early)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", [("Content-Length", "1000000")]).send(b"x" * 1000)
        response = caller.response()
    assert (response.status, response.body) == (403, b"no need for the rest")


def test_an_early_answer_to_an_upload_that_goes_on_is_whole(stage: Stage):
    """The upstream answers at once and reads on; both halves end in order."""

    async def early(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED) + chunk(b"first "))
        body = await scene.body()
        await scene.send(chunk(b"then %d" % len(body)) + b"0\r\n\r\n")

    stage.on(early)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", [("Content-Length", "200000")]).send(b"x" * 100_000)
        answer = caller.head()
        assert (answer.status, caller.chunk()) == (200, b"first ")
        caller.send(b"x" * 100_000)
        assert caller.chunk() == b"then 200000"


def test_early_hints_come_before_the_answer(stage: Stage):
    async def hints(scene: Scene) -> None:
        await scene.send(head(103, [("Link", "</a.css>; rel=preload")], reason="Early Hints"))
        await scene.cue("hints seen")
        await scene.reply(200, b"page")

    stage.on(hints)
    with stage.caller() as caller:
        caller.ask(stage.path)
        interim = caller.head()
        assert (interim.status, interim.field("link")) == (103, "</a.css>; rel=preload")
        stage.origin.give("hints seen")
        assert caller.response().body == b"page"


def test_an_old_client_is_spared_interim_answers(stage: Stage):
    async def hints(scene: Scene) -> None:
        await scene.send(head(103, [("Link", "</a.css>")]))
        await scene.reply(200, b"page")

    stage.on(hints)
    with stage.caller() as caller:
        caller.send(f"GET {stage.path} HTTP/1.0\r\n\r\n".encode())
        response = caller.response()
    assert (response.status, response.interims, response.body) == (200, [], b"page")


def test_a_large_body_goes_both_ways_at_once(stage: Stage):
    """An upstream that answers while it reads: neither direction may wait for the other."""

    async def mirror(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED))
        async for part in scene.parts():
            await scene.send(chunk(part))
        await scene.send(b"0\r\n\r\n")

    stage.on(mirror)
    part = b"m" * 65536
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", CHUNKED)
        caller.send(chunk(part))
        assert caller.head().status == 200
        got = len(caller.chunk())
        for _ in range(64):
            caller.send(chunk(part))
            while got % len(part):
                got += len(caller.chunk())
        caller.send(b"0\r\n\r\n")
        while data := caller.chunk():
            got += len(data)
    assert got == 65 * len(part)


def test_a_chunked_answer_in_tiny_chunks_is_the_same_body(stage: Stage):
    body = b"".join(b"%05d" % number for number in range(2000))

    async def tiny(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED))
        for at in range(0, len(body), 5):
            await scene.send(chunk(body[at : at + 5]))
        await scene.send(b"0\r\n\r\n")

    response = stage.ask(tiny)
    assert (response.body, response.complete) == (body, True)


def test_the_connection_serves_on_after_every_kind_of_body(stage: Stage):
    async def chunked(scene: Scene) -> None:
        await scene.body()
        await scene.send(head(200, CHUNKED) + chunk(b"abc") + b"0\r\n\r\n")

    async def empty(scene: Scene) -> None:
        await scene.send(head(200, CHUNKED) + b"0\r\n\r\n")

    stage.on(chunked)
    stage.origin.on("/empty-chunked", empty)
    with stage.caller() as caller:
        for _ in range(3):
            assert caller.get(stage.path, "POST", body=b"q").body == b"abc"
            caller.ask(stage.path, "POST", CHUNKED).send(chunk(b"xy") + b"0\r\n\r\n")
            assert caller.response().body == b"abc"
            assert caller.get("/empty-chunked").body == b""
            assert caller.send(request("/plain")).response().json()["target"] == "/plain"

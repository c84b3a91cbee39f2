"""The stage itself: what the origin plays is what the caller tells, with nobody between them."""

import pytest

from tests.support.caller import Caller, ask
from tests.support.load import Load
from tests.support.origin import Origin, Scene, chunk, head


@pytest.fixture
def address():
    with Origin() as origin:
        yield origin, ("127.0.0.1", origin.port)
        assert not origin.failures


def test_an_unclaimed_path_echoes_what_was_received(address):
    seen = ask(address[1], "/x?y=1", "POST", body=b"hello", fields={"X-One": "1"}).json()
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/x?y=1", "hello")
    assert ["x-one", "1"] in seen["fields"]


def test_a_body_that_is_cut_is_told_apart_from_a_whole_one(address):
    origin, at = address

    async def cut(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Length", "10")]) + b"half")
        scene.line.close()

    async def cut_chunked(scene: Scene) -> None:
        await scene.send(head(200, [("Transfer-Encoding", "chunked")]) + chunk(b"half"))
        scene.line.reset()

    origin.on("/cut", cut)
    origin.on("/cut-chunked", cut_chunked)
    assert not ask(at, "/cut").complete
    response = ask(at, "/cut-chunked")
    assert (response.body, response.complete, response.ending) == (b"half", False, "reset")


def test_chunks_and_trailers_travel_both_ways(address):
    origin, at = address

    async def mirror(scene: Scene) -> None:
        body = await scene.body()
        await scene.send(head(200, [("Transfer-Encoding", "chunked")]))
        await scene.send(chunk(body) + b"0\r\nX-Saw: %b\r\n\r\n" % scene.trailers[0].encode())

    origin.on("/mirror", mirror)
    with Caller(at) as caller:
        caller.ask("/mirror", "POST", {"Transfer-Encoding": "chunked"})
        response = caller.send(chunk(b"abc") + chunk(b"de") + b"0\r\nX-Sum: 5\r\n\r\n").response()
    assert (response.body, response.trailers) == (b"abcde", [("x-saw", "X-Sum: 5")])


def test_a_caller_that_leaves_is_noticed_while_the_origin_waits(address):
    origin, at = address

    async def wait(scene: Scene) -> None:
        await scene.cue("never")

    origin.on("/wait", wait)
    with Caller(at) as caller:
        caller.ask("/wait")
        line = origin.journal.wait("request", path="/wait").line
    assert origin.journal.wait("left", line=line, within_s=1.0)["how"] == "closed"


def test_a_cue_lets_the_scene_go_on(address):
    origin, at = address

    async def wait(scene: Scene) -> None:
        await scene.cue("go")
        await scene.reply(200, b"went")

    origin.on("/wait", wait)
    with Caller(at) as caller:
        caller.ask("/wait")
        origin.give("go")
        assert caller.response().body == b"went"


def test_a_closed_origin_refuses_and_opens_again_at_the_same_place(address):
    origin, at = address
    origin.close()
    with pytest.raises(ConnectionRefusedError):
        ask(at)
    origin.open()
    assert ask(at).status == 200


def test_a_load_counts_what_was_answered(address):
    with Load(address[1], callers=2) as load:
        load.wait_answered(20)
        score = load.finish()
    assert (score.failed, score.raced, score.turned_away) == ([], 0, 0)

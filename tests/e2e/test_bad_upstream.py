"""A bad upstream harms the one exchange it answers: the next client gets its own answer.

The origin sends raw bytes. Whatever it says too much, too little or too often, its connection
carries no other exchange, and what a client is told is never longer than what it asked for.
"""

import pytest

from tests.support.origin import Scene, head
from tests.support.stage import Stage
from tests.support.waiting import WITHIN_S

EVIL = head(200, [("Content-Length", "4"), ("Set-Cookie", "evil=1")]) + b"evil"
CHUNKED = head(200, [("Transfer-Encoding", "chunked")])
TWO = [("Content-Length", "2")]

TOO_MUCH = {
    "another response": ("GET", 200, b"ab", head(200, TWO) + b"ab" + EVIL),
    "one byte": ("GET", 200, b"ab", head(200, TWO) + b"abc"),
    "a response after the last chunk": (
        "GET",
        200,
        b"ab",
        CHUNKED + b"2\r\nab\r\n0\r\n\r\n" + EVIL,
    ),
    "a response after trailers": ("GET", 200, b"", CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n" + EVIL),
    "a body after HEAD": ("HEAD", 200, b"", head(200, [("Content-Length", "99")]) + EVIL),
    "a body after 204": ("GET", 204, b"", head(204) + EVIL),
    "a body after 304": ("GET", 304, b"", head(304, [("Content-Length", "99")]) + EVIL),
    "an interim response after the final one": (
        "GET",
        200,
        b"ab",
        head(200, TWO) + b"ab" + head(103),
    ),
}

MALFORMED = {
    "length and chunks": head(200, [*TWO, ("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n",
    "two lengths": head(200, [*TWO, ("Content-Length", "3")]) + b"abc",
    "a length with a plus": head(200, [("Content-Length", "+2")]) + b"ab",
    "an unknown coding": head(200, [("Transfer-Encoding", "gzip, chunked")]) + b"0\r\n\r\n",
    "a line break in a value": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: evil=1\r\n\r\n",
    "a carriage return in a value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil=1\r\n\r\n",
    "NUL in a value": head(200, [("X", "a\0b"), *TWO]) + b"ab",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\n\r\nab",
    "too many fields": head(200, [(f"X-{number}", "a") for number in range(300)]),
    "a field that is too large": head(200, [("X", "a" * 70_000)]),
    "a head that never ends": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    "an interim response with a body": head(103, TWO) + b"ab" + head(200, TWO) + b"ab",
    "interim responses without end": head(103, [("Link", "</a>")]) * 20,
    "a switch that nobody asked for": head(101, [("Connection", "upgrade"), ("Upgrade", "x")]),
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
}

TOO_LITTLE = {
    "of its length": head(200, [("Content-Length", "5")]) + b"ab",
    "of a chunk": CHUNKED + b"5\r\nab",
    "before the last chunk": CHUNKED + b"2\r\nab\r\n",
    "in the trailers": CHUNKED + b"2\r\nab\r\n0\r\nX: y\r\n",
}


def assert_the_next_client_is_served(stage: Stage, line: int) -> None:
    """The bad connection ends, and who asks next gets an answer of its own on another."""
    stage.origin.journal.wait("left", line=line, within_s=WITHIN_S)
    answer = stage.loom.ask("/next")
    assert answer.head.field("set-cookie") is None
    assert answer.json()["target"] == "/next"
    assert answer.json()["line"] != line


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_follows_an_answer_reaches_nobody(stage: Stage, name: str):
    method, status, body, said = TOO_MUCH[name]

    async def answer(scene: Scene) -> None:
        await scene.send(said)

    with stage.caller() as caller:
        stage.on(answer)
        got = caller.get(stage.path, method)
        assert (got.status, got.body, got.complete) == (status, body, True)
        line = stage.origin.journal.wait("request", path=stage.path).line
        assert_the_next_client_is_served(stage, line)
        assert caller.get("/same-client").json()["target"] == "/same-client"


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_answer_is_a_502_and_ends_its_connection(stage: Stage, name: str):
    async def answer(scene: Scene) -> None:
        await scene.send(MALFORMED[name])

    got = stage.ask(answer)
    assert got.status == 502
    assert b"evil" not in got.head.raw + got.body
    line = stage.origin.journal.wait("request", path=stage.path).line
    assert_the_next_client_is_served(stage, line)
    assert stage.loom.line(stage.path)["fault"] == "upstream_malformed"


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_an_answer_that_ends_too_early_is_never_taken_for_complete(stage: Stage, name: str):
    async def answer(scene: Scene) -> None:
        await scene.send(TOO_LITTLE[name])
        scene.line.close()

    got = stage.ask(answer)
    assert (got.status, got.complete, got.ending) == (200, False, "reset")
    line = stage.origin.journal.wait("request", path=stage.path).line
    assert_the_next_client_is_served(stage, line)


def test_what_comes_while_nobody_asks_ends_the_connection(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.reply(200, b"ab")
        await scene.cue("late bytes")
        await scene.send(EVIL)

    assert stage.ask(answer).body == b"ab"
    line = stage.origin.journal.wait("request", path=stage.path).line
    stage.origin.give("late bytes")
    assert_the_next_client_is_served(stage, line)


def test_a_204_that_announces_a_body_is_not_waited_for_and_not_reused(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.send(head(204, TWO))
        await scene.left()
        scene.note("left alone")

    got = stage.ask(answer)
    assert (got.status, got.head.field("content-length")) == (204, None)
    line = stage.origin.journal.wait("left alone", path=stage.path).line
    assert_the_next_client_is_served(stage, line)


def test_an_early_answer_to_a_request_still_under_way_ends_both_connections(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.reply(200, b"ab")
        await scene.left()

    stage.on(answer)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", {"Content-Length": "100"}).send(b"some")
        got = caller.response()
        assert (got.body, got.head.field("connection")) == (b"ab", "close")
    line = stage.origin.journal.wait("request", path=stage.path).line
    assert_the_next_client_is_served(stage, line)

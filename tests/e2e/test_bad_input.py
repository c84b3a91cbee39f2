"""What a proxy must refuse: each ends in an answer and a close, and the next client is served."""

import pytest

from tests.support.origin import Scene, chunk, head
from tests.support.stage import Stage

HOST = b"Host: a.example\r\n"

STAGE = {
    "limits": {
        "head_bytes_max": "8KiB",
        "target_bytes_max": "2KiB",
        "fields_max": 50,
        "body_bytes_max": "100KiB",
    },
    "routes": [
        {"match": {"path_prefix": "/admin"}, "respond": {"status": 403}},
        {"match": {"path_prefix": "/fixed"}, "respond": {"body": "fixed"}},
    ],
}

REFUSED = {
    "no request line": (b"hello\r\n\r\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "length and chunks": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "negative length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "length with a plus": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "coding hidden by a tab": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n",
        501,
    ),
    "chunks on HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: b.example\r\n\r\n", 400),
    "host with a slash": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n", 400),
    "folded field": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n\r\n", 400),
    "bare line feed": (b"GET / HTTP/1.1\n" + HOST + b"\n\n", 400),
    "bare carriage return": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\rc\r\n\r\n", 400),
    "zero byte": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\x00c\r\n\r\n", 400),
    "shadowing name": (b"POST / HTTP/1.1\r\n" + HOST + b"Content_Length: 5\r\n\r\n", 400),
    "absolute form for another host": (b"GET http://b.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "dot segments": (b"GET /a/../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "encoded dot segments": (b"GET /a/%2e%2E/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "connect": (b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "trace": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "chunks twice": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        501,
    ),
    "length of many digits": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551617\r\n\r\n",
        413,
    ),
    "connection names host": (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Host\r\n\r\n", 400),
    "connection names identity": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close, X-Forwarded-For\r\n\r\n",
        400,
    ),
    "hops that are no number": (
        b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: x\r\n\r\n",
        400,
    ),
    "shadowing path": (b"GET / HTTP/1.1\r\n" + HOST + b"X_Original_URL: /admin\r\n\r\n", 400),
    "another version": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "target too long": (b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "head too large": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 10_000 + b"\r\n\r\n", 431),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 60 + b"\r\n", 431),
    "body too large": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 200000\r\n\r\n", 413),
    "unknown expectation": (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 200-maybe\r\n\r\n", 417),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 100, 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_never_reaches_the_upstream(stage: Stage, name: str):
    data, status = REFUSED[name]
    seen = len(stage.origin.journal.all("request"))
    with stage.caller() as caller:
        caller.send(data)
        response = caller.response()
        assert response.status == status, response.body
        assert response.head.field("connection") == "close"
        assert b"Traceback" not in response.body
        assert caller.rest() == (b"", "closed"), (
            "nothing behind a refused request is read as another"
        )
    # What a play before this one sent last may arrive only now; it has a path of its own.
    arrived = stage.origin.journal.all("request")[seen:]
    assert [fact.path for fact in arrived if not fact.path.startswith("/test-")] == []
    assert stage.ask().status == 200


BROKEN_BODIES = {
    "size that is no number": b"xyz\r\n",
    "size too long": b"0" * 5000 + b"1\r\n",
    "no line end behind the data": b"3\r\nabcX",
    "bare line feed behind the size": b"3\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n",
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_broken_chunk_ends_the_connection_on_both_sides(stage: Stage, name: str):
    async def hear(scene: Scene) -> None:
        await scene.body()
        await scene.reply(200, b"whole")

    stage.on(hear)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", {"Transfer-Encoding": "chunked"}).send(b"2\r\nok\r\n")
        line = stage.origin.journal.wait("request", path=stage.path).line
        caller.send(BROKEN_BODIES[name])
        response = caller.response()
        assert response.status == 400
        assert caller.rest() == (b"", "closed")
    stage.origin.journal.wait("left", line=line, within_s=1.0)
    assert not stage.origin.journal.all("body", path=stage.path)


def test_a_chunked_body_beyond_the_limit_is_a_413(stage: Stage):
    async def hear(scene: Scene) -> None:
        await scene.body()

    stage.on(hear)
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", {"Transfer-Encoding": "chunked"})
        for _ in range(4):
            caller.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert caller.response().status == 413


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_answer_may_be_larger_than_any_request(stage: Stage, framing: str):
    body = b"x" * 300_000

    async def answer(scene: Scene) -> None:
        if framing == "length":
            await scene.reply(200, body)
        elif framing == "chunked":
            fields = [("Transfer-Encoding", "chunked")]
            await scene.send(head(200, fields) + chunk(body) + b"0\r\n\r\n")
        else:
            await scene.send(head(200) + body)
            scene.line.close()

    response = stage.ask(answer)
    assert (response.status, len(response.body), response.complete) == (200, len(body), True)


def test_a_smuggled_request_is_not_served(stage: Stage):
    """A request behind a body of which two parsers could disagree about the end."""
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    for start in (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0, 5\r\n\r\n",
    ):
        with stage.caller() as caller:
            caller.send(start + smuggled)
            assert caller.response().status in {400, 501}
            assert caller.rest() == (b"", "closed")
    assert not stage.origin.journal.all("request", path="/smuggled")


def test_blank_lines_before_a_request_are_forgiven(stage: Stage):
    with stage.caller() as caller:
        caller.send(b"\r\n\r\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert caller.response().status == 200


def test_a_request_without_a_route_is_a_404(proxies):
    from tests.support.loom import settings

    loom = proxies.start(
        settings(routes=[{"match": {"path": "/only"}, "respond": {"body": "here"}}])
    )
    assert loom.ask("/only").body == b"here"
    response = loom.ask("/other")
    assert response.status == 404
    assert loom.line("/other")["fault"] == "no_route"


@pytest.mark.parametrize(
    "target",
    [
        *("/admin", "//admin", "///admin/x", "/admin//x", "/%61dmin", "/admin?x"),
        *("/admin;v=1/x", "/;x/admin", "/admin;"),
        "http://a.example//admin",
    ],
)
def test_a_guarded_path_is_guarded_however_it_is_written(stage: Stage, target: str):
    with stage.caller() as caller:
        caller.send(f"GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
        assert caller.response().status == 403


def test_what_no_route_guards_goes_up_as_it_was_written(stage: Stage):
    for target in ("/a//b", "/a%2Fb", "/%61", "/a;b=c", "/%252e%252e/"):
        assert stage.loom.ask(target).json()["target"] == target
    assert stage.loom.ask("//evil.example/x").json()["target"] == "/evil.example/x"


def test_a_stranger_cannot_ask_for_another_path_by_a_header(stage: Stage):
    answer = stage.loom.ask("/open", fields={"X-Original-URL": "/admin", "X-Rewrite-URL": "/admin"})
    assert {name for name, _ in answer.json()["fields"]}.isdisjoint(
        {"x-original-url", "x-rewrite-url"}
    )


def test_options_count_their_hops_and_end_here_with_the_last(stage: Stage):
    with stage.caller() as caller:
        answer = caller.get("/hops", "OPTIONS", {"Max-Forwards": "3"})
        assert ["max-forwards", "2"] in answer.json()["fields"]
        assert caller.get("/hops", "OPTIONS", {"Max-Forwards": "0"}).status == 204
        assert caller.get("/hops", "OPTIONS").status == 200
    assert len(stage.origin.journal.all("request", path="/hops")) == 2


def test_a_request_of_http_1_0_without_host_has_one_upstream(stage: Stage):
    with stage.caller() as caller:
        caller.send(b"GET /old HTTP/1.0\r\n\r\n")
        fields = dict(caller.response().json()["fields"])
    assert fields["host"] == f"127.0.0.1:{stage.origin.port}"
    assert "x-forwarded-host" not in fields


def test_a_body_that_nobody_reads_is_not_read_as_a_request(stage: Stage):
    """Client-side desync: an answer that does not wait for the body ends the connection."""
    smuggled = b"GET /smuggled-in-a-body HTTP/1.1\r\n" + HOST + b"\r\n"
    with stage.caller() as caller:
        caller.send(b"POST /fixed HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n")
        answer = caller.response()
        assert (answer.body, answer.head.field("connection")) == (b"fixed", "close")
        caller.send(smuggled)
        assert caller.rest() == (b"", "closed")
    assert not stage.origin.journal.all("request", path="/smuggled-in-a-body")

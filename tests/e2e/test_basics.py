"""What every request meets: routes, fixed answers, rewritten heads, the corners of HTTP/1."""

import hashlib
import json
import re
import subprocess

import httpx
import pytest

from tests.support.caller import request
from tests.support.origin import Scene, head
from tests.support.stage import Stage

STAGE = {
    "trusted_proxies": ["127.0.0.9/32"],
    "routes": [
        {
            "name": "hello",
            "match": {"path": "/hello"},
            "respond": {"body": "hello\n", "headers": {"X-From": "house"}},
        },
        {"name": "gone", "match": {"path": "/gone"}, "respond": {"status": 410}},
        {
            "name": "away",
            "match": {"path_prefix": "/away"},
            "redirect": {"location": "https://{host}{path}{query}"},
        },
        {"name": "by-host", "match": {"hosts": "api.example"}, "respond": {"body": "by host"}},
        {
            "name": "by-wildcard",
            "match": {"hosts": "*.example.org"},
            "respond": {"body": "by wildcard"},
        },
        {
            "name": "by-method",
            "match": {"path": "/pick", "methods": "DELETE"},
            "respond": {"body": "by method"},
        },
        {
            "name": "by-header",
            "match": {"path": "/pick", "headers": {"X-Beta": "yes"}},
            "respond": {"body": "by header"},
        },
        {
            "name": "by-query",
            "match": {"path": "/pick", "query": {"v": "~^2"}},
            "respond": {"body": "by query"},
        },
        {
            "name": "by-regex",
            "match": {"path_regex": "^/item/[0-9]+$"},
            "respond": {"body": "by regex"},
        },
        {
            "name": "rewritten",
            "match": {"path_prefix": "/old"},
            "pool": "app",
            "rewrite": {"strip_prefix": "/old", "add_prefix": "/new"},
            "request_headers": {
                "set": {"X-Route": "{route}", "X-Client": "{client_ip}"},
                "remove": ["X-Secret"],
                "add": {"X-Many": ["one", "two"]},
            },
            "response_headers": {"set": {"X-Served": "{request_id}"}, "remove": "Server"},
            "host": "endpoint",
        },
    ],
}


def fields(seen: dict, name: str) -> list[str]:
    """Every value of a field that the origin received."""
    return [value for have, value in seen["fields"] if have == name]


def test_a_get_comes_back_with_the_origins_answer(stage: Stage):
    response = stage.ask()
    assert response.status == 200
    assert response.json()["method"] == "GET"
    assert response.head.field("content-type") == "application/json"


def test_curl_gets_its_answer(stage: Stage):
    done = subprocess.run(
        ["curl", "-sS", "-m", "10", "-d", "a=1&b=2", stage.loom.url(stage.path + "?q=%20x")],
        capture_output=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert (seen["method"], seen["target"], seen["body"]) == (
        "POST",
        stage.path + "?q=%20x",
        "a=1&b=2",
    )


def test_httpx_gets_many_answers_over_one_connection(stage: Stage):
    with httpx.Client(base_url=stage.loom.url(""), trust_env=False) as client:
        answers = [client.post(stage.path, content=b"x" * size).json() for size in (0, 1, 70_000)]
    assert [answer["body_bytes"] for answer in answers] == [0, 1, 70_000]


def test_a_fixed_answer_comes_from_the_house(stage: Stage):
    response = stage.loom.ask("/hello")
    assert (response.status, response.body, response.head.field("x-from")) == (
        200,
        b"hello\n",
        "house",
    )
    assert stage.loom.ask("/gone").status == 410


def test_a_redirect_names_the_same_host_path_and_query(stage: Stage):
    response = stage.loom.ask("/away/x?y=1")
    assert response.status == 308
    assert response.head.field("location") == "https://test.example/away/x?y=1"


@pytest.mark.parametrize(
    ("target", "method", "sent", "body"),
    [
        ("/any", "GET", {"Host": "api.example"}, b"by host"),
        ("/any", "GET", {"Host": "API.Example:8080"}, b"by host"),
        ("/any", "GET", {"Host": "a.b.example.org"}, b"by wildcard"),
        ("/pick", "DELETE", {}, b"by method"),
        ("/pick", "GET", {"X-Beta": "yes"}, b"by header"),
        ("/pick?v=21", "GET", {}, b"by query"),
        ("/item/7", "GET", {}, b"by regex"),
    ],
)
def test_the_most_specific_route_answers(stage: Stage, target, method, sent, body):
    assert stage.loom.ask(target, method, fields=sent).body == body


def test_a_route_rewrites_path_and_heads(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.reply(
            200, json.dumps([scene.target, scene.fields]).encode(), [("Server", "secret/1.0")]
        )

    stage.origin.on("/new/thing", answer)
    response = stage.loom.ask("/old/thing?a=b", fields={"X-Secret": "s", "X-Many": "zero"})
    target, pairs = response.json()
    seen = {"fields": pairs}
    assert target == "/new/thing?a=b"
    assert fields(seen, "x-secret") == []
    assert fields(seen, "x-many") == ["zero", "one", "two"]
    assert fields(seen, "x-route") == ["rewritten"]
    assert fields(seen, "x-client") == ["127.0.0.1"]
    assert fields(seen, "host") == [f"127.0.0.1:{stage.origin.port}"]
    assert response.head.field("server") is None
    assert response.head.field("x-served") == response.head.field("x-request-id")


def test_upstreams_are_told_who_asked_and_how(stage: Stage):
    seen = stage.ask(fields={"Host": "shop.example:8443"}).json()
    assert fields(seen, "host") == ["shop.example:8443"]
    assert fields(seen, "x-forwarded-for") == ["127.0.0.1"]
    assert fields(seen, "x-forwarded-proto") == ["http"]
    assert fields(seen, "x-forwarded-host") == ["shop.example:8443"]
    assert fields(seen, "x-forwarded-port") == [str(stage.loom.http[1])]
    assert fields(seen, "x-real-ip") == ["127.0.0.1"]
    assert fields(seen, "via") == ["1.1 loomproxy"]


def test_a_stranger_cannot_say_who_it_is(stage: Stage):
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Real-IP": "6.6.6.6"}
    seen = stage.ask(fields=lies).json()
    assert "6.6.6.6" not in "".join(fields(seen, "x-forwarded-for") + fields(seen, "x-real-ip"))
    assert fields(seen, "x-forwarded-proto") == ["http"]


def test_a_trusted_proxy_before_us_is_believed(proxies, origin):
    from tests.support.loom import pool, settings, to

    loom = proxies.start(
        settings(
            pools={"app": pool(origin.url)}, routes=[to("app")], trusted_proxies=["127.0.0.0/8"]
        )
    )
    told = {
        "X-Forwarded-For": "6.6.6.6, 203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Request-ID": "abc-123",
    }
    response = loom.ask("/x", fields=told)
    seen = response.json()
    assert fields(seen, "x-real-ip") == ["203.0.113.7"]
    assert ", ".join(fields(seen, "x-forwarded-for")).endswith("203.0.113.7, 127.0.0.1")
    assert fields(seen, "x-forwarded-proto") == ["https"]
    assert fields(seen, "x-request-id") == ["abc-123"]
    assert loom.line("/x")["client_ip"] == "203.0.113.7"


@pytest.mark.parametrize("writes", [False, True])
def test_a_client_cannot_say_through_a_trusted_proxy_who_it_is(proxies, origin, writes):
    from tests.support.loom import pool, settings, to

    loom = proxies.start(
        settings(
            pools={"app": pool(origin.url)},
            routes=[to("app")],
            trusted_proxies=["127.0.0.0/8"],
            forwarded={"rfc7239": writes},
        )
    )
    told = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=6.6.6.6;proto=https"}
    seen = loom.ask("/x", fields=told).json()
    assert fields(seen, "x-real-ip") == ["203.0.113.7"]
    own = [f'for=127.0.0.1;host="{fields(seen, "host")[0]}";proto=http']
    assert fields(seen, "forwarded") == (own if writes else [])
    assert loom.line("/x")["client_ip"] == "203.0.113.7"


def test_a_peer_on_a_unix_socket_is_trusted_while_the_configuration_says_so(proxies, origin):
    from tests.support.loom import pool, settings, to

    config = settings(pools={"app": pool(origin.url)}, routes=[to("app")])
    listeners = [{"name": "http", "address": "unix"}]
    told = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    loom = proxies.start(config | {"listeners": listeners, "trusted_proxies": "unix"})
    seen = loom.ask("/trusted", fields=told).json()
    assert fields(seen, "x-forwarded-for") == fields(seen, "x-real-ip") == ["203.0.113.7"]
    assert fields(seen, "x-forwarded-proto") == ["https"]
    assert fields(seen, "x-forwarded-port") == []
    assert loom.line("/trusted")["client_ip"] == "203.0.113.7"
    loom.reload(config)
    seen = loom.ask("/stranger", fields=told).json()
    assert fields(seen, "x-forwarded-for") == fields(seen, "x-real-ip") == []
    assert fields(seen, "x-forwarded-proto") == ["http"]


def test_each_request_has_an_id_that_client_upstream_and_log_share(stage: Stage):
    response = stage.ask()
    name = response.head.field("x-request-id")
    assert re.fullmatch(r"[!-~]{8,128}", name)
    assert fields(response.json(), "x-request-id") == [name]
    assert stage.loom.line(stage.path)["request_id"] == name
    assert stage.ask().head.field("x-request-id") != name


def test_hop_by_hop_fields_end_here(stage: Stage):
    seen = stage.ask(
        fields={
            "Connection": "keep-alive, X-Mine",
            "X-Mine": "1",
            "Keep-Alive": "timeout=5",
            "TE": "trailers",
            "Proxy-Connection": "keep-alive",
            "Proxy-Authorization": "Basic eA==",
            "X-Yours": "2",
        }
    ).json()
    names = {name for name, _ in seen["fields"]}
    assert not names & {"x-mine", "keep-alive", "te", "proxy-connection", "connection"}
    assert fields(seen, "x-yours") == ["2"]


def test_the_answers_hop_by_hop_fields_end_here_too(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.reply(
            200,
            b"ok",
            [
                ("Connection", "X-Mine"),
                ("X-Mine", "1"),
                ("Keep-Alive", "timeout=5"),
                ("X-Yours", "2"),
            ],
        )

    response = stage.ask(answer)
    assert response.head.field("x-mine") is None
    assert response.head.field("keep-alive") is None
    assert response.head.field("x-yours") == "2"
    assert response.head.field("via") == "1.1 loomproxy"


def test_head_has_the_length_and_no_body(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Length", "12345")]))

    stage.on(answer)
    with stage.caller() as caller:
        response = caller.get(stage.path, "HEAD")
        assert response.head.field("content-length") == "12345"
        assert caller.get("/hello", "HEAD").head.field("content-length") == "6"
        assert caller.get("/hello").body == b"hello\n", (
            "nothing of a body was left on the connection"
        )


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_leave_the_connection_in_order(stage: Stage, status: int):
    async def answer(scene: Scene) -> None:
        await scene.send(head(status, [("ETag", '"1"')]))

    stage.on(answer)
    with stage.caller() as caller:
        response = caller.get(stage.path)
        assert (response.status, response.head.field("etag")) == (status, '"1"')
        assert response.head.field("transfer-encoding") is None
        assert caller.get("/hello").status == 200


def test_a_304_may_tell_the_length_that_a_200_would_have(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.send(head(304, [("Content-Length", "77")]))

    stage.on(answer)
    with stage.caller() as caller:
        assert caller.get(stage.path).head.field("content-length") in {"77", None}
        assert caller.get("/hello").body == b"hello\n"


def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(stage: Stage):
    async def answer(scene: Scene) -> None:
        await scene.send(head(200, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n0\r\n\r\n")

    stage.on(answer)
    with stage.caller() as caller:
        caller.send(f"GET {stage.path} HTTP/1.0\r\n\r\n".encode())
        response = caller.response()
        assert response.head.field("transfer-encoding") is None, "HTTP/1.0 does not know chunks"
        assert (response.body, response.ending) == (b"abc", "closed")


def test_an_old_client_may_keep_its_connection(stage: Stage):
    with stage.caller() as caller:
        for _ in range(2):
            caller.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = caller.response()
            assert (response.body, response.head.field("connection")) == (b"hello\n", "keep-alive")


def test_a_client_that_says_close_is_closed(stage: Stage):
    with stage.caller() as caller:
        response = caller.get(stage.path, fields={"Connection": "close"})
        assert response.head.field("connection") == "close"
        assert caller.rest() == (b"", "closed")


def test_pipelined_requests_are_answered_in_order(stage: Stage):
    async def slow(scene: Scene) -> None:
        await scene.cue("pipeline")
        await scene.reply(200, b"slow")

    stage.on(slow)
    with stage.caller() as caller:
        caller.send(
            request(stage.path)
            + request("/echo-1", "POST", body=b"one")
            + request("/hello")
            + request("/gone")
        )
        stage.origin.journal.wait("request", path=stage.path)
        stage.origin.give("pipeline")
        assert caller.response().body == b"slow"
        assert caller.response().json()["body"] == "one"
        assert caller.response().body == b"hello\n"
        assert caller.response().status == 410


def test_a_head_may_arrive_byte_by_byte(stage: Stage):
    with stage.caller() as caller:
        for byte in request(stage.path, "POST", body=b"xyz"):
            caller.send(bytes((byte,)))
        assert caller.response().json()["body"] == "xyz"


def test_a_body_arrives_as_it_was_sent(stage: Stage):
    body = bytes(range(256)) * 40_000
    with stage.caller() as caller:
        seen = caller.get(stage.path, "PUT", body=body).json()
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_options_with_an_asterisk_reaches_the_upstream(stage: Stage):
    seen = stage.loom.ask("*", "OPTIONS").json()
    assert (seen["method"], seen["target"]) == ("OPTIONS", "*")


def test_a_path_is_passed_on_as_it_was_written(stage: Stage):
    target = "/a%2Fb/%7Euser//c;v=1?x=%26&y"
    assert stage.loom.ask(target).json()["target"] == target

"""Chats through a worker: what clients and providers see of one another."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.endpoint import Address, EndpointSpec
from tests.support.caller import Caller, Response
from tests.support.guests import TOKEN, Worker, worker
from tests.support.origin import Origin, Scene, chunk, head

CHAT, LOOM = "/v1/chat/completions", "/api/v1/chat/completions"
CANCELLED_WITHIN_S = 1.0
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}
DONE = b"data: [DONE]\n\n"
STREAM = head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])


@pytest.fixture(scope="module")
def guests(subject: str) -> Iterator[Worker]:
    with worker(subject) as made:
        yield made


def delta(text: str) -> bytes:
    said = {"id": "c-1", "choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def body(model: str | None, **more: Any) -> bytes:
    said = {} if model is None else {"model": model}
    return json.dumps({**said, "messages": [{"role": "user", "content": "?"}], **more}).encode()


def ask(caller: Caller, data: bytes, path: str = CHAT, **fields: str) -> Response:
    return caller.get(path, "POST", fields, data)


async def whole(scene: Scene) -> None:
    await scene.body()
    await scene.reply(200, json.dumps(ANSWER).encode(), [("Content-Type", "application/json")])


async def streams(scene: Scene) -> None:
    await scene.body()
    await scene.send(STREAM)
    for word in ("Hel", "lo"):
        await scene.send(chunk(delta(word)))
    await scene.send(chunk(DONE))
    await scene.send(b"0\r\n\r\n")


def fails(status: int, said: dict[str, Any], **fields: str) -> Any:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.reply(status, json.dumps(said).encode(), fields.items())

    return act


def test_a_chat_is_answered_by_the_provider_of_its_model(guests: Worker) -> None:
    seen: list[Scene] = []

    async def act(scene: Scene) -> None:
        seen.append(scene)
        scene.note("asked", said=await scene.body())
        await whole(scene)

    name = guests.provide(act)
    with guests.caller() as caller:
        for number in range(2):
            secret = {"Authorization": "Bearer of-the-client", "Cookie": "a=b"}
            answer = ask(caller, body(f"{name}/m", tools=[1]), **secret)
            assert (answer.status, answer.json()) == (200, ANSWER)
            scene = seen[number]
            assert scene.field("authorization") == TOKEN
            assert scene.field("cookie") is None
            assert scene.field("x-request-id") == answer.head.field("x-request-id")
    asked = guests.origin.journal.wait("asked", path=seen[0].path)
    assert json.loads(asked.said) == json.loads(body("m", tools=[1]))
    assert seen[0].line.number == seen[1].line.number, "its connection is used again"
    logged = guests.logged(str(answer.head.field("x-request-id")))
    assert (logged["provider"], logged["model"]) == (name, "m")
    assert (logged["prompt_tokens"], logged["completion_tokens"]) == (5, 3)
    counted = guests.tally().chats[name, "m"]
    assert (counted.prompt_tokens, counted.completion_tokens) == (10, 6)


def test_a_guest_may_listen_on_a_unix_socket(guests: Worker, tmp_path: Path) -> None:
    with Origin(at=str(tmp_path / "guest.sock")) as origin:
        origin.act = whole
        endpoint = EndpointSpec(Address(path=str(tmp_path / "guest.sock")))
        name = guests.provide(endpoints=(endpoint,))
        with guests.caller() as caller:
            assert ask(caller, body(f"{name}/m")).json() == ANSWER
        assert not origin.failures


def test_a_stream_comes_event_by_event(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM + chunk(delta("a")))
        await scene.cue("go on")
        await scene.send(chunk(delta("b")) + chunk(DONE))
        await scene.cue("end")
        await scene.send(b"0\r\n\r\n")

    name = guests.provide(act)
    with guests.caller() as caller:
        caller.ask(CHAT, "POST", (), body(f"{name}/m", stream=True))
        assert caller.head().field("content-type") == "text/event-stream"
        assert caller.chunk() == delta("a"), "it is here before the second was said"
        guests.origin.give("go on")
        said = b""
        while not said.endswith(DONE):
            said += caller.chunk()
        assert said == delta("b") + DONE, "the end is here before the provider has ended"
        guests.origin.give("end")
        assert caller.chunk() == b""
        assert caller.until(b"\r\n") == b"\r\n"
        assert ask(caller, body("nobody/m")).status == 404, "the connection goes on"


def test_a_stream_that_breaks_is_never_complete(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM + chunk(delta("a")))
        scene.line.reset()

    name = guests.provide(act)
    with guests.caller() as caller:
        answer = ask(caller, body(f"{name}/m", stream=True))
    assert (answer.status, answer.complete, answer.ending) == (200, False, "closed")
    first, last = answer.body.split(b"\n\n")[:2]
    assert first + b"\n\n" == delta("a")
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_truncated"
    logged = guests.logged(str(answer.head.field("x-request-id")))
    assert (logged["fault"], logged["termination"]) == ("stream_truncated", "UD")
    assert guests.tally().chats[name, "m"].results == {"stream_truncated": 1}


def test_a_stream_without_its_end_is_truncated(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM + chunk(delta("a")) + b"0\r\n\r\n")

    name = guests.provide(act)
    with guests.caller() as caller:
        answer = ask(caller, body(f"{name}/m", stream=True))
    assert not answer.complete
    assert b'"code":"stream_truncated"' in answer.body


def test_a_stream_that_falls_silent_is_told(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM + chunk(delta("a")))
        await scene.left()

    name = guests.provide(act, idle_timeout_s=0.2)
    with guests.caller() as caller:
        answer = ask(caller, body(f"{name}/m", stream=True))
    assert not answer.complete
    assert b'"code":"timeout"' in answer.body


def test_an_error_has_the_status_of_its_code(guests: Worker) -> None:
    said = {
        "code": "rate_limit_exceeded",
        "message": "Slow.",
        "details": {"retry_after": 2},
    }
    name = guests.provide(fails(400, said))
    with guests.caller() as caller:
        answer = ask(caller, body(f"{name}/m"))
    assert (answer.status, answer.head.field("retry-after")) == (429, "2")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_transient_error_is_asked_about_again(guests: Worker) -> None:
    times: list[int] = []

    async def act(scene: Scene) -> None:
        times.append(1)
        said = {"code": "provider_unavailable", "message": "Soon.", "transient": True}
        await (whole if len(times) > 1 else fails(503, said))(scene)

    name = guests.provide(act)
    with guests.caller() as caller:
        assert ask(caller, body(f"{name}/m")).json() == ANSWER
    assert len(times) == 2


def test_what_speaks_openai_passes_its_own_errors_and_no_extra_usage(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        said = json.loads(await scene.body())
        assert said["stream_options"] == {"include_usage": True}
        usage = {"choices": [], "usage": ANSWER["usage"]}
        await scene.send(STREAM + chunk(delta("a")))
        await scene.send(chunk(b"data: " + json.dumps(usage).encode() + b"\n\n"))
        await scene.send(chunk(DONE) + b"0\r\n\r\n")

    name = guests.provide(act, tongue=Tongue.OPENAI)
    error = {"error": {"message": "No.", "type": "t", "param": None, "code": "c"}}
    other = guests.provide(fails(422, error), tongue=Tongue.OPENAI)
    with guests.caller() as caller:
        answer = ask(caller, body(f"{name}/m", stream=True))
        assert (answer.complete, answer.body) == (True, delta("a") + DONE)
        refused = ask(caller, body(f"{other}/m"))
    assert (refused.status, refused.json()) == (422, error)
    assert guests.tally().chats[name, "m"].completion_tokens == 3


def test_loom_s_shape(guests: Worker) -> None:
    name, whole_name = guests.provide(streams), guests.provide(whole)
    with guests.caller() as caller:
        answer = ask(caller, body(None, provider_id=whole_name), LOOM)
        assert (answer.status, answer.json()) == (200, ANSWER)
        for path in (f"{LOOM}/stream", f"{LOOM}?stream=true"):
            streamed = ask(caller, body("m", provider_id=name), path)
            events = [each.split(b"\n")[0] for each in streamed.body.split(b"\n\n") if each]
            assert events == [
                b"event: connected",
                b"event: chunk",
                b"event: chunk",
                b"event: done",
                b"data: [DONE]",
            ]
        unknown = ask(caller, body("m", provider_id="none"), LOOM)
        assert (unknown.status, unknown.json()["code"]) == (404, "model_not_found")
        assert ask(caller, body("m"), LOOM).status == 400
        assert caller.get(LOOM).status == 405


def test_a_client_that_waits_to_be_told_is_told(guests: Worker) -> None:
    name = guests.provide(whole)
    data = body(f"{name}/m")
    with guests.caller() as caller:
        fields = {"Expect": "100-continue", "Content-Length": str(len(data))}
        caller.ask(CHAT, "POST", fields)
        assert caller.head().status == 100
        assert caller.send(data).response().json() == ANSWER


@pytest.mark.parametrize("moment", ["head", "stream"])
def test_a_client_that_leaves_cancels_at_the_provider(guests: Worker, moment: str) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        if moment == "stream":
            await scene.send(STREAM + chunk(delta("a")))
        scene.note("waits")
        await scene.left()

    name = guests.provide(act)
    path = f"/{name}/chat/completions"
    with guests.caller() as caller:
        caller.ask(CHAT, "POST", (), body(f"{name}/m", stream=True))
        line = guests.origin.journal.wait("waits", path=path).line
        if moment == "stream":
            caller.head()
            caller.chunk()
    guests.origin.journal.wait("left", line=line, within_s=CANCELLED_WITHIN_S)


def test_a_client_that_leaves_while_it_is_paused_cancels_too(guests: Worker) -> None:
    async def act(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM)
        scene.note("waits")
        await scene.send(chunk(delta("x" * 10_000)) * 500)
        await scene.left()

    name = guests.provide(act)
    path = f"/{name}/chat/completions"
    with Caller(guests.address, receive_bytes=4096) as caller:
        caller.ask(CHAT, "POST", (), body(f"{name}/m", stream=True))
        line = guests.origin.journal.wait("waits", path=path).line
        caller.head()
    guests.origin.journal.wait("left", line=line, within_s=CANCELLED_WITHIN_S)


def test_models_are_listed_and_found(guests: Worker) -> None:
    name = guests.provide(whole, models=(Model("org/x", context_window=9),), published_at=7)
    with guests.caller() as caller:
        listed = caller.get("/v1/models").json()
        assert listed["object"] == "list"
        mine = {each["id"]: each for each in listed["data"]}[f"{name}/org/x"]
        assert (mine["owned_by"], mine["created"], mine["context_window"]) == (name, 7, 9)
        for path in (f"{name}/org/x", f"{name}%2Forg%2Fx", "org/x"):
            assert caller.get(f"/v1/models/{path}").json() == mine
        unknown = caller.get("/v1/models/none")
        assert (unknown.status, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert caller.get("/v1/models", "DELETE").status == 405


def test_a_provider_that_is_not_ready_says_why(guests: Worker) -> None:
    guests.publish(Provider("broken", models=(Model("m"),), reason="It left with status 3."))
    with guests.caller() as caller:
        answer = ask(caller, body("broken/m"))
        listed = caller.get("/v1/models").json()
    assert (answer.status, answer.head.field("retry-after")) == (503, "1")
    assert answer.json()["error"]["message"].endswith("It left with status 3.")
    assert not [each for each in listed["data"] if each["owned_by"] == "broken"]


def test_a_new_generation_gets_what_begins_and_the_old_one_ends_what_it_has(
    guests: Worker,
) -> None:
    async def old(scene: Scene) -> None:
        await scene.body()
        await scene.send(STREAM + chunk(delta("old")))
        scene.note("begun")
        await scene.cue("the old one may end")
        await scene.send(chunk(DONE) + b"0\r\n\r\n")

    name = guests.provide(old)
    before = guests.providers[name]
    with guests.caller() as first, guests.caller() as second:
        first.ask(CHAT, "POST", (), body(f"{name}/m", stream=True))
        guests.origin.journal.wait("begun", path=before.target.decode())
        stopping = structs.replace(before.endpoints[0], enabled=False)
        target = f"/{name}/2"
        guests.origin.on(target, whole)
        address = structs.replace(stopping.address, host="localhost")
        new = structs.replace(stopping, address=address, enabled=True)
        guests.publish(structs.replace(before, endpoints=(stopping, new), target=target.encode()))
        assert ask(second, body(f"{name}/m")).json() == ANSWER
        guests.origin.give("the old one may end")
        assert first.response("POST").complete


def test_a_body_that_is_too_large_is_refused_early(guests: Worker) -> None:
    with guests.caller() as caller:
        caller.ask(CHAT, "POST", {"Content-Length": str(33 << 20)})
        assert caller.response().status == 413

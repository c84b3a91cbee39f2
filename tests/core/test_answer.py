"""Answers of our own: what the client reads when no upstream speaks."""

import json

import pytest
from msgspec import structs

from loomproxy.core import answer
from loomproxy.core import fault as faults
from loomproxy.core.answer import Answer
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.catalogue import Catalogue
from loomproxy.core.chat.dialect import LOOM, OPENAI
from loomproxy.core.chat.provider import Model, Provider
from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire
from loomproxy.core.hygiene import ForwardPolicy
from loomproxy.core.message import RequestHead
from loomproxy.core.route import Models, Redirect, Respond


def request(*lines: str, method: str = "GET") -> RequestHead:
    wire = RequestWire(Limits())
    wire.receive("\r\n".join((f"{method} /a?b HTTP/1.1", "Host: h", *lines, "", "")).encode())
    head = wire.poll()
    assert isinstance(head, RequestHead)
    return head


def rendered(it: Answer, head: RequestHead, request_id_header: bytes = b"X-Request-ID") -> bytes:
    policy = ForwardPolicy(request_id_header=request_id_header)
    return answer.render(it, head, policy=policy, keep_alive=True, request_id=b"id-1")


def test_a_refusal_is_one_plain_sentence_with_the_request_id() -> None:
    it = answer.refusal(faults.CONNECT_FAILED, request(), b"id-1")
    assert it == Answer(
        502,
        answer.TEXT,
        b"502 Bad Gateway\nThe upstream could not be reached.\nRequest-ID: id-1\n",
    )


@pytest.mark.parametrize("accept", ["application/json", "text/html, Application/Problem+JSON"])
def test_who_accepts_json_is_refused_in_json(accept: str) -> None:
    it = answer.refusal(faults.NO_ROUTE, request(f"Accept: {accept}"), b"id-1")
    assert (it.status, it.content_type) == (404, b"application/json")
    assert json.loads(it.body) == {
        "error": "No route matches this request.",
        "code": "no_route",
        "request_id": "id-1",
    }


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_method_that_is_not_allowed_is_told_which_are(accept: str) -> None:
    it = answer.refusal(faults.METHOD_NOT_ALLOWED, request(f"Accept: {accept}"), b"id-1")
    assert it.block == b"Allow: GET, HEAD\r\n"


def test_an_answer_of_our_own_says_when_it_was_made_once_somebody_has_a_clock() -> None:
    it = Answer(200, answer.TEXT, b"x")
    date = b"Tue, 24 Nov 2026 03:00:00 GMT"
    told = answer.render(
        it, request(), policy=ForwardPolicy(), keep_alive=True, request_id=b"id-1", date=date
    )
    assert b"\r\nDate: %b\r\n" % date in told
    assert b"Date" not in rendered(it, request())


@pytest.mark.parametrize("fault", [each for each in faults.FAULTS.values() if each.status])
def test_no_refusal_tells_about_the_inside(fault: faults.Fault) -> None:
    it = answer.refusal(fault, request(), b"id-1")
    assert it.status == fault.status
    for inside in (b"10.", b"/", b"loomproxy", b"Traceback"):
        assert inside not in it.body


def test_a_route_answers_what_it_was_told() -> None:
    action = Respond(418, b"tea\n", b"text/x-tea", b"X-Pot: small\r\n")
    it = answer.configured(action, request(), b"http")
    assert it == Answer(418, b"text/x-tea", b"tea\n", b"X-Pot: small\r\n")


def test_a_route_redirects_to_where_it_was_told() -> None:
    it = answer.configured(Redirect(301, b"{scheme}://{host}/x{path}{query}"), request(), b"https")
    assert it == Answer(
        301, answer.TEXT, b"301 Moved Permanently\n", b"Location: https://h/x/a?b\r\n"
    )


def test_an_answer_is_a_whole_response() -> None:
    assert rendered(Answer(200, b"text/plain", b"ok", b"X-A: b\r\n"), request()) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-A: b\r\n"
        b"X-Request-ID: id-1\r\nConnection: keep-alive\r\n\r\nok"
    )


def test_head_gets_the_length_of_what_it_does_not_get() -> None:
    data = rendered(Answer(200, b"text/plain", b"ok"), request(method="HEAD"))
    assert b"Content-Length: 2\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_without_a_name_for_it_the_request_id_is_not_sent() -> None:
    data = rendered(Answer(200, b"text/plain", b"ok"), request(), request_id_header=b"")
    assert b"id-1" not in data


def test_a_complaint_is_an_answer_in_the_dialect_of_the_client() -> None:
    said = complaints.of_fault(faults.METHOD_NOT_ALLOWED, "Use POST.")
    it = answer.complaint(said, LOOM, b"id-1")
    assert it == Answer(405, answer.JSON, LOOM.error(said, b"id-1"), b"Allow: POST\r\n")
    busy = complaints.of_fault(faults.QUEUE_FULL)
    it = answer.complaint(busy, OPENAI, b"id-1")
    assert it == Answer(503, answer.JSON, OPENAI.error(busy, b"id-1"), b"Retry-After: 1\r\n")


def test_models_are_only_read() -> None:
    head = structs.replace(request(), method=b"POST", path=b"/v1/models")
    it = answer.models(Models(b"/v1/models"), head, Catalogue(()), b"id-1")
    assert (it.status, it.block) == (405, b"Allow: GET, HEAD\r\n")
    assert b"use GET or HEAD" in it.body


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (b"/v1/models", 200, b'{"object":"list","data":['),
        (b"/v1/models/acme/m%201", 200, b'{"id":"acme/m 1",'),
        (b"/v1/models/m%201", 200, b'{"id":"acme/m 1",'),
        (b"/v1/models/", 404, b'{"error":{"message":'),
        (b"/v1/models/%ff", 404, b'"code":"model_not_found","request_id":"id-1"'),
    ],
)
def test_models_are_listed_or_found(path: bytes, status: int, body: bytes) -> None:
    here = EndpointSpec(Address(path="/run/a"))
    catalogue = Catalogue((Provider("acme", (here,), models=(Model("m 1"),)),))
    head = structs.replace(request(), path=path)
    it = answer.models(Models(b"/v1/models"), head, catalogue, b"id-1")
    assert (it.status, it.content_type) == (status, answer.JSON)
    assert body in it.body

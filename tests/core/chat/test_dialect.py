"""How each dialect says an error and the events of a stream."""

import json

import pytest

from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.dialect import DIALECTS, LOOM, OPENAI

NOT_FOUND = Complaint(404, "model_not_found", "No.", param="model")


def test_routes_name_them() -> None:
    assert DIALECTS == {"openai": OPENAI, "loom": LOOM}
    assert not OPENAI.names_provider
    assert LOOM.names_provider


def test_an_error_in_each() -> None:
    assert json.loads(OPENAI.error(NOT_FOUND, b"id-1")) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
            "request_id": "id-1",
        }
    }
    assert json.loads(LOOM.error(NOT_FOUND, b"id-1")) == {
        "error": "No.",
        "code": "model_not_found",
        "request_id": "id-1",
    }


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "content_filter", "invalid_request_error"),
        (429, "rate_limit_exceeded", "rate_limit_error"),
        (429, "quota_exceeded", "insufficient_quota"),
        (502, "internal_error", "api_error"),
        (0, "timeout", "api_error"),  # in the middle of a stream
    ],
)
def test_the_type_of_an_error(status: int, code: str, kind: str) -> None:
    error = json.loads(OPENAI.error(Complaint(status, code, ""), b"i"))["error"]
    assert error["type"] == kind


def test_a_provider_s_own_words_go_on_as_they_are() -> None:
    said = Complaint(400, "invalid_request", "No.", verbatim=b'{"error": 1}')
    assert OPENAI.error(said, b"i") == b'{"error": 1}'
    assert json.loads(LOOM.error(said, b"i"))["error"] == "No."
    assert OPENAI.failure(said, b"i").startswith(b'data: {"error":{"message":"No."')


def test_events_pass_in_openai_s() -> None:
    assert OPENAI.opening() == b""
    assert OPENAI.event(b"data:  {}\r\n\r\n", b" {}") == b"data:  {}\r\n\r\n"
    assert OPENAI.ending(b"data:[DONE]\n\n") == b"data:[DONE]\n\n"
    assert OPENAI.failure(NOT_FOUND, b"i").endswith(b"}}\n\n")


def test_events_are_named_in_loom_s() -> None:
    assert LOOM.opening().startswith(b"event: connected\ndata: {")
    assert LOOM.event(b"", b"{\n}") == b"event: chunk\ndata: {\ndata: }\n\n"
    assert LOOM.ending(b"").startswith(b"event: done\ndata: {")
    assert LOOM.ending(b"").endswith(b"\n\ndata: [DONE]\n\n")
    failure = LOOM.failure(NOT_FOUND, b"i")
    assert failure == b"event: error\ndata: %b\n\n" % LOOM.error(NOT_FOUND, b"i")

"""What the client of a chat is told when it gets no answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat.complaint import (
    KEY_REFUSED,
    MESSAGE_CHARS_MAX,
    STATUS_OF_CODE,
    Complaint,
    of_fault,
)
from loomproxy.core.chat.provider import Tongue
from loomproxy.core.fault import FAULTS, Fault


def plugin(said: object, status: int = 500, retry_after: bytes | None = None) -> Complaint:
    return complaints.read(status, json.dumps(said).encode(), Tongue.PLUGIN, retry_after)


def openai(said: object, status: int, retry_after: bytes | None = None) -> Complaint:
    return complaints.read(status, json.dumps(said).encode(), Tongue.OPENAI, retry_after)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.POOL_UNAVAILABLE, "provider_unavailable"),
        (faults.QUEUE_TIMEOUT, "provider_unavailable"),
        (faults.CONNECT_FAILED, "provider_unavailable"),
        (faults.UPSTREAM_TIMEOUT, "timeout"),
        (faults.CONNECT_TIMEOUT, "timeout"),
        (faults.UPSTREAM_STALLED, "timeout"),
        (faults.UPSTREAM_MALFORMED, "internal_error"),
        (faults.INTERNAL_ERROR, "internal_error"),
        (faults.BODY_TOO_LARGE, "invalid_request"),
        (faults.CHAT_INVALID, "invalid_request"),
        (faults.MODEL_NOT_FOUND, "model_not_found"),
        (faults.STREAM_TRUNCATED, "stream_truncated"),
        (faults.METHOD_NOT_ALLOWED, "method_not_allowed"),
    ],
)
def test_a_fault_of_ours_has_a_code(fault: Fault, code: str) -> None:
    assert of_fault(fault).code == code
    assert of_fault(fault).status == fault.status


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_what_may_be_well_soon_says_when(fault: Fault) -> None:
    assert of_fault(fault).retry_after == ("1" if fault.status == 503 else "")
    assert of_fault(fault).message == fault.text
    assert of_fault(fault, "More.", param="model") == Complaint(
        fault.status,
        of_fault(fault).code,
        "More.",
        fault,
        "model",
        of_fault(fault).retry_after,
    )


@pytest.mark.parametrize("code", STATUS_OF_CODE)
def test_the_code_of_a_plugin_decides_the_status(code: str) -> None:
    words = KEY_REFUSED if code == "authentication_failed" else "Why."
    assert plugin({"code": code, "message": "Why.", "transient": True}) == Complaint(
        STATUS_OF_CODE[code], code, words, transient=True
    )


@pytest.mark.parametrize(
    ("details", "field", "told"),
    [
        ({"retry_after": 7}, None, "7"),
        ({"retry_after": 0.2}, None, "1"),
        ({"retry_after": "2.0"}, None, "2"),
        ({"retry_after": -1}, None, ""),
        ({"retry_after": "a\r\nb"}, None, ""),
        ({"retry_after": [1]}, None, ""),
        ({}, b"9", "9"),
        ([], b"9", "9"),
        (None, b"Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        (None, b"soon", ""),
        (None, None, ""),
        ({"retry_after": None}, b"1e9", ""),
    ],
)
def test_when_to_come_again_is_passed_on(details: object, field: bytes | None, told: str) -> None:
    said = {"code": "rate_limit_exceeded", "message": "", "details": details}
    assert plugin(said, 429, field).retry_after == told


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>\n<h1>Oops</h1>",
        b'{"error":"boom"}',
        b'{"code":"odd","message":"x"}',
        b'{"code":"timeout"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"code":"timeout","message":"\\ud800"}',
    ],
)
def test_what_is_no_error_is_told_with_its_status_and_an_excerpt(body: bytes) -> None:
    told = complaints.read(418, body, Tongue.PLUGIN, None)
    assert (told.status, told.code) == (502, "internal_error")
    assert "status 418" in told.message
    assert len(told.message) < 400
    assert told.message.isprintable()


def test_a_long_message_is_cut() -> None:
    assert len(plugin({"code": "timeout", "message": "x" * 10_000}).message) == MESSAGE_CHARS_MAX
    said = {"error": {"message": "x" * 10_000}}
    assert len(openai(said, 400).message) == MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (429, 429, "rate_limit_exceeded"),
        (503, 503, "provider_unavailable"),
        (504, 504, "timeout"),
        (400, 502, "internal_error"),
        (500, 502, "internal_error"),
        (302, 502, "internal_error"),
    ],
)
def test_a_page_of_who_stands_before_a_provider_of_the_openai_dialect_is_its_status(
    status: int, told: int, code: str
) -> None:
    page = b"<html>Too many</html>"
    said = complaints.read(status, page, Tongue.OPENAI, b"7")
    assert (said.status, said.code) == (told, code)
    assert said.retry_after == ("" if told == 502 else "7")
    assert f"status {status}" in said.message
    assert complaints.read(status, page, Tongue.PLUGIN, b"7").code == "internal_error"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (404, "model_not_found"),
        (408, "timeout"),
        (422, "invalid_request"),
        (429, "rate_limit_exceeded"),
        (500, "internal_error"),
        (503, "provider_unavailable"),
        (504, "timeout"),
    ],
)
def test_an_error_in_the_openai_dialect_keeps_its_status_and_words(status: int, code: str) -> None:
    said = {"error": {"message": "Why.", "type": "t", "code": 7}}
    assert openai(said, status, b"3") == Complaint(
        status, code, "Why.", retry_after="3", verbatim=json.dumps(said).encode()
    )


@pytest.mark.parametrize("status", [401, 403])
def test_our_key_that_is_refused_is_not_the_client_s_affair(status: int) -> None:
    told = openai({"error": {"message": "Incorrect API key: sk-12…"}}, status)
    assert (told.status, told.code, told.verbatim) == (502, "authentication_failed", b"")
    assert "sk-12" not in told.message


def test_what_a_plugin_says_of_our_key_is_not_the_client_s_affair_either() -> None:
    error = {"code": "authentication_failed", "message": "Incorrect API key: sk-12…"}
    told = plugin({**error, "details": {"retry_after": 3}})
    assert (told.status, told.code, told.retry_after) == (502, "authentication_failed", "3")
    assert told.message == KEY_REFUSED
    assert complaints.read_event(json.dumps(error).encode()).message == KEY_REFUSED


def test_a_refused_key_needs_no_words() -> None:
    told = complaints.read(401, b"<html>", Tongue.OPENAI, None)
    assert (told.status, told.code) == (502, "authentication_failed")


def test_a_redirect_is_no_error_that_can_be_passed_on() -> None:
    assert openai({"error": {"message": "Moved."}}, 302).status == 502
    assert openai({"detail": "x"}, 400).code == "internal_error"


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ({"code": "timeout", "message": "Slow."}, "timeout", "Slow."),
        ({"message": "Bad.", "type": "server_error"}, "internal_error", "Bad."),
        (
            "boom",
            "internal_error",
            "The provider reported an error that cannot be read: '\"boom\"'",
        ),
    ],
)
def test_an_error_in_a_stream_is_read_in_either_tongue(
    said: object, code: str, message: str
) -> None:
    told = complaints.read_event(json.dumps(said).encode())
    assert (told.code, told.message) == (code, message)


@given(
    st.binary(max_size=80), st.integers(300, 599), st.sampled_from(Tongue), st.binary(max_size=9)
)
def test_whatever_comes_there_is_something_to_tell(
    body: bytes, status: int, tongue: Tongue, wait: bytes
) -> None:
    told = complaints.read(status, body, tongue, wait)
    assert 400 <= told.status < 600
    assert told.retry_after.isprintable()
    assert complaints.read_event(body).code in STATUS_OF_CODE

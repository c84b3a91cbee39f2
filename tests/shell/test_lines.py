"""Lines of the access log: exact, and whatever a client sends, one valid line each."""

import datetime
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import RequestWire
from loomproxy.core.message import RequestHead
from loomproxy.core.outcome import COUNTED, Outcome, Spent
from loomproxy.core.units import Instant
from loomproxy.worker import lines
from loomproxy.worker.lines import combined_line, json_line, line_for

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, 789_000, datetime.UTC).timestamp()
BEGUN_AT = Instant(100.0)


@pytest.fixture(autouse=True)
def _time_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_offset_s", NOW - BEGUN_AT)


def head(*fields: bytes, target: bytes = b"/a?b=c", version: bytes = b"1.1") -> RequestHead:
    wire = RequestWire(Limits())
    wire.receive(
        b"\r\n".join((b"GET %s HTTP/%s" % (target, version), b"Host: A.example", *fields, b"", b""))
    )
    read = wire.poll()
    assert isinstance(read, RequestHead), read
    return read


def whole(request: RequestHead) -> Outcome:
    return Outcome(
        b"id-1",
        b"192.0.2.7",
        request,
        route="shop",
        pool="app",
        endpoint="http://10.0.0.1:80",
        status=200,
        attempts=2,
        reused=True,
        request_bytes=3,
        response_bytes=1234,
        begun_at=BEGUN_AT,
        connecting_at=Instant(100.001),
        opened_at=Instant(100.0035),
        answered_at=Instant(100.0105),
        ended_at=Instant(100.25),
    )


def refused() -> Outcome:
    return Outcome(
        b"id-2",
        b"::1",
        None,
        status=400,
        fault="request_malformed",
        termination="LR",
        begun_at=BEGUN_AT,
        answered_at=BEGUN_AT,
        ended_at=Instant(100.5),
    )


def test_whole_exchange_as_json() -> None:
    assert json_line(whole(head())) == (
        b'{"time":"2026-02-03T04:05:06.789Z","request_id":"id-1","client_ip":"192.0.2.7",'
        b'"method":"GET","host":"A.example","target":"/a?b=c","protocol":"HTTP/1.1",'
        b'"status":200,"termination":"--","fault":null,"route":"shop","pool":"app",'
        b'"endpoint":"http://10.0.0.1:80","attempts":2,"reused":true,"request_bytes":3,'
        b'"response_bytes":1234,"wait_ms":1.000,"connect_ms":2.500,"response_ms":7.000,'
        b'"body_ms":239.500,"total_ms":250.000}\n'
    )


def test_refused_head_as_json() -> None:
    assert json_line(refused()) == (
        b'{"time":"2026-02-03T04:05:06.789Z","request_id":"id-2","client_ip":"::1",'
        b'"method":null,"host":null,"target":null,"protocol":null,'
        b'"status":400,"termination":"LR","fault":"request_malformed","route":"-","pool":"-",'
        b'"endpoint":"-","attempts":0,"reused":false,"request_bytes":0,"response_bytes":0,'
        b'"wait_ms":null,"connect_ms":null,"response_ms":null,"body_ms":500.000,'
        b'"total_ms":500.000}\n'
    )


def test_whole_exchange_as_combined() -> None:
    request = head(b"Referer: http://b.example/", b"User-Agent: curl/8", version=b"1.0")
    assert combined_line(whole(request)) == (
        b'192.0.2.7 - - [03/Feb/2026:04:05:06 +0000] "GET /a?b=c HTTP/1.0" 200 1234 '
        b'"http://b.example/" "curl/8" id-1 --\n'
    )


def test_refused_head_as_combined() -> None:
    assert combined_line(refused()) == (
        b'::1 - - [03/Feb/2026:04:05:06 +0000] "-" 400 0 "-" "-" id-2 LR\n'
    )


def test_odd_bytes_are_escaped_so_that_nobody_forges_a_line() -> None:
    request = head(b'User-Agent: a"\\b\tc\xff', b"Referer:", target=b"/?\\")
    assert combined_line(whole(request)).endswith(
        b'"GET /?\\x5C HTTP/1.1" 200 1234 "-" "a\\x22\\x5Cb\\x09c\\xFF" id-1 --\n'
    )
    assert json.loads(json_line(whole(request)))["target"] == "/?\\"


def test_forms_have_the_names_of_the_configuration() -> None:
    assert line_for("json") is json_line
    assert line_for("combined") is combined_line


@pytest.mark.parametrize("moment", [0.0, 59.2105, 59.2115, 3600.9999, 86_399.9999])
def test_time_is_cut_and_never_rounded_up_into_another_day(moment: float) -> None:
    outcome = refused()
    outcome.begun_at = Instant(BEGUN_AT + moment)
    told = datetime.datetime.fromisoformat(json.loads(json_line(outcome))["time"])
    assert 0 <= NOW + moment - told.timestamp() < 0.0011


def test_clock_follows_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "wall", lambda: NOW + 3600)
    monkeypatch.setattr(lines, "monotonic", lambda: BEGUN_AT)
    lines.refresh_clock()
    assert json.loads(json_line(refused()))["time"] == "2026-02-03T05:05:06.789Z"


ANY_BYTES = st.binary(max_size=40)
COMBINED = re.compile(
    rb'[^ ]+ - - \[[^\]]+\] "[ !#-~]*" \d+ \d+ "[ !#-~]*" "[ !#-~]*" [^ ]+ [^ ]{2}\n'
)


@given(ANY_BYTES, ANY_BYTES, ANY_BYTES, st.floats(0, 1e9), st.integers(0, 1 << 62))
def test_every_outcome_is_one_valid_line(
    target: bytes, authority: bytes, agent: bytes, ended_at: float, size: int
) -> None:
    request = RequestHead(
        method=target[:3],
        target=target,
        path=target,
        query=b"",
        minor_version=1,
        authority=authority,
        host=authority,
        framing=head().framing,
        body_bytes=0,
        keep_alive=True,
        expect_continue=False,
        upgrade=b"",
        nominated=(),
        block=b"User-Agent: %s\r\n" % agent.translate(None, b"\r\n"),
    )
    outcome = whole(request)
    outcome.ended_at = Instant(ended_at)
    outcome.response_bytes = size
    told = json_line(outcome)
    assert told.count(b"\n") == 1
    assert told.isascii()
    assert json.loads(told)["response_bytes"] == size
    assert COMBINED.fullmatch(combined_line(outcome))


def test_hosts_that_strangers_make_up_are_not_kept() -> None:
    lines._method_and_host.cache_clear()
    for size in (lines.HOST_BYTES_REMEMBERED_MAX, lines.HOST_BYTES_REMEMBERED_MAX + 1):
        request = structs.replace(head(), authority=b"a" * size)
        assert json.loads(json_line(whole(request)))["host"] == "a" * size
    assert lines._method_and_host.cache_info().currsize == 1


def test_a_chat_tells_what_it_took() -> None:
    plain, told = whole(head()), whole(head())
    told.chat = Spent("acme", "m1", 5, 3, COUNTED, stream=True)
    seen, without = json.loads(json_line(told)), json.loads(json_line(plain))
    assert {name: seen[name] for name in seen if name not in without} == {
        "provider": "acme",
        "model": "m1",
        "stream": True,
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "usage_from": "provider",
        "provider_error": None,
    }
    told.chat = Spent("acme", "m1", 0, 0, COUNTED, stream=False, provider_error="timeout")
    assert json.loads(json_line(told))["provider_error"] == "timeout"

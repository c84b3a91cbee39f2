"""What routing reads of a request body, and the body that goes on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.dialect import LOOM, OPENAI, Dialect
from loomproxy.core.chat.request import Asked, for_provider, read

MESSAGES = '"messages":[{"role":"user","content":"\u00e9"}]'


def asked(body: str | bytes, dialect: Dialect = OPENAI, *, streams: bool = False) -> Asked:
    said = read(body.encode() if isinstance(body, str) else body, dialect, streams=streams)
    assert isinstance(said, Asked), said
    return said


def sent(
    body: str,
    model: str = "m",
    *,
    stream: bool = False,
    with_usage: bool = False,
    loom: bool = False,
) -> str:
    one = asked(body, LOOM if loom else OPENAI)
    return for_provider(one, model, stream=stream, with_usage=with_usage).decode()


@pytest.mark.parametrize("dialect", [OPENAI, LOOM])
@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"a":1}x', b"\xff", b'{"a":' * 99_999])
def test_what_is_no_object_is_refused(body: bytes, dialect: Dialect) -> None:
    said = read(body, dialect, streams=False)
    assert isinstance(said, Complaint)
    assert said.status == 400
    assert said.message.startswith("The request body is not a JSON object: ")


@pytest.mark.parametrize(
    ("dialect", "body", "param"),
    [
        (OPENAI, "{}", "model"),
        (OPENAI, '{"model":null}', "model"),
        (OPENAI, '{"model":""}', "model"),
        (OPENAI, '{"model":7}', "model"),
        (OPENAI, '{"model":"m","stream":"yes"}', "stream"),
        (OPENAI, '{"model":"m","Model":"n"}', "model"),
        (OPENAI, '{"model":"m","\u017ftream":true}', "stream"),
        (LOOM, f'{{"provider_id":"a","PROVIDER_ID":"b",{MESSAGES}}}', "provider_id"),
        (OPENAI, '{"model":"m","stream_options":[]}', "stream_options"),
        (LOOM, f'{{"model":"m",{MESSAGES}}}', "provider_id"),
        (LOOM, f'{{"provider_id":{{}},{MESSAGES}}}', "provider_id"),
        (LOOM, '{"provider_id":"a"}', "messages"),
        (LOOM, '{"provider_id":"a","messages":[]}', "messages"),
        (LOOM, '{"provider_id":"a","messages":{}}', "messages"),
        (LOOM, '{"provider_id":"a","messages":null}', "messages"),
    ],
)
def test_a_field_that_is_wrong_is_named(dialect: Dialect, body: str, param: str) -> None:
    said = read(body.encode(), dialect, streams=False)
    assert isinstance(said, Complaint)
    assert (said.status, said.code, said.param) == (400, "invalid_request", param)
    assert said.message.startswith(f"`{param}` ")


def test_what_is_asked_for() -> None:
    one = asked('{"model":"a/m","stream":true,"stream_options":{"include_usage":true}}')
    assert (one.model, one.provider, one.stream, one.wants_usage) == ("a/m", "", True, True)
    other = asked(f'{{"provider_id":"a",{MESSAGES},"stream":null}}', LOOM)
    assert (other.model, other.provider, other.stream, other.wants_usage) == ("", "a", False, False)
    assert asked('{"model":"m"}', streams=True).stream
    assert not asked('{"model":"m","stream_options":null}').wants_usage


@pytest.mark.parametrize(
    "body",
    [
        '{"model" : "m",\n "x": [1.50, 2e3], "tools":[{"a":{}}]}',
        '{"model":"m","stream":false}',
        '{"model":"m","stream":null}',
    ],
)
def test_where_nothing_changes_the_very_bytes_go_on(body: str) -> None:
    assert sent(body) == body


def test_a_stream_s_bytes_go_on_as_well() -> None:
    body = '{"stream": true, "model": "m", "stream_options": {"include_usage": true}}'
    assert sent(body, stream=True, with_usage=True) == body


def test_the_model_alone_is_exchanged() -> None:
    assert (
        sent('{"z": 1.0, "model": "a/m",  "big": 12345678901234567890123, "y": "\u00e9"}')
        == '{"z":1.0,"model":"m","big":12345678901234567890123,"y":"\u00e9"}'
    )


@pytest.mark.parametrize(
    "body",
    ['{"model":"n","model":"m"}', '{"model":"n","\\u006dodel":"m"}'],
)
def test_a_field_that_stands_twice_is_said_once(body: str) -> None:
    assert sent(body) == '{"model":"m"}'


def test_a_provider_gets_no_name_of_itself() -> None:
    body = f'{{"provider_id":"a",{MESSAGES}}}'
    assert sent(body, loom=True) == f'{{{MESSAGES},"model":"m"}}'


@pytest.mark.parametrize(
    ("body", "stream", "goes"),
    [
        ('{"model":"m"}', True, '{"model":"m","stream":true}'),
        ('{"stream":false,"model":"m"}', True, '{"stream":true,"model":"m"}'),
        ('{"stream":true,"model":"m","stream_options":{}}', False, '{"stream":false,"model":"m"}'),
    ],
)
def test_a_stream_is_asked_for_or_not(body: str, stream: bool, goes: str) -> None:
    assert sent(body, stream=stream) == goes


@pytest.mark.parametrize(
    ("options", "goes"),
    [
        ("", '{"include_usage":true}'),
        (',"stream_options":null', '{"include_usage":true}'),
        (
            ',"stream_options":{"include_usage": false,"x":1}',
            '{"include_usage":true,"x":1}',
        ),
    ],
)
def test_usage_is_asked_for(options: str, goes: str) -> None:
    body = f'{{"model":"m","stream":true{options}}}'
    assert (
        sent(body, stream=True, with_usage=True)
        == f'{{"model":"m","stream":true,"stream_options":{goes}}}'
    )
    assert "include_usage" not in sent(body, stream=False, with_usage=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
OWNED = st.sampled_from(["model", "stream", "provider_id", "stream_options", "messages", "x"])


@given(st.binary(max_size=60), st.sampled_from([OPENAI, LOOM]), st.booleans())
def test_any_bytes_are_read_or_refused(body: bytes, dialect: Dialect, streams: bool) -> None:
    assert isinstance(read(body, dialect, streams=streams), Asked | Complaint)


@given(st.dictionaries(OWNED, JSON), st.sampled_from([OPENAI, LOOM]), st.booleans(), st.booleans())
def test_all_else_is_carried_over(
    fields: dict[str, object], dialect: Dialect, stream: bool, with_usage: bool
) -> None:
    said = read(json.dumps(fields).encode(), dialect, streams=False)
    if isinstance(said, Complaint):
        return
    body = json.loads(for_provider(said, "m", stream=stream, with_usage=with_usage))
    assert body["model"] == "m"
    assert bool(body.get("stream")) is stream
    for name in ("messages", "x"):
        assert body.get(name) == fields.get(name)

"""What one exchange knows of its chat."""

import pytest

from loomproxy.core.chat.catalogue import Target
from loomproxy.core.chat.completion import Usage
from loomproxy.core.chat.dialect import OPENAI
from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.chat.request import Asked, read
from loomproxy.core.chat.talk import Talk
from loomproxy.core.outcome import COUNTED, ESTIMATED, UNANSWERED, Spent

BODY = b'{"model":"m","stream":true,"pad":"................"}'


def asked(body: bytes = BODY) -> Asked:
    said = read(body, OPENAI, streams=False)
    assert isinstance(said, Asked)
    return said


def talk(**provider: object) -> Talk:
    one = Talk(OPENAI, streams=False)
    one.decide(asked(), Target(Provider("acme", models=(Model("m"),), **provider), "m"))
    return one


def test_nobody_was_asked_yet() -> None:
    one = Talk(OPENAI, streams=False)
    assert one.spent() is None
    assert not one.asks_stream


@pytest.mark.parametrize(
    ("streaming", "streams", "body", "wants", "asks"),
    [
        (True, False, BODY, True, True),
        (False, False, BODY, True, False),
        (True, True, b'{"model":"m"}', True, True),
        (True, False, b'{"model":"m"}', False, False),
    ],
)
def test_a_stream_is_asked_of_who_has_streams(
    streaming: bool, streams: bool, body: bytes, wants: bool, asks: bool
) -> None:
    one = Talk(OPENAI, streams=streams)
    target = Target(Provider("acme", streaming=streaming), "m")
    assert (b'"stream":true' in one.decide(asked(body), target)) is asks
    assert (one.wants_stream, one.asks_stream) == (wants, asks)


def test_usage_is_asked_of_who_would_not_tell_it() -> None:
    for tongue, told in ((Tongue.OPENAI, True), (Tongue.PLUGIN, False)):
        one = Talk(OPENAI, streams=False)
        sent = one.decide(asked(), Target(Provider("acme", tongue=tongue), "m"))
        assert (b"include_usage" in sent) is told
        assert one.body_bytes == len(sent)


@pytest.mark.parametrize(
    ("status", "is_stream", "streams"),
    [(200, True, True), (200, False, False), (429, True, False), (302, True, False)],
)
def test_only_a_stream_that_was_asked_for_is_one(
    status: int, is_stream: bool, streams: bool
) -> None:
    one = talk()
    one.answer += b"of an earlier attempt"
    one.begin_answer(status, is_stream=is_stream, retry_after=b"1")
    assert (one.stream is not None) is streams
    assert (one.ok, one.status, one.retry_after) == (status == 200, status, b"1")
    assert not one.answer
    other = talk(streaming=False)
    other.begin_answer(200, is_stream=True, retry_after=None)
    assert other.stream is None


def test_what_it_took() -> None:
    one = talk()
    assert one.spent() == Spent("acme", "m", 0, 0, UNANSWERED, stream=True)
    one.begin_answer(200, is_stream=False, retry_after=None)
    one.answer += b"x" * 40
    assert one.spent() == Spent("acme", "m", len(BODY) // 4, 10, ESTIMATED, stream=True)
    one.usage = Usage(5, 6)
    assert one.spent() == Spent("acme", "m", 5, 6, COUNTED, stream=True)


def test_what_a_stream_took() -> None:
    one = talk()
    one.begin_answer(200, is_stream=True, retry_after=None)
    assert one.stream is not None
    one.stream.take(b'data: {"choices":[{}]}\n\n', ended=False)
    assert one.spent() == Spent("acme", "m", len(BODY) // 4, 1, ESTIMATED, stream=True)
    one.stream.take(b'data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n', ended=False)
    assert one.spent() == Spent("acme", "m", 1, 2, COUNTED, stream=True)

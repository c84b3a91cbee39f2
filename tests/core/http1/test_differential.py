"""`loomproxy.core.http1` beside h11: what we accept, it reads alike, at every cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.http1.cuts import cuts, requests, responses
from tests.core.http1.grammar import (
    CHUNKED,
    REQUESTS,
    RESPONSES,
    USUAL_REQUESTS,
    USUAL_RESPONSES,
    mutated,
)
from tests.core.http1.heard import alike, heard_requests, heard_response
from tests.core.http1.test_corpus import REQUESTS as REQUEST_CASES
from tests.core.http1.test_corpus import RESPONSES as RESPONSE_CASES
from tests.fuzz.lane import lane_request, lane_response

SHORT = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"
METHODS = st.sampled_from([b"GET", b"GET", b"HEAD", b"POST"])
CHUNKED_HEADS = {
    "request": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "response": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


def near(cases: list[dict[str, str]]) -> st.SearchStrategy[bytes]:
    """Near any case, most often one that is accepted: there is more to be read alike."""
    accepted = [case for case in cases if case["verdict"] == "accepted"]
    return mutated([case["bytes"].encode("latin-1") for case in [*cases, *accepted * 3]])


def requests_are_read_alike(data: bytes) -> None:
    whole = requests([data])
    for pieces in cuts(data):
        assert requests(pieces) == whole, pieces
    alike(whole, heard_requests(data))


def responses_are_read_alike(data: bytes, method: bytes) -> None:
    whole = responses([data], method)
    for pieces in cuts(data):
        assert responses(pieces, method) == whole, pieces
    alike(whole, heard_response(data, method))


@settings(max_examples=60)
@given(REQUESTS)
def test_requests_made_up_by_a_grammar(data: bytes) -> None:
    requests_are_read_alike(data)


@settings(max_examples=40)
@given(st.one_of(USUAL_REQUESTS, REQUESTS))
def test_requests_that_come_again_and_another_behind_them(data: bytes) -> None:
    whole = requests([data + data + SHORT])
    for at in range(1, len(data)):
        assert requests([data, data[:at], data[at:], SHORT]) == whole, at


@settings(max_examples=60)
@given(near(REQUEST_CASES))
def test_requests_near_those_of_the_corpus(data: bytes) -> None:
    requests_are_read_alike(data)


@settings(max_examples=60)
@given(RESPONSES, METHODS)
def test_responses_made_up_by_a_grammar(data: bytes, method: bytes) -> None:
    responses_are_read_alike(data, method)


@settings(max_examples=60)
@given(near(RESPONSE_CASES), METHODS)
def test_responses_near_those_of_the_corpus(data: bytes, method: bytes) -> None:
    responses_are_read_alike(data, method)


@settings(max_examples=60)
@given(CHUNKED)
def test_bodies_in_chunks_end_for_h11_where_they_end_for_us(text: str) -> None:
    body = text.encode("latin-1", "replace")
    requests_are_read_alike(CHUNKED_HEADS["request"] + body)
    responses_are_read_alike(CHUNKED_HEADS["response"] + body, b"GET")


@settings(max_examples=120)
@given(st.one_of(USUAL_REQUESTS, USUAL_REQUESTS, REQUESTS, near(REQUEST_CASES)))
def test_the_lane_reads_a_request_as_the_slow_way_and_h11_do(data: bytes) -> None:
    lane_request(data)


@settings(max_examples=120)
@given(st.one_of(USUAL_RESPONSES, USUAL_RESPONSES, RESPONSES, near(RESPONSE_CASES)))
def test_the_lane_reads_a_response_as_the_slow_way_and_h11_do(data: bytes) -> None:
    lane_response(data)

"""Malformed and smuggling messages meet their verdict, at every cut; what leaves is as stated."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from loomproxy.core import hygiene
from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.framing import chunk, last_chunk
from loomproxy.core.http1.limits import Limits
from loomproxy.core.http1.wire import ResponseWire
from loomproxy.core.hygiene import ForwardPolicy, Peer, Values
from loomproxy.core.message import Framing, RequestHead, Response, ResponseHead
from loomproxy.core.route.action import WEBSOCKET_ONLY
from tests.core.http1.cuts import Seen, cuts, requests, responses

CORPUS = Path(__file__).parents[2] / "corpus"
SILENT = ForwardPolicy(x_forwarded=False, via=b"", request_id_header=b"")
STRANGER = Peer(ip=b"9.9.9.9", port=1, trusted=False)
ENDPOINT = b"endpoint.example"

Case = dict[str, Any]


def load(name: str) -> list[Case]:
    cases: list[Case] = tomllib.loads((CORPUS / name).read_text())["case"]
    keys = [(case["name"], case.get("side")) for case in cases]
    assert len(set(keys)) == len(keys)
    return cases


STANCES = load("stances.toml")
REQUESTS = load("requests.toml") + [case for case in STANCES if "side" not in case]
RESPONSES = load("responses.toml") + [case for case in STANCES if "side" in case]


def verdict(seen: Seen) -> object:
    refused = [what[1] for what in seen if isinstance(what, tuple) and what[0] == "refused"]
    assert len(refused) <= 1
    return refused[0] if refused else "accepted"


def limits_of(case: Case) -> Limits:
    return Limits(**case.get("limits", {}))


def method_of(case: Case) -> bytes:
    method: str = case.get("method", "GET")
    return method.encode()


def up(seen: Seen) -> bytes:
    """What the upstream is sent for the one request that was seen."""
    head = seen[0]
    assert isinstance(head, RequestHead)
    upgrade = head.framing is Framing.NONE and head.upgrade in WEBSOCKET_ONLY
    sent = hygiene.request_up(
        head,
        peer=STRANGER,
        policy=SILENT,
        target=head.target,
        host=None if head.authority else ENDPOINT,
        ops=None,
        upgrade=upgrade,
        request_id=b"",
        values=Values,
    )
    return sent + body(seen[1:], head.framing)


def down(seen: Seen) -> bytes:
    """What a client of HTTP/1.1 is sent of what the upstream answered."""
    asked = requests([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])[0]
    assert isinstance(asked, RequestHead)
    sent = b""
    framing = Framing.NONE
    for at, head in enumerate(seen):
        if not isinstance(head, ResponseHead):
            return sent + body(seen[at:], framing)
        framing = Framing.CHUNKED if head.framing is Framing.CLOSE else head.framing
        sent += hygiene.response_down(
            head,
            asked,
            policy=SILENT,
            ops=None,
            keep_alive=True,
            framing=framing,
            request_id=b"",
            values=Values,
        )
    return sent


def body(seen: Seen, framing: Framing) -> bytes:
    """What is sent for a body that was seen."""
    sent = b""
    for what in seen:
        assert isinstance(what, tuple)
        kind, data = what
        if kind == "body":
            sent += chunk(data) if framing is Framing.CHUNKED else data
        elif kind == "end" and framing is Framing.CHUNKED:
            sent += last_chunk(hygiene.trailers(data))
    return sent


def reusable(case: Case) -> bool:
    """Whether the connection may carry another exchange after the answer."""
    wire = ResponseWire(limits_of(case))
    wire.expect(method_of(case))
    wire.receive(case["bytes"].encode("latin-1"))
    keep = False
    while (what := wire.poll()) is not None:
        head = what.head if isinstance(what, Response) else what
        if isinstance(head, ResponseHead):
            keep = head.keep_alive
    return keep and wire.clean


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_a_request_meets_its_verdict_however_it_is_cut(case: Case) -> None:
    data = case["bytes"].encode("latin-1")
    limits = limits_of(case)
    whole = requests([data], limits)
    assert verdict(whole) == case["verdict"]
    if case["verdict"] == "accepted":
        assert whole
    for pieces in cuts(data):
        assert requests(pieces, limits) == whole, pieces


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["name"])
def test_a_response_meets_its_verdict_however_it_is_cut(case: Case) -> None:
    data = case["bytes"].encode("latin-1")
    method, limits = method_of(case), limits_of(case)
    whole = responses([data], method, limits)
    assert verdict(whole) == case["verdict"]
    for pieces in cuts(data):
        assert responses(pieces, method, limits) == whole, pieces


@pytest.mark.parametrize(
    "case", [case for case in REQUESTS if "up" in case], ids=lambda case: case["name"]
)
def test_the_upstream_is_sent_what_the_case_says(case: Case) -> None:
    assert up(requests([case["bytes"].encode("latin-1")])) == case["up"].encode("latin-1")


@pytest.mark.parametrize(
    "case", [case for case in RESPONSES if "down" in case], ids=lambda case: case["name"]
)
def test_the_client_is_sent_what_the_case_says(case: Case) -> None:
    seen = responses([case["bytes"].encode("latin-1")], method_of(case))
    seen = [what for what in seen if not (isinstance(what, tuple) and what[0] == "rest")]
    assert down(seen) == case["down"].encode("latin-1")


def test_only_what_a_case_says_is_answered_here() -> None:
    for case in REQUESTS:
        seen = requests([case["bytes"].encode("latin-1")], limits_of(case))
        for_us = any(head.for_us for head in seen if isinstance(head, RequestHead))
        assert for_us is ("answered" in case), case["name"]


@pytest.mark.parametrize(
    "case", [case for case in RESPONSES if "reused" in case], ids=lambda case: case["name"]
)
def test_a_connection_is_reused_only_after_an_answer_beyond_doubt(case: Case) -> None:
    assert reusable(case) is case["reused"]


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_the_lane_never_reads_a_request_otherwise_than_h11_behind_our_refusals(case: Case) -> None:
    raw, end, _ = case["bytes"].encode("latin-1").partition(b"\r\n\r\n")
    limits = limits_of(case)
    if raw and end:
        quick = lane.request(raw + end, limits, None)
        assert quick is None or quick == slow.request(raw + end, limits)


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["name"])
def test_the_lane_never_reads_a_response_otherwise_than_h11_behind_our_refusals(case: Case) -> None:
    raw, end, _ = case["bytes"].encode("latin-1").partition(b"\r\n\r\n")
    method, limits = method_of(case), limits_of(case)
    if raw and end:
        quick = lane.response(raw + end, method, limits)
        assert quick is None or quick == slow.response(raw + end, method, limits)

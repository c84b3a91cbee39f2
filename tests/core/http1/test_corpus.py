"""Malformed and smuggling messages meet their verdict, at every cut."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits
from tests.core.http1.cuts import Seen, cuts, requests, responses

CORPUS = Path(__file__).parents[2] / "corpus"


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = tomllib.loads((CORPUS / name).read_text())["case"]
    assert len({case["name"] for case in cases}) == len(cases)
    return cases


REQUESTS = load("requests.toml")
RESPONSES = load("responses.toml")
BY_NAME = {case["name"]: case for case in REQUESTS}


def verdict(seen: Seen) -> object:
    refused = [what[1] for what in seen if isinstance(what, tuple) and what[0] == "refused"]
    assert len(refused) <= 1
    return refused[0] if refused else "accepted"


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_a_request_meets_its_verdict_however_it_is_cut(case: dict[str, Any]) -> None:
    data = case["bytes"].encode("latin-1")
    whole = requests([data])
    assert verdict(whole) == case["verdict"]
    if case["verdict"] == "accepted":
        assert whole
    for pieces in cuts(data):
        assert requests(pieces) == whole, pieces


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["name"])
def test_a_response_meets_its_verdict_however_it_is_cut(case: dict[str, Any]) -> None:
    data = case["bytes"].encode("latin-1")
    method = case.get("method", "GET").encode()
    whole = responses([data], method)
    assert verdict(whole) == case["verdict"]
    for pieces in cuts(data):
        assert responses(pieces, method) == whole, pieces


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_the_lane_never_reads_a_request_otherwise_than_h11_behind_our_refusals(
    case: dict[str, Any],
) -> None:
    raw, end, _ = case["bytes"].encode("latin-1").partition(b"\r\n\r\n")
    if raw and end:
        quick = lane.request(raw + end, Limits(), None)
        assert quick is None or quick == slow.request(raw + end, Limits())


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["name"])
def test_the_lane_never_reads_a_response_otherwise_than_h11_behind_our_refusals(
    case: dict[str, Any],
) -> None:
    raw, end, _ = case["bytes"].encode("latin-1").partition(b"\r\n\r\n")
    method = case.get("method", "GET").encode()
    if raw and end:
        quick = lane.response(raw + end, method, Limits())
        assert quick is None or quick == slow.response(raw + end, method, Limits())

"""What is published about smuggling meets its verdict on the wire, cut wherever a line may be."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from loomproxy.core.http1 import lane, slow
from loomproxy.core.http1.limits import Limits
from loomproxy.core.message import RequestHead, ResponseHead
from tests.core.http1.cuts import Seen, requests, responses
from tests.support import corpus
from tests.support.corpus import RequestCase, ResponseCase

REQUESTS = corpus.by_family(corpus.requests("smuggling.toml"))
RESPONSES = corpus.by_family(corpus.responses("poisoning.toml"))
BYTEWISE_BYTES_MAX = 512  # What is longer tries a limit, not a grammar.


def verdict(seen: Seen) -> object:
    refused = [what[1] for what in seen if isinstance(what, tuple) and what[0] == "refused"]
    assert len(refused) <= 1
    return refused[0] if refused else "accepted"


def tricky_cuts(data: bytes) -> Iterator[list[bytes]]:
    """Byte by byte, and in two around everything that is neither letter nor digit."""
    if len(data) > BYTEWISE_BYTES_MAX:
        yield [data[: len(data) // 2], data[len(data) // 2 :]]
        return
    yield [data[at : at + 1] for at in range(len(data))]
    places = {at for match in re.finditer(rb"[^0-9A-Za-z /-]", data) for at in match.span()}
    for at in sorted(places - {0, len(data)}):
        yield [data[:at], data[at:]]


def what_passes(head: object) -> object:
    """A head without the spelling of Transfer-Encoding, which h11 lowers and which never passes."""
    if not isinstance(head, RequestHead | ResponseHead):
        return head
    block = re.sub(rb"(?im)^transfer-encoding:.*\n", b"", head.block)
    return msgspec.structs.replace(head, block=block)


def head_of(data: bytes) -> bytes:
    raw, end, _ = data.partition(b"\r\n\r\n")
    return raw + end if raw and end else b""


@pytest.mark.parametrize("family", REQUESTS)
def test_a_published_request_meets_its_verdict_however_it_is_cut(family: str) -> None:
    for case in REQUESTS[family]:
        assert isinstance(case, RequestCase)
        data = case.text().encode("latin-1")
        whole = requests([data])
        assert verdict(whole) == case.verdict, case.name
        for pieces in tricky_cuts(data):
            assert requests(pieces) == whole, (case.name, pieces)


@pytest.mark.parametrize("family", RESPONSES)
def test_a_published_response_meets_its_verdict_however_it_is_cut(family: str) -> None:
    for case in RESPONSES[family]:
        assert isinstance(case, ResponseCase)
        data, method = case.text().encode("latin-1"), case.method.encode()
        whole = responses([data], method)
        assert verdict(whole) == case.verdict, case.name
        for pieces in tricky_cuts(data):
            assert responses(pieces, method) == whole, (case.name, pieces)


@pytest.mark.parametrize("family", [*REQUESTS, *RESPONSES])
def test_the_lane_never_reads_it_otherwise_than_h11_behind_our_refusals(family: str) -> None:
    for case in [*REQUESTS.get(family, ()), *RESPONSES.get(family, ())]:
        raw = head_of(case.text().encode("latin-1"))
        if not raw:
            continue
        if isinstance(case, RequestCase):
            quick, careful = lane.request(raw, Limits(), None), slow.request(raw, Limits())
        else:
            method = case.method.encode()
            quick = lane.response(raw, method, Limits())
            careful = slow.response(raw, method, Limits())
        assert quick is None or what_passes(quick) == what_passes(careful), case.name

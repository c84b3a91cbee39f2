"""The corpus is what its format says: a slip in a case is seen, not read past."""

import msgspec
import pytest

from tests.support import corpus
from tests.support.corpus import Client, RequestCase, ResponseCase, Wanted

PLAIN = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


def case(text: str, verdict: str = "accepted", **more) -> RequestCase:
    return RequestCase(name="n", source="s", verdict=verdict, bytes=text, **more)


def test_a_misspelt_key_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    file = tmp_path / "some.toml"
    text = '[[case]]\nname = "n"\nsource = "s"\nverdict = "accepted"\nbytes = ""\n'
    file.write_text(text)
    assert [each.key for each in corpus.requests("some.toml")] == ["some: n"]
    file.write_text(text + "upstreams = []\n")
    with pytest.raises(msgspec.ValidationError, match="upstreams"):
        corpus.requests("some.toml")


def test_two_cases_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    one = '[[case]]\nname = "n"\nsource = "s"\nverdict = "accepted"\nbytes = ""\n'
    (tmp_path / "some.toml").write_text(one + one)
    with pytest.raises(AssertionError, match="some: n"):
        corpus.requests("some.toml")


def test_a_plain_accepted_request_must_arrive_as_it_was_sent():
    plain = case(PLAIN)
    assert plain.wanted() == [Wanted(target="/x", host="h")]
    assert plain.seen() == Client(statuses=[200], then="kept")
    assert case(PLAIN.replace("1.1", "1.0")).seen().then == "closed"


@pytest.mark.parametrize(
    "text", ["GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", PLAIN + "body", PLAIN + PLAIN + "x"]
)
def test_what_is_not_plain_must_say_what_arrives(text: str):
    with pytest.raises(ValueError, match="say `upstream`"):
        case(text).wanted()


def test_a_refused_request_is_answered_with_its_fault_and_closed():
    refused = case("GET / HTTP/2.0\r\n\r\n", "version_unsupported")
    assert refused.wanted() == []
    assert refused.seen() == Client(statuses=[505], then="closed")


def test_a_client_that_left_is_not_answered():
    left = case("GET", "client_left")
    assert left.leaves()
    assert left.seen() == Client(statuses=[], then="closed")


def test_an_upstream_that_sends_nonsense_is_a_502_and_one_that_stops_is_a_cut_answer():
    bad = ResponseCase(name="n", source="s", verdict="upstream_malformed", bytes="nonsense")
    assert bad.seen() == Client(statuses=[502], then="kept")
    start = "HTTP/1.1 203 X\r\nContent-Length: 5\r\n\r\n"
    cut = ResponseCase(name="n", source="s", verdict="upstream_cut", bytes=start)
    assert cut.seen() == Client(statuses=[203], then="closed", cut=True)
    with pytest.raises(ValueError, match="say `client`"):
        ResponseCase(name="n", source="s", verdict="accepted", bytes=start).seen()


def test_what_is_too_long_to_write_out_is_filled_in():
    filled = case("a@b", fill=corpus.Fill(text="xy", times=3))
    assert filled.text() == "axyxyxyb"


def test_the_readme_counts_the_cases():
    readme = (corpus.CORPUS / "README.md").read_text()
    assert corpus.counts() in readme, f"write these counts there:\n{corpus.counts()}"


def test_every_case_says_where_it_comes_from_and_what_becomes_of_it():
    for each in corpus.every():
        assert each.source.strip(), each.key
        assert each.seen().statuses or each.seen().then == "closed", each.key
        if isinstance(each, RequestCase):
            each.wanted()

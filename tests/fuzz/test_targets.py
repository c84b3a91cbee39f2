"""The fuzz targets hold for the corpus, for what fuzzing found, and for some inputs near these."""

import functools
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.core.http1 import framing, lane
from loomproxy.core.hygiene import heads, identity, plan
from loomproxy.core.message import Framing
from tests.fuzz.targets import FOUND, TARGETS, found

MANY = 300
FIRST_OF_EVERY = 3
"""Of many inputs: the corpus is also held to its verdicts, at every cut, by tests of its own."""

BY_NAME = pytest.mark.parametrize("name", TARGETS)


@functools.cache
def held(name: str) -> tuple[bytes, ...]:
    """What each run of the fuzzer begins with."""
    return (*TARGETS[name].seeds(), *(data for _, data in found(name)))


def near(data: bytes, words: list[str]) -> st.SearchStrategy[bytes]:
    """An input with something else in one place."""
    word = st.sampled_from(words).map(lambda text: text.encode("latin-1"))
    put = st.one_of(st.binary(max_size=3), word) if words else st.binary(max_size=8)
    place = st.integers(0, len(data))
    return st.builds(
        lambda at, gone, new: data[:at] + new + data[at + gone :], place, st.integers(0, 4), put
    )


@BY_NAME
def test_a_target_holds_for_what_it_begins_with(name: str) -> None:
    step = FIRST_OF_EVERY if len(held(name)) > MANY else 1
    for data in (*held(name)[::step], *(data for _, data in found(name))):
        TARGETS[name].check(data)


@BY_NAME
@settings(max_examples=30)
@given(st.data())
def test_a_target_holds_near_what_it_begins_with(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(held(name)))
    target.check(data.draw(near(seed, target.words)))


def test_what_was_found_is_kept_for_targets_that_there_are() -> None:
    assert {path.stem for path in FOUND.glob("*.toml")} <= set(TARGETS)


def _caught(name: str) -> bool:
    """Whether a target is broken by one of the inputs that it begins with."""
    for data in held(name):
        try:
            TARGETS[name].check(data)
        except AssertionError:
            return True
    return False


_NAME = rb"[0-9A-Za-z-]++"
_SLACK_VALUE = rb": ?[\t -~\x80-\xff]*+"
_SIGNED = rb"([+-]?[0-9A-Fa-f]{1,15}+)((?:;[^\r]*+)?)"


def _lasting(*about: Any) -> Any:
    """A plan that says of all it makes that it is kept, whatever the operator's lines depend on."""
    made = plan.plan_for(*about)
    return SimpleNamespace(passed=made.passed, finish=made.finish, lasts=True)


@pytest.mark.parametrize(
    ("name", "module", "attribute", "wrong"),
    [
        (
            "lane_request",
            lane,
            "_REQUEST_BLOCK",
            re.compile(rb"(?:%b%b\r\n)+" % (_NAME, _SLACK_VALUE)),
        ),
        ("lane_response", lane, "response_framing", lambda *_args, **_more: Framing.CHUNKED),
        ("wire_request", plan.Plan, "strip", lambda _plan, block: block),
        ("wire_request", heads, "plan_for", _lasting),
        ("framing", framing, "_CHUNK_LINE", re.compile(_SIGNED)),
        ("identity", identity, "_forwarded_hops", lambda said: said.split(b",")),
    ],
)
def test_a_target_catches_a_seeded_bug(
    monkeypatch: pytest.MonkeyPatch, name: str, module: Any, attribute: str, wrong: Any
) -> None:
    monkeypatch.setattr(module, attribute, wrong)
    assert _caught(name)

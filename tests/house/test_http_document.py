"""docs/http.md says what the corpus proves: each row names cases, and they meet what it says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from loomproxy.core.fault import FAULTS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "http.md"
STANCE = re.compile(r"\*\*(refused|answered|cut|passed|normalised|dropped)(?:, (\d{3}))?\*\*")
Row = tuple[str, list[str]]


def corpus(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = tomllib.loads(
        (ROOT / "tests" / "corpus" / name).read_text(encoding="utf-8")
    )["case"]
    return cases


def cases(side: str) -> dict[str, dict[str, Any]]:
    """The cases of one side, by name."""
    own = corpus("requests.toml" if side == "client" else "responses.toml")
    own += [case for case in corpus("stances.toml") if case.get("side", "client") == side]
    return {case["name"]: case for case in own}


def rows(text: str, side: str) -> list[Row]:
    """Each row's stance, and the cases that it names."""
    title = "Requests" if side == "client" else "Responses"
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        if section.startswith(title):
            lines = [line for line in section.splitlines() if line.startswith("|")]
            cells = [line.strip("|").split(" | ") for line in lines[2:]]
            found += [(cell[1], re.findall(r"`([^`]+)`", cell[-1])) for cell in cells]
    return found


def disagreement(stance: str, case: dict[str, Any] | None, *, upstream: bool) -> str:
    """What a row says of a case that the case does not; "" if they agree."""
    said = STANCE.match(stance)
    if said is None:
        return "the row has no stance"
    if case is None:
        return "there is no such case"
    kind, status = said[1], int(said[2] or 0)
    fault = FAULTS.get(case["verdict"])
    if kind == "refused":
        agrees = fault is not None and status != 0 and fault.status == status
    elif kind == "cut":
        agrees = fault is not None and fault.status == 0
    elif kind == "answered":
        agrees = fault is None and case.get("answered") == status
    else:
        agrees = fault is None and "answered" not in case
    if agrees and upstream and "not reused" in stance:
        agrees = case["reused"] is False
    return "" if agrees else f"the case is {case['verdict']}"


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_every_row_names_cases_that_meet_what_it_says(side: str):
    known = cases(side)
    found = rows(DOCUMENT.read_text(encoding="utf-8"), side)
    assert found
    wrong = [
        (stance, name, why)
        for stance, names in found
        for name in names or ["(none)"]
        if (why := disagreement(stance, known.get(name), upstream=side == "upstream"))
    ]
    assert wrong == []


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_every_case_of_the_corpus_stands_in_the_document(side: str):
    found = rows(DOCUMENT.read_text(encoding="utf-8"), side)
    named = {name for _, names in found for name in names}
    assert set(cases(side)) - named == set()


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("| X | **refused, 400** | why | `HTTP/1.2` |", "version_unsupported"),
        ("| X | **refused, 505** | why | `HTTP/1.2` |", ""),
        ("| X | **passed** | why | `HTTP/1.2` |", "version_unsupported"),
        ("| X | **cut** | why | `HTTP/1.2` |", "version_unsupported"),
        ("| X | **refused, 400** | why | `GET with a body` |", "accepted"),
        ("| X | **passed** | why | `OPTIONS that may go no further` |", "accepted"),
        ("| X | **answered, 200** | why | `OPTIONS that may go no further` |", "accepted"),
        ("| X | **passed** | why | `no such case` |", "no such case"),
        ("| X | perhaps | why | `HTTP/1.2` |", "no stance"),
    ],
)
def test_a_row_that_says_otherwise_is_seen(row: str, wrong: str):
    text = f"## Requests: x\n\n| What | Here | Why | Cases |\n|---|---|---|---|\n{row}\n"
    ((stance, (name,)),) = rows(text, "client")
    said = disagreement(stance, cases("client").get(name), upstream=False)
    assert wrong in said
    assert bool(said) == bool(wrong)

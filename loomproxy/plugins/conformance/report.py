"""Verdicts as people and programs read them."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from loomproxy.plugins.conformance.verdict import Mark, Verdict

_CLAUSE_COLUMNS: Final = 29  # the longest id, and room
_INDENT: Final = " " * 6


def line(verdict: Verdict) -> str:
    """One verdict: mark, clause and sentence; below it what there is to say."""
    head = f"{verdict.mark.value}  {verdict.clause:<{_CLAUSE_COLUMNS}}{verdict.sentence}"
    if verdict.mark is Mark.PASS or not verdict.detail:
        return head
    if verdict.mark is Mark.SKIP:
        return f"{head}\n{_INDENT}not judged: {verdict.detail}"
    return f"{head}\n{textwrap.indent(verdict.detail, _INDENT)}"


def summary(name: str, verdicts: Sequence[Verdict]) -> str:
    """The last line; what failed is named once more, for it may have scrolled away."""
    counts = Counter(verdict.mark for verdict in verdicts)
    failed = counts[Mark.FAIL]
    result = "keeps the contract" if not failed else "does not keep the contract"
    return (
        f"{name} {result}: {counts[Mark.PASS]} passed, {failed} failed, "
        f"{counts[Mark.SKIP]} not judged{_named(verdicts)}"
    )


def _named(verdicts: Sequence[Verdict]) -> str:
    clauses = [verdict.clause for verdict in verdicts if verdict.mark is Mark.FAIL]
    return f"\nFailed: {', '.join(clauses)}" if clauses else ""


def document(name: str, verdicts: Sequence[Verdict]) -> str:
    """All of it as one JSON object."""
    value = {
        "target": name,
        "ok": all(verdict.ok for verdict in verdicts),
        "verdicts": [
            {
                "clause": verdict.clause,
                "verdict": verdict.mark.value,
                "sentence": verdict.sentence,
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ],
    }
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()

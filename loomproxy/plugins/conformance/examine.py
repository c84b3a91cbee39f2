"""An examination: all clauses in their order, each judged once, and the plugin ended after them."""

from collections.abc import Callable
from typing import Final

from loomproxy.plugins.conformance import chatting, leaving, setup, starting, streaming, transport
from loomproxy.plugins.conformance.scene import Scene
from loomproxy.plugins.conformance.target import Target
from loomproxy.plugins.conformance.verdict import Clause, Verdict, judge


def _without_last(clauses: list[Clause[Scene]]) -> tuple[list[Clause[Scene]], Clause[Scene]]:
    return clauses[:-1], clauses[-1]


_TRANSPORT, _ERRORS = _without_last(transport.CLAUSES.items)

CLAUSES: Final[tuple[Clause[Scene], ...]] = (
    *starting.CLAUSES.items,
    *setup.CLAUSES.items,
    *chatting.CLAUSES.items,
    *streaming.CLAUSES.items,
    *_TRANSPORT,
    leaving.CLAUSES.items[0],
    _ERRORS,  # of all that was asked
    *leaving.CLAUSES.items[1:],
)


async def examine(
    target: Target, told: Callable[[Verdict], None] = lambda _: None
) -> tuple[Verdict, ...]:
    """Every verdict, in order; each is `told` as soon as it is there."""
    scene = Scene(target)
    verdicts: dict[str, Verdict] = {}
    try:
        for clause in CLAUSES:
            verdict = await judge(clause, scene, target.kind, verdicts)
            verdicts[clause.id] = verdict
            told(verdict)
    finally:
        await scene.aclose()
    return tuple(verdicts.values())

"""Random worlds of chats: every rule holds in each, and seeded bugs are noticed."""

import pytest

from loomproxy.core.chat.stream import Stream
from loomproxy.core.exchange import CHAT_TABLE, chat_answering, chat_asking, chat_head
from loomproxy.core.exchange.state import State
from loomproxy.core.pool import Pool
from tests.sim.chats import ChatSim
from tests.sim.mutants import Mutant

WORLDS = 800
MUTANT_WORLDS_MAX = 1500


def test_worlds_hold_and_visit_the_whole_table() -> None:
    rows: set[tuple[str, type]] = set()
    for seed in range(WORLDS):
        ChatSim(seed, rows).run()
    unseen = [
        (phase.name, event.__name__)
        for phase, steps in CHAT_TABLE.items()
        for event in steps
        if (phase.value, event) not in rows
    ]
    assert not unseen, "the worlds are too tame: they never come here"


MUTANTS = (
    Mutant(
        "a stream that was cut is completed",
        chat_answering._break_off,
        "x.keep = False",
        "x.keep = False; x.hands.send_down(LAST_CHUNK)",
    ),
    Mutant(
        "a stream without its end is a good one",
        Stream.take,
        "elif ended:",
        "elif ended and not self.chunks:",
    ),
    Mutant(
        "bytes of chats are never given back",
        State.forget_chat,
        "self.world.chat_bytes -= chat.held_bytes",
        "pass",
    ),
    Mutant(
        "a provider is asked again and again",
        chat_answering._may_ask_again,
        "not chat.again",
        "True",
    ),
    Mutant(
        "another attempt goes to the generation that stops",
        chat_head.newest_pool,
        "x.world.pools.get(x.outcome.pool)",
        "x.pool or x.world.pools.get(x.outcome.pool)",
    ),
    Mutant(
        "a refusal of a provider is asked about again",
        chat_answering._may_ask_again,
        "said.transient and ",
        "",
    ),
    Mutant(
        "a guest is told the client's credentials",
        chat_head.head_up,
        "chat.lines,",
        "x.request.block,",
    ),
    Mutant(
        "the body goes up once",
        chat_answering._ask_again,
        "x.replay.rewind()",
        "pass",
    ),
    Mutant(
        "a body that is not whole is decided",
        chat_asking.on_part,
        "if part.ended:",
        "if part.ended or size < 10:",
    ),
    Mutant(
        "an answer that broke off keeps its connection",
        chat_answering._break_off,
        "x.let_go()\n    if not begun",
        "x.let_go(reusable=True)\n    if not begun",
    ),
    Mutant("who waits stays with the old generation", Pool.__init__, "ticket.pool = self", "pass"),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=repr)
def test_a_seeded_bug_is_caught(mutant: Mutant) -> None:
    with mutant.at_large():
        assert any(_breaks(seed) for seed in range(MUTANT_WORLDS_MAX)), "nobody noticed"


def _breaks(seed: int) -> bool:
    try:
        ChatSim(seed).run()
    except AssertionError:
        return True
    return False

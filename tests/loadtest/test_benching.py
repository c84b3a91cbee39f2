"""The micro-benchmark: what it counts, and what it says of a slow-down."""

import asyncio
from pathlib import Path

import pytest

from loadtest import benching
from loadtest.benchwork import Bench, pieces
from loadtest.counting import cost


def test_the_least_of_all_rounds_is_the_cost() -> None:
    ticks = iter([0, 100, 200, 240, 300, 420])
    assert cost(lambda: None, lambda: next(ticks), times=10, rounds=3) == 4.0


def test_a_piece_that_costs_a_fifth_more_is_complained_of_by_name() -> None:
    kept = {"small": 1.0, "large": 1.0}
    assert benching.slower({"small": 1.19, "large": 0.5}, kept) == []
    (complaint,) = benching.slower({"small": 1.21, "large": 1.0}, kept)
    assert complaint.startswith("small: costs 1.210 references")


def test_a_new_piece_asks_for_a_number() -> None:
    assert benching.slower({"new": 1.0}, {}) == ["new: has no kept number"]


def test_a_piece_that_is_gone_is_missed() -> None:
    assert benching.slower({}, {"gone": 1.0}) == ["gone: is kept and was not measured"]


def test_numbers_of_other_pythons_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "KEPT", tmp_path / "bench.toml")
    assert benching.read_kept() == {}
    monkeypatch.setattr(benching, "PYTHON", "3.99")
    benching.keep({"a piece": 1.25})
    monkeypatch.setattr(benching, "PYTHON", "3.98")
    benching.keep({"a piece": 3.0})
    assert benching.read_kept() == {"a piece": 3.0}
    monkeypatch.setattr(benching, "PYTHON", "3.99")
    assert benching.read_kept() == {"a piece": 1.25}


def test_every_piece_can_be_done_again_and_again_and_has_a_kept_number() -> None:
    async def play() -> set[str]:
        async with asyncio.TaskGroup() as group:
            found = await pieces(Bench(group))
            for work in found.values():
                for _ in range(3):
                    work()
        return set(found)

    named = asyncio.run(play())
    for numbers in benching.tomllib.loads(benching.KEPT.read_text()).values():
        assert set(numbers) == named

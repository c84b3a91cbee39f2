"""`loadtest/bench`: what a worker's code costs for one event of the network, held to kept numbers.

It is for seeing a slow-down when it is made. The cost of a piece is told in *references*: one is a
fixed mixture of what Python code is made of (calls, attributes, dictionaries, bytes, a pattern),
counted in the same run. So a number kept on one machine can be compared on another, though not to
the last percent: each version of Python has numbers of its own.
"""

import argparse
import asyncio
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from loadtest.benchwork import Bench, Work, pieces
from loadtest.counting import Clock, cost, instructions, nanoseconds
from loadtest.report import table

KEPT = Path(__file__).with_name("bench.toml")
TOLERANCE_RATIO = 0.2
TIMES = 400  # One round of a piece: long enough that reading the clock costs nothing.
ROUNDS = 10
HEADINGS = ("piece", "references", "kept", "change")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_PATTERN = re.compile(rb"\n([A-Za-z-]+): ?([^\r]*+)")
_BLOCK = b"\nHost: a.example\r\nAccept: */*\r\nUser-Agent: reference\r\n"


class _Thing:
    __slots__ = ("kept", "number")

    def __init__(self) -> None:
        self.number = 0
        self.kept: dict[bytes, int] = {}

    def note(self, name: bytes) -> None:
        """Do what most methods do: look something up, and write it down."""
        self.number += 1
        self.kept[name] = self.kept.get(name, 0) + self.number


def reference() -> bytes:
    """Do a fixed mixture of what Python code is made of: the unit of every cost."""
    thing = _Thing()
    for _ in range(10):
        for name, _value in _PATTERN.findall(_BLOCK):
            thing.note(name)
    return b"".join([b"%b: %d\r\n" % each for each in thing.kept.items()])


def measured(clock: Clock) -> dict[str, float]:
    """Return the cost of every piece, in references."""
    unit = cost(reference, clock, times=TIMES, rounds=ROUNDS)
    return {name: each / unit for name, each in asyncio.run(_costs(clock)).items()}


async def _costs(clock: Clock) -> dict[str, float]:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group)
        costs = {}
        for name, work in (await pieces(bench)).items():
            costs[name] = _cost(work, clock, bench)
        return costs


def _cost(work: Work, clock: Clock, bench: Bench) -> float:
    least = float("inf")
    for _ in range(ROUNDS):
        least = min(least, cost(work, clock, times=TIMES, rounds=1))
        bench.forget()
    return least


def slower(found: dict[str, float], kept: dict[str, float]) -> list[str]:
    """Return what is to be said of each piece that costs more than it may, or is on one side."""
    complaints = [f"{name}: has no kept number" for name in found.keys() - kept.keys()]
    complaints += [f"{name}: is kept and was not measured" for name in kept.keys() - found.keys()]
    complaints += [
        f"{name}: costs {found[name]:.3f} references, over {TOLERANCE_RATIO:.0%} more than the"
        f" {kept[name]:.3f} kept"
        for name in found.keys() & kept.keys()
        if found[name] > kept[name] * (1 + TOLERANCE_RATIO)
    ]
    return sorted(complaints)


def render(found: dict[str, float], kept: dict[str, float]) -> str:
    """Return the costs as a table."""
    rows = [
        (
            name,
            f"{value:.3f}",
            f"{kept[name]:.3f}" if name in kept else "",
            f"{value / kept[name] - 1:+.0%}" if name in kept else "",
        )
        for name, value in found.items()
    ]
    return "\n".join(table(HEADINGS, rows)) + "\n"


def read_kept() -> dict[str, float]:
    """Return the numbers kept for this Python; none where there are none yet."""
    kept: dict[str, dict[str, float]] = tomllib.loads(KEPT.read_text()) if KEPT.exists() else {}
    return kept.get(PYTHON, {})


def keep(found: dict[str, float]) -> None:
    """Write the numbers of this Python; those of others stay as they are."""
    kept = tomllib.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[PYTHON] = found
    lines = ["# Written by `loadtest/bench --keep`: what each piece costs, in references.\n"]
    for python, numbers in sorted(kept.items()):
        lines.append(f'\n["{python}"]\n')
        lines += [f"{json.dumps(piece)} = {value:.3f}\n" for piece, value in numbers.items()]
    KEPT.write_text("".join(lines))


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status: 1 when something has become slower."""
    describe = argparse.ArgumentParser(prog="loadtest/bench", description=__doc__)
    describe.add_argument(
        "--keep", action="store_true", help="write the numbers down as those to hold"
    )
    describe.add_argument(
        "--time", action="store_true", help="show times, though instructions can be counted"
    )
    options = describe.parse_args(argv)
    counted = None if options.time else instructions()
    found, kept = measured(counted or nanoseconds), read_kept()
    unit = "time, which is shown and held to nothing" if counted is None else "instructions"
    sys.stdout.write(f"Python {PYTHON}, {unit}:\n\n{render(found, kept if counted else {})}")
    if counted is None:
        return 0
    if options.keep:
        keep(found)
        return 0
    if not kept:
        _tell(f"there are no numbers for Python {PYTHON} yet: write them down with --keep.")
        return 1
    complaints = slower(found, kept)
    for complaint in complaints:
        _tell(f"{complaint}.")
    if complaints:
        _tell(
            "make it cheaper; or say in the commit what the cost is good for, and write it down"
            " with --keep."
        )
    return 1 if complaints else 0


def _tell(line: str) -> None:
    print(f"loadtest/bench: {line}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

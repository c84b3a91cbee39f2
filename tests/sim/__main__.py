"""Run random worlds until one breaks, or until there were enough."""

import argparse
import time

from tests.sim.world import Broken, Sim


def main() -> int:
    """Run worlds; 0 when none broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--worlds", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first world")
    parser.add_argument("--all", action="store_true", help="go on after a broken one")
    said = parser.parse_args()
    broken, events, rows = 0, 0, set()
    began = time.perf_counter()
    for seed in range(said.seed, said.seed + said.worlds):
        try:
            events += Sim(seed, rows=rows).run().events
        except Broken as error:
            broken += 1
            print(str(error).splitlines()[0] if said.all else error)
            if not said.all:
                break
    took_s = time.perf_counter() - began
    print(f"{said.worlds} worlds, {events} events, {len(rows)} rows of the table, {took_s:.1f} s")
    print(f"{broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())

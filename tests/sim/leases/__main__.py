"""Run random worlds until one breaks, or until there were enough."""

import argparse
import time

from tests.sim.leases.world import Broken, World


def main() -> int:
    """Run worlds; 0 when none broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.leases", description=__doc__)
    parser.add_argument("--worlds", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first world")
    said = parser.parse_args()
    began, holders, effects = time.perf_counter(), 0, 0
    for seed in range(said.seed, said.seed + said.worlds):
        try:
            store = World(seed).run().store
        except Broken as broken:
            print(broken)
            return 1
        holders += len(store.owners)
        effects += len(store.effects)
    took_s = time.perf_counter() - began
    print(f"{said.worlds} worlds, {holders} changes of hands, {effects} effects, {took_s:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Run a part of the matrix and tell every problem: for whoever looks for one."""

import argparse

from tests.faults.scenes import BY_NAME, SCENES
from tests.faults.theatre import carry_out


def main() -> int:
    """Run cases; 0 when none has a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scene", action="append", choices=list(BY_NAME), help="default: all")
    parser.add_argument("--fault", action="append", default=[], help="default: all")
    said = parser.parse_args()
    scenes = tuple(BY_NAME[name] for name in said.scene) if said.scene else SCENES
    found = carry_out(scenes, frozenset(said.fault))
    print(*found.problems, sep="\n")
    met = sum(run.met for run in found.runs)
    print(f"{len(found.runs)} runs, {met} faults met, {len(found.problems)} problems")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())

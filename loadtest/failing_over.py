"""How long nobody leads after the leader was killed: three instances with default settings."""

import argparse
import signal
import statistics
import time

from loadtest.together import markdown, together
from tests.support.instances import Together, asked, leader, listed
from tests.support.loom import Loom
from tests.support.waiting import eventually

NAMES = ("inst1", "inst2", "inst3")
WITHIN_S = 60.0


def run(options: argparse.Namespace) -> int:
    """Kill the leader so many times, and print how long each time took."""
    with together() as made:
        instances = {name: made.start(name) for name in NAMES}
        times = [_once(made, instances) for _ in range(options.times)]
    print(markdown(("times", "min, s", "median, s", "max, s"), [_row(times)]))
    print("\nevery time, s: " + ", ".join(f"{one:.1f}" for one in times))
    return 0


def _row(times: list[float]) -> tuple[object, ...]:
    middle = statistics.median(times)
    return len(times), f"{min(times):.1f}", f"{middle:.1f}", f"{max(times):.1f}"


def _once(made: Together, instances: dict[str, Loom]) -> float:
    """Kill the leader; how long until another leads. The killed one is started again."""
    leading = leader(*instances.values(), within_s=WITHIN_S)
    name = next(name for name, loom in instances.items() if loom is leading)
    others = [loom for loom in instances.values() if loom is not leading]
    leading.expected_to_fail = True
    leading.signal(signal.SIGKILL)
    leading.wait_exit()
    killed_at = time.monotonic()
    leader(*others, within_s=WITHIN_S)
    took_s = time.monotonic() - killed_at
    instances[name] = made.start(name)
    eventually(lambda: name in listed(instances[name]), f"{name} on the list")
    assert not asked(instances[name])["leads"]
    return took_s

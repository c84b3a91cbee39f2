"""`loadtest/cluster`: what many instances cost, how fast they fail over, and what clients see.

    loadtest/cluster coordination    what 3, 10, 30, 100 instances cost one PostgreSQL
    loadtest/cluster failover        how long nobody leads after the leader was killed, 20 times
    loadtest/cluster scaling         CPU time per request with 1, 2, 3 … instances behind HAProxy
    loadtest/cluster soak            20 minutes with a fault every 20 s: availability, cost of each

The parts are real: PostgreSQL, HAProxy, nginx and instances with the settings that they have by
default, put together as `examples/load-balancing` has them. Tables are Markdown, on stdout.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence

from loadtest import coordinating, enduring, failing_over, machine, scaling
from loadtest.processes import raise_descriptor_limit, raise_on_sigterm
from loadtest.proxies import ROOT
from loadtest.trouble import Trouble, check_bounds

DESCRIPTORS = 4096


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(
        prog="loadtest/cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = describe.add_subparsers(dest="what", required=True)
    coordination = what.add_parser("coordination", help="what instances cost PostgreSQL")
    coordination.add_argument("--instances", type=int, nargs="+", default=[3, 10, 30, 100])
    coordination.add_argument("--seconds", type=float, default=40.0, help="for each number")
    failover = what.add_parser("failover", help="how long nobody leads")
    failover.add_argument("--times", type=int, default=20)
    scale = what.add_parser("scaling", help="CPU time per request")
    scale.add_argument("--instances", type=int, nargs="+", default=[1, 2, 3, 5])
    scale.add_argument("--rate", type=float, default=150.0, help="requests a second, of each")
    scale.add_argument("--seconds", type=float, default=20.0, help="for each number")
    soak = what.add_parser("soak", help="availability under faults")
    soak.add_argument("--minutes", type=float, default=20.0)
    soak.add_argument("--rate", type=float, default=100.0, help="requests a second")
    soak.add_argument("--every", type=float, default=20.0, help="seconds from fault to fault")
    soak.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    return describe


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant: Trouble says which option."""
    bounds = {
        "coordination": (
            ("--instances", max(getattr(options, "instances", [1])), 1, 200),
            ("--seconds", getattr(options, "seconds", 1.0), 1, 3600),
        ),
        "failover": (("--times", getattr(options, "times", 1), 1, 1000),),
        "scaling": (
            ("--instances", max(getattr(options, "instances", [1])), 1, 20),
            ("--rate", getattr(options, "rate", 1.0), 1, 100_000),
            ("--seconds", getattr(options, "seconds", 1.0), 1, 3600),
        ),
        "soak": (
            ("--minutes", getattr(options, "minutes", 1.0), 0.1, 24 * 60),
            ("--rate", getattr(options, "rate", 1.0), 1, 10_000),
            ("--every", getattr(options, "every", 1.0), 5, 3600),
        ),
    }
    check_bounds(bounds[options.what])


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    runs: dict[str, Callable[[argparse.Namespace], int]] = {
        "coordination": coordinating.run,
        "failover": failing_over.run,
        "scaling": scaling.run,
        "soak": enduring.run,
    }
    try:
        check(options)
        raise_descriptor_limit(DESCRIPTORS)
        print(f"{machine.commit_of(ROOT)} on {sys.version.split()[0]}\n")
        return runs[options.what](options)
    except (Trouble, subprocess.TimeoutExpired, AssertionError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""`loadtest/run-locust`: a ramp to a sustained rate through loomproxy, with an HTML report.

It starts upstream and loomproxy itself, loomproxy on one core, upstream and locust on the other;
or, with `--instances`, so many instances that share a PostgreSQL, behind HAProxy.
locust is one Python process: it reaches some thousand requests a second at most. It answers how
latency behaves at a rate that is held; `loadtest/compare` answers what a request costs.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtest.comparing import CORES_NEEDED
from loadtest.processes import LOOPBACK, raise_descriptor_limit, raise_on_sigterm
from loadtest.proxies import ROOT, chosen
from loadtest.stage import Size, proxied, upstreams
from loadtest.together import behind_balancers
from loadtest.trouble import Trouble, check_bounds
from loadtest.upstream import FILES

LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
USERS_DEFAULT = 100
USERS_MAX = 10_000
RATE_DEFAULT = 500.0
RATE_MAX = 100_000.0
RAMP_DEFAULT_S = 20
DURATION_DEFAULT_S = 60
DURATION_MAX_S = 86_400
FINISH_TIMEOUT_S = 120.0  # What locust may need past its run time to stop users and write.


def locust_argv(options: argparse.Namespace, url: str) -> list[str]:
    """Return the command that drives `url`: ramp, hold, write the report, say whether it failed."""
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless"),
        *("--host", url, "--users", str(options.users)),
        *("--spawn-rate", f"{max(options.users / max(options.ramp, 1), 0.1):.3f}"),
        *("--request-rate", str(options.rate)),
        *("--run-time", f"{options.ramp + options.duration}s", "--stop-timeout", "10"),
        *("--html", str(options.html), "--only-summary", "--exit-code-on-error", "1"),
    ]


def ramp_together(options: argparse.Namespace) -> int:
    """As `ramp`, through HAProxy to several instances."""
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx started by root reads its files as somebody else.
        with upstreams(directory, core=None) as behind:
            origin = f"http://{LOOPBACK}:{behind[FILES].port}"
            with behind_balancers(options.instances, origin=origin) as play:
                return _drive(options, f"http://{LOOPBACK}:{play.sticky}", core=None)


def ramp(options: argparse.Namespace) -> int:
    """Start everything, let locust run, end everything; return locust's exit status."""
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, client_core = (cores[0], cores[1]) if len(cores) >= CORES_NEEDED else (None, None)
    (loomproxy,) = chosen(["loomproxy"], loomproxy=tuple(options.loomproxy))
    size = Size(core=proxy_core, workers=options.workers)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx started by root reads its files as somebody else.
        with (
            upstreams(directory, core=client_core) as behind,
            proxied(loomproxy, behind, directory, size) as subject,
        ):
            port = subject.doors[FILES].port
            return _drive(options, f"http://{LOOPBACK}:{port}", core=client_core)


def _drive(options: argparse.Namespace, url: str, *, core: int | None) -> int:
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    limit_s = options.ramp + options.duration + FINISH_TIMEOUT_S
    argv = [*pinned, *locust_argv(options, url)]
    return subprocess.run(argv, check=False, timeout=limit_s).returncode


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    describe = argparse.ArgumentParser(prog="loadtest/run-locust", description=__doc__)
    describe.add_argument("html", type=Path, metavar="REPORT", help="the HTML report to write")
    describe.add_argument("--users", type=int, default=USERS_DEFAULT, help="clients at the end")
    describe.add_argument(
        "--rate", type=float, default=RATE_DEFAULT, help="requests a second, all clients together"
    )
    describe.add_argument(
        "--ramp", type=int, default=RAMP_DEFAULT_S, help="seconds until all clients are there"
    )
    describe.add_argument(
        "--duration", type=int, default=DURATION_DEFAULT_S, help="seconds at the full rate"
    )
    describe.add_argument("--workers", type=int, default=1, help="workers of loomproxy")
    describe.add_argument(
        "--instances",
        type=int,
        default=0,
        help="so many instances of this source tree that share a PostgreSQL, behind HAProxy",
    )
    describe.add_argument(
        "--loomproxy",
        type=shlex.split,
        default=(),
        metavar="COMMAND",
        help='how loomproxy is started, such as "dist/loomproxy.pyz"; default: this source tree',
    )
    return describe


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant: Trouble says which option."""
    bounds = (
        ("--users", options.users, 1, USERS_MAX),
        ("--rate", options.rate, 1, RATE_MAX),
        ("--ramp", options.ramp, 0, DURATION_MAX_S),
        ("--duration", options.duration, 1, DURATION_MAX_S),
        ("--workers", options.workers, 1, 64),
        ("--instances", options.instances, 0, 20),
    )
    check_bounds(bounds)
    if not options.html.resolve().parent.is_dir():
        raise Trouble(f"{options.html}: its directory does not exist. Make it, or name another.")


def main(argv: Sequence[str]) -> int:
    """Run the command line; return its exit status: 1 when a request failed."""
    raise_on_sigterm()
    options = parser().parse_args(argv)
    try:
        check(options)
        raise_descriptor_limit(options.users)
        return ramp_together(options) if options.instances else ramp(options)
    except (Trouble, subprocess.TimeoutExpired) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

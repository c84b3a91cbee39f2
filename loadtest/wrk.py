"""Drive wrk and read what it says.

wrk prints rounded figures for people; its Lua `done` hook has the exact ones. The script given to
it defines only that hook (and method and body, which wrk turns into bytes once), so no Lua runs
per request.
"""

import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from string import Template

from loadtest.processes import ENDING_WITH_US
from loadtest.trouble import Trouble
from loadtest.workloads import Workload

MARK = "measured "
FINISH_TIMEOUT_S = 15.0  # What wrk may need past its own duration to stop and count.
TIMEOUT_S = 10  # wrk counts a response slower than this as timed out (its default is 2).

SCRIPT = Template(
    """wrk.method = "$method"
$body
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "$mark" .. "requests=%d duration_us=%d bytes_read=%d connect_failed=%d read_failed=%d "
    .. "write_failed=%d status_failed=%d timed_out=%d p50_us=%d p99_us=%d\\n",
    summary.requests, summary.duration, summary.bytes, e.connect, e.read,
    e.write, e.status, e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
)


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk did and met; times in µs."""

    requests: int
    duration_us: int
    bytes_read: int
    connect_failed: int
    read_failed: int
    write_failed: int
    status_failed: int
    timed_out: int
    p50_us: int
    p99_us: int

    @property
    def failed(self) -> int:
        """Everything that was not a complete response with a status below 400."""
        return (
            self.connect_failed
            + self.read_failed
            + self.write_failed
            + self.status_failed
            + self.timed_out
        )

    @property
    def requests_per_s(self) -> float:
        """Throughput over the duration that wrk measured."""
        return self.requests / (self.duration_us / 1_000_000)


def script(workload: Workload) -> str:
    """Return the Lua text for `workload`."""
    body = f"wrk.body = [==[{workload.body.decode('ascii')}]==]" if workload.body else ""
    return SCRIPT.substitute(method=workload.method, body=body, mark=MARK)


def parse(output: str) -> Load:
    """Read the line of the `done` hook; Trouble when there is none or it is not whole."""
    for line in output.splitlines():
        if line.startswith(MARK):
            try:
                said = dict(pair.split("=", 1) for pair in line.removeprefix(MARK).split())
                return Load(**{one.name: int(said[one.name]) for one in fields(Load)})
            except (KeyError, ValueError) as fault:
                raise Trouble(f"wrk: {line!r} is not the line its script writes: {fault}") from None
    raise Trouble(f"wrk: no line begins with {MARK!r} in its output:\n{output}")


def run(workload: Workload, *, url: str, seconds: float, core: int, directory: Path) -> Load:
    """Put `workload` on `url` for `seconds` from `core`; Trouble when wrk cannot."""
    path = directory / f"{workload.name}.lua"
    path.write_text(script(workload))
    argv = [*ENDING_WITH_US, "taskset", "--cpu-list", str(core), "wrk", "--threads", "1"]
    argv += ["--connections", str(workload.connections), "--duration", f"{seconds:.0f}s"]
    argv += ["--timeout", f"{TIMEOUT_S}s", "--script", str(path)]
    for one in workload.fields:
        argv += ["--header", one]
    done = subprocess.run(
        [*argv, url + workload.path],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + FINISH_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise Trouble(f"wrk: left with status {done.returncode}: {done.stderr or done.stdout}")
    return parse(done.stdout)

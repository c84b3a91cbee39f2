"""Drive wrk and read what it says.

wrk prints rounded figures for people; its Lua `done` hook has the exact ones. The script given to
it defines only that hook (and method and body, which wrk turns into bytes once), so no Lua runs
per request.
"""

import contextlib
import http.client
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from loadtest.load import Load, Task
from loadtest.processes import ENDING_WITH_US, LOOPBACK
from loadtest.trouble import Trouble
from loadtest.upstream import FILES

CONNECTIONS = 64  # Enough to keep one core busy, few enough that no accept queue matters.
# Host comes from the client by itself: with these, three request fields.
PLAIN_FIELDS = ("User-Agent: wrk", "Accept: */*")
STATUS_OK = 200
ANSWER_TIMEOUT_S = 5.0

MARK = "measured "
FINISH_TIMEOUT_S = 15.0  # What wrk may need past its own duration to stop and count.
FAILURES = ("connect_failed", "read_failed", "write_failed", "status_failed", "timed_out")
TIMEOUT_S = 10  # wrk counts a response slower than this as timed out (its default is 2).

SCRIPT = Template(
    """wrk.method = "$method"
$body
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "$mark" .. "requests=%d duration_us=%d connect_failed=%d read_failed=%d "
    .. "write_failed=%d status_failed=%d timed_out=%d p50_us=%d p99_us=%d\\n",
    summary.requests, summary.duration, e.connect, e.read,
    e.write, e.status, e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
)


@dataclass(frozen=True, slots=True)
class Requests:
    """The workload of one request again and again: what it says and what it must get."""

    path: str
    response_bytes: int
    upstream: str = FILES
    connections: int = CONNECTIONS
    fields: tuple[str, ...] = PLAIN_FIELDS
    method: str = "GET"
    body: bytes = field(default=b"", repr=False)

    def verify(self, port: int) -> None:
        """Refuse a port that gives another answer: Trouble when status or length is wrong."""
        expected = (STATUS_OK, self.response_bytes)
        seen = self.answer_of(port)
        if seen != expected:
            raise Trouble(
                f"port {port}, {self.method} {self.path}: status and body length {seen} instead of"
                f" {expected}."
            )

    def answer_of(self, port: int) -> tuple[int, int]:
        """Ask `port` once; return the status of its answer and the length of its body."""
        fields = dict(one.split(": ", 1) for one in self.fields)
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(self.method, self.path, self.body or None, fields)
            response = connection.getresponse()
            return response.status, len(response.read())

    def run(self, task: Task) -> Load:
        """Let wrk ask for the seconds of the task; Trouble when it cannot."""
        script_path = task.directory / "wrk.lua"
        script_path.write_text(script(self))
        with task.watch:
            done = subprocess.run(
                self._argv(task, script_path),
                capture_output=True,
                text=True,
                check=False,
                timeout=task.seconds + FINISH_TIMEOUT_S,
            )
        if done.returncode != 0:
            raise Trouble(f"wrk: left with status {done.returncode}: {done.stderr or done.stdout}")
        return parse(done.stdout)

    def _argv(self, task: Task, script_path: Path) -> list[str]:
        fields = [word for one in self.fields for word in ("--header", one)]
        return [
            *(*ENDING_WITH_US, "taskset", "--cpu-list", str(task.core), "wrk", "--threads", "1"),
            *("--connections", str(self.connections), "--duration", f"{task.seconds:.0f}s"),
            *("--timeout", f"{TIMEOUT_S}s", "--script", str(script_path), *fields),
            f"http://{LOOPBACK}:{task.port}{self.path}",
        ]


def script(requests: Requests) -> str:
    """Return the Lua text that asks as `requests` says."""
    body = f"wrk.body = [==[{requests.body.decode('ascii')}]==]" if requests.body else ""
    return SCRIPT.substitute(method=requests.method, body=body, mark=MARK)


def parse(output: str) -> Load:
    """Read the line of the `done` hook; Trouble when there is none or it is not whole."""
    for line in output.splitlines():
        if line.startswith(MARK):
            try:
                said = dict(pair.split("=", 1) for pair in line.removeprefix(MARK).split())
                return Load(
                    done=int(said["requests"]),
                    duration_us=int(said["duration_us"]),
                    p50_us=int(said["p50_us"]),
                    p99_us=int(said["p99_us"]),
                    failures={kind: int(said[kind]) for kind in FAILURES},
                )
            except (KeyError, ValueError) as fault:
                raise Trouble(f"wrk: {line!r} is not the line its script writes: {fault}") from None
    raise Trouble(f"wrk: no line begins with {MARK!r} in its output:\n{output}")

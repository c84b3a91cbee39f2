"""Measures what the single file costs: its size, its first and later starts, its first answer.

For every interpreter of the file that this machine has, as a table in Markdown. Nothing is judged
here: the numbers depend on the machine and on what else runs on it, so they are looked at, not
tested.
"""

import argparse
import contextlib
import http.server
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import build_zipapp
import msgspec

COLD_STARTS: Final = 3
WARM_STARTS: Final = 9
ANSWERS: Final = 5
ANSWER_WITHIN_S: Final = 20.0
POLL_S: Final = (
    0.002  # How often a door is tried that is not open yet: the precision of a first answer.
)


class Numbers(msgspec.Struct, frozen=True):
    """What one interpreter needs, in seconds; the median of several starts."""

    python: str
    bare_s: float  # The interpreter alone, doing nothing.
    cold_s: float
    warm_s: float
    answer_s: float


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers every GET with two bytes."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Serve on a port of 127.0.0.1 until the end."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def median(times: int, act: Callable[[], None]) -> float:
    """Return the median duration of some runs, in seconds."""
    durations = []
    for _ in range(times):
        begin = time.perf_counter()
        act()
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations)


def first_answer_s(command: list[str], environment: dict[str, str], target: int) -> float:
    """Start the proxy, return how long its first answer took, and see it leave before that."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    arguments = ["serve", "--listen", f"127.0.0.1:{port}", "--to", f"http://127.0.0.1:{target}"]
    quiet = subprocess.DEVNULL
    begin = time.perf_counter()
    process = subprocess.Popen([*command, *arguments], env=environment, stdout=quiet, stderr=quiet)
    try:
        while not answered(port):
            if time.perf_counter() - begin > ANSWER_WITHIN_S or process.poll() is not None:
                raise build_zipapp.BuildError(f"{' '.join(command)} gave no answer")
            time.sleep(POLL_S)
        return time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait(ANSWER_WITHIN_S)


def answered(port: int) -> bool:
    """Ask once, and tell whether there was a good answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def measure(python: str, pyz: Path, cache: Path, target: int) -> Numbers:
    """Measure one interpreter."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cache),
        "LOOMPROXY_CACHE": str(cache / "c"),
    }
    command = [python, str(pyz)]

    def run(*arguments: str) -> None:
        subprocess.run([python, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)

    def cold() -> None:
        shutil.rmtree(cache / "c", ignore_errors=True)
        run(str(pyz), "--version")

    said = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    bare_s = median(WARM_STARTS, lambda: run("-c", ""))
    cold_s = median(COLD_STARTS, cold)
    warm_s = median(WARM_STARTS, lambda: run(str(pyz), "--version"))
    first_answer_s(command, environment, target)  # Compiles what only a serving process imports.
    answer_s = statistics.median(
        first_answer_s(command, environment, target) for _ in range(ANSWERS)
    )
    return Numbers(said.stdout.strip(), bare_s, cold_s, warm_s, answer_s)


def main() -> int:
    """Measure as the command line says, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "pyz", nargs="?", type=Path, default=build_zipapp.ROOT / "dist" / "loomproxy.pyz"
    )
    parser.add_argument(
        "--python", action="append", help="an interpreter to measure, may be repeated"
    )
    options = parser.parse_args()
    pythons = options.python or [f"python{version}" for version in build_zipapp.read_spec().pythons]
    print(f"{options.pyz.name}: {options.pyz.stat().st_size / 1e6:.1f} MB\n")
    print("| interpreter | alone | first start | `--version`, warm | warm start to first answer |")
    print("|---|---|---|---|---|")
    for python in filter(None, map(shutil.which, pythons)):
        with tempfile.TemporaryDirectory() as cache, upstream() as target:
            found = measure(python, options.pyz.resolve(), Path(cache), target)
        times = (found.bare_s, found.cold_s, found.warm_s, found.answer_s)
        print(f"| {found.python} | " + " | ".join(f"{each:.2f} s" for each in times) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

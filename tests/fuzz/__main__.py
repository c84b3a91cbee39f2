"""Fuzz targets under atheris, each for some time, from the corpus on; or replay one input.

Each target runs in a process of its own. What it learnt stays in .cache/fuzz/TARGET and is where
the next run begins. A run that finds something leaves the input in a file, says how to replay it,
and makes the exit status 1. tests/fuzz/README.md says what each target proves.
"""

import argparse
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import growth
from tests.fuzz.targets import ROOT, TARGETS, Target, found

CACHE: Final = ROOT / ".cache" / "fuzz"
SECONDS: Final = 60
INPUT_BYTES_MAX: Final = 4096  # Longer ones are slower by more than they find; the bounds are met.
INPUT_SECONDS_MAX: Final = 10  # For one input: what takes longer is a finding.
MEMORY_MIB_MAX: Final = 2048
SAID_LINES_MAX: Final = 40  # Of a run that failed: the exception, and libFuzzer's words on it.
_PROGRESS: Final = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)


class Run(NamedTuple):
    """What one target's run came to."""

    target: str
    executions: int
    seconds: float
    cpu_s: float
    edges: int
    inputs: list[Path]  # which broke a rule, or took too long
    told: str  # the last words of a run that failed


def main() -> int:
    """Fuzz or replay; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at the same time")
    parser.add_argument("--replay", type=Path, help="only check the input in this file")
    parser.add_argument("--growth", action="store_true", help="only measure how costs grow")
    said = parser.parse_args()
    if said.growth:
        return growth.main()
    names: list[str] = said.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"{unknown[0]} is no target; there are {', '.join(TARGETS)}")
    if said.seconds < 1 or said.jobs < 1:
        parser.error("--seconds and --jobs are whole numbers from 1 on")
    if said.replay:
        return _replay(said.replay, names)
    with concurrent.futures.ThreadPoolExecutor(said.jobs) as pool:
        runs = list(pool.map(lambda name: _fuzz(name, said.seconds), names))
    _report(runs)
    return 1 if any(run.inputs or run.told for run in runs) else 0


def _replay(path: Path, names: list[str]) -> int:
    data = path.read_bytes()
    for name in names:
        print(f"{name}: {len(data)} bytes")
        TARGETS[name].check(data)
    return 0


def _fuzz(name: str, seconds: int) -> Run:
    place = CACHE / name
    corpus, seeds, inputs = place / "corpus", place / "seeds", place / "found"
    for directory in (corpus, seeds, inputs):
        directory.mkdir(parents=True, exist_ok=True)
    _write(seeds, [*TARGETS[name].seeds(), *(data for _, data in found(name))])
    words = _dictionary(place / "words", TARGETS[name])
    known = set(inputs.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds}"]
    command += [f"-timeout={INPUT_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MIB_MAX}", *words]
    command += [f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={inputs}/", corpus, seeds]
    began = time.monotonic()
    print(f"{name}: for {seconds} s", flush=True)
    log = place / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        # Its own alarms end it in time, whatever an input does to us.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    steps = _PROGRESS.findall(text)
    executions, edges = (int(steps[-1][0]), int(steps[-1][1])) if steps else (0, 0)
    told = "\n".join(text.splitlines()[-SAID_LINES_MAX:]) if process.returncode else ""
    return Run(
        target=name,
        executions=executions,
        seconds=time.monotonic() - began,
        cpu_s=usage.ru_utime + usage.ru_stime,
        edges=edges,
        inputs=sorted(set(inputs.iterdir()) - known),
        told=told,
    )


def _write(directory: Path, seeds: list[bytes]) -> None:
    """The inputs to begin with, and no others, each in a file."""
    wanted = {hashlib.sha256(seed).hexdigest()[:16]: seed for seed in seeds}
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, seed in wanted.items():
        (directory / name).write_bytes(seed)


def _dictionary(path: Path, target: Target) -> list[str]:
    """The flag for the words that inputs are made of, written as libFuzzer wants them."""
    if not target.words:
        return []
    quoted = ["".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) for word in target.words]
    path.write_text("".join(f'"{word}"\n' for word in quoted))
    return [f"-dict={path}"]


def _report(runs: list[Run]) -> None:
    for run in runs:
        if run.told:
            print(f"\n{run.target} ended early. The last it said:\n{run.told}")
    print(f"\n{'target':15} {'executions':>12} {'seconds':>8} {'CPU s':>6} {'edges':>6}  found")
    for run in runs:
        print(
            f"{run.target:15} {run.executions:>12} {run.seconds:>8.0f} {run.cpu_s:>6.0f} "
            f"{run.edges:>6}  {len(run.inputs)}"
        )
    for run in runs:
        for path in run.inputs:
            print(f"replay: scripts/fuzz {run.target} --replay {path}")


if __name__ == "__main__":
    raise SystemExit(main())

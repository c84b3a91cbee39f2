"""What was measured on: without it a figure means nothing."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

GIT_TIMEOUT_S = 10.0
ASK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the moment and the programs of one run."""

    cpu: str
    cores: int
    kernel: str
    python: str
    date: str
    load_average: float  # Over the last minute, before we began: above 0.5 somebody else works.
    commit: str
    versions: dict[str, str]


def cpu_model(cpuinfo: str) -> str:
    """Return the model of the first core in /proc/cpuinfo; "unknown" where the file has none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"


def commit_of(root: Path) -> str:
    """Return the short commit of the tree at `root`, with "+" when files differ from it."""
    git = ["git", "-C", str(root)]
    try:
        asked = [
            subprocess.run(
                [*git, *words], capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", "loomproxy"),
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    commit, changed = asked
    return f"{commit}+" if changed else commit


def interpreter_of(pid: int) -> str:
    """Return the Python that process `pid` runs on, and its version; "" if it is none.

    The path says whose build it is, and builds differ by a third in speed.
    """
    program = Path(f"/proc/{pid}/exe").readlink()
    if not program.name.startswith("python"):
        return ""
    asked = subprocess.run(
        [str(program), "-I", "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=False,
        timeout=ASK_TIMEOUT_S,
    )
    return f"{program} ({asked.stdout.strip() or 'does not tell its version'})"


def describe(root: Path, versions: dict[str, str]) -> Machine:
    """Look at this machine now."""
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=os.cpu_count() or 0,
        kernel=platform.release(),
        python=platform.python_version(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load_average=os.getloadavg()[0],
        commit=commit_of(root),
        versions=versions,
    )


def lines(machine: Machine) -> list[str]:
    """Return the machine as lines of text, one fact each."""
    return [
        f"machine: {machine.cpu}, {machine.cores} cores, Linux {machine.kernel}",
        f"date: {machine.date}, load average before: {machine.load_average:.2f}",
        f"tree at {machine.commit}; measured with Python {machine.python}",
        *(f"{name}: {version}" for name, version in sorted(machine.versions.items())),
    ]

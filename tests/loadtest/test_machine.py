"""What was measured on."""

import os
import platform
import subprocess
import sys
from pathlib import Path

from loadtest.machine import Machine, commit_of, cpu_model, interpreter_of, lines
from loadtest.proxies import version_in


def test_the_model_of_the_first_core_is_taken() -> None:
    text = (
        "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n\nprocessor\t: 1\nmodel name\t: B\n"
    )
    assert cpu_model(text) == "AMD EPYC"


def test_a_machine_that_does_not_say_its_model_is_unknown() -> None:
    assert cpu_model("processor : 0\n") == "unknown"


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == "unknown"


def test_every_program_is_named_with_its_version() -> None:
    where = Machine(
        cpu="AMD EPYC",
        cores=2,
        kernel="6.1",
        python="3.11.7",
        date="2026-11-24 02:28 UTC",
        load_average=0.123,
        commit="abc1234",
        versions={"nginx": "nginx/1.22.1", "envoy": "1.40.0"},
    )
    assert lines(where) == [
        "machine: AMD EPYC, 2 cores, Linux 6.1",
        "date: 2026-11-24 02:28 UTC, load average before: 0.12",
        "tree at abc1234; measured with Python 3.11.7",
        "envoy: 1.40.0",
        "nginx: nginx/1.22.1",
    ]


def test_a_version_is_what_follows_that_word() -> None:
    assert version_in("nginx version: nginx/1.22.1") == "nginx/1.22.1"
    assert version_in("HAProxy version 2.6.12-1 2026/10/17") == "2.6.12-1 2026/10/17"
    assert version_in("/a/envoy  version: 9e55/1.40.0/Clean") == "9e55/1.40.0/Clean"
    assert version_in("0.1.0") == "0.1.0"


def test_the_python_of_a_process_is_told_with_where_it_is() -> None:
    program = Path(sys.executable).resolve()
    assert interpreter_of(os.getpid()) == f"{program} ({platform.python_version()})"


def test_what_does_not_run_python_has_no_interpreter() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        assert interpreter_of(cat.pid) == ""

"""The live upstream of the load tests, started once for each file that asks it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from loadtest import speech
from loadtest.processes import free_port, running, wait_until
from loadtest.stage import answers, live_argv


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory: Path = tmp_path_factory.mktemp("live")
    port, log = free_port(), directory / "log"
    with running(live_argv(port), core=None, log=log, directory=directory) as process:
        wait_until(partial(answers, port, speech.SINK), process, what="live", log=log)
        yield port

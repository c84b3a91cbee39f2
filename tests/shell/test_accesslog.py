"""The access log: no line is lost but by a bound or a disk, and then that is told."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loomproxy.core.outcome import Outcome
from loomproxy.worker import accesslog as module
from loomproxy.worker.accesslog import AccessLog
from tests.shell.stage import run
from tests.support.waiting import eventually


def outcome(number: int) -> Outcome:
    return Outcome(b"%d" % number, b"192.0.2.7", None)


def line(outcome: Outcome) -> bytes:
    return outcome.request_id + b"\n"


class Log(AccessLog):
    """A log with its troubles and a count of its lines."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(str(path), line, self._noted)
        self.troubles: list[tuple[str, int]] = []
        self.in_trouble = asyncio.Event()
        self.count = 0

    def _noted(self, reason: str, lost: int) -> None:
        self.troubles.append((reason, lost))
        self.in_trouble.set()

    def some(self, count: int) -> None:
        for _ in range(count):
            self.write(outcome(self.count))
            self.count += 1


def expected(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last))


async def until(path: Path, content: bytes) -> None:
    """Wait for a file that nobody announces."""
    await asyncio.to_thread(
        eventually, lambda: path.exists() and path.read_bytes() == content, f"all lines in {path}"
    )


@asynccontextmanager
async def running(path: Path | str) -> AsyncIterator[Log]:
    """A log that is closed at the end, and then done."""
    log = Log(path)
    async with asyncio.TaskGroup() as group:
        group.create_task(log.run())
        yield log
        log.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.02)


def test_lines_are_gathered_and_written_together(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path / "log") as log:
            log.some(3)
            assert not (tmp_path / "log").exists()
            await until(tmp_path / "log", expected(0, 3))
            log.some(2)
            await until(tmp_path / "log", expected(0, 5))
            assert log.troubles == []

    run(play)


def test_close_writes_what_is_left(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path / "log") as log:
            log.some(1000)
        assert (tmp_path / "log").read_bytes() == expected(0, 1000)
        assert log.lost == 0

    run(play)


def test_close_before_the_first_line_is_the_end(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path / "log"):
            pass

    run(play)


def test_what_is_written_while_a_batch_is_on_its_way_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow, and lines come all the time, to the very end."""
    monkeypatch.setattr(module, "FLUSH_S", 0.0)
    begun, go_on = threading.Event(), threading.Event()
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    read: list[bytes] = []

    def slow_reader() -> None:
        with fifo.open("rb", buffering=0) as file:
            begun.set()
            go_on.wait(10)
            while data := file.read(1000):
                read.append(data)

    reader = threading.Thread(target=slow_reader)
    reader.start()

    async def play() -> None:
        async with running(fifo) as log:
            log.some(50_000)  # more than a pipe holds
            await asyncio.to_thread(begun.wait, 10)
            log.some(10)
            log.close()
            log.some(10)
            go_on.set()
        assert log.lost == 0

    run(play)
    reader.join(10)
    assert b"".join(read) == expected(0, 50_020)


def test_renaming_and_reopening_loses_no_line(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path / "log") as log:
            for round_ in range(5):
                log.some(100)
                await until(tmp_path / "log", expected(100 * round_, 100 * round_ + 100))
                (tmp_path / "log").rename(tmp_path / f"log.{round_}")
                log.reopen()

    run(play)
    whole = b"".join((tmp_path / f"log.{round_}").read_bytes() for round_ in range(5))
    assert whole == expected(0, 500)


def test_reopening_writes_every_line_once_however_it_falls(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path / "log") as log:
            for round_ in range(50):
                log.some(3)
                if round_ % 7 == 3:
                    await until(tmp_path / "log", (tmp_path / "log").read_bytes() or b"")
                log.reopen()
                await asyncio.to_thread(lambda: None)

    (tmp_path / "log").touch()
    run(play)
    assert (tmp_path / "log").read_bytes() == expected(0, 150)


def test_file_that_cannot_be_opened_is_told_once_and_gets_its_lines_later(tmp_path: Path) -> None:
    async def play() -> None:
        place = tmp_path / "not yet"
        async with running(place / "log") as log:
            log.some(3)
            await log.in_trouble.wait()
            log.some(3)
            await asyncio.to_thread(lambda: None)
            place.mkdir()
            log.some(3)
            await until(place / "log", expected(0, 9))
            assert log.troubles == [(f"{place / 'log'}: No such file or directory", 0)]
            log.some(1)
            await until(place / "log", expected(0, 10))
            # Another trouble is told again.
            (place / "log").unlink()
            place.rmdir()
            log.in_trouble.clear()
            log.reopen()
            log.some(1)
            await log.in_trouble.wait()
            place.mkdir()
            await until(place / "log", expected(10, 11))
        assert [reason for reason, _ in log.troubles] == [
            f"{place / 'log'}: No such file or directory"
        ] * 2
        assert log.lost == 0

    run(play)


def test_trouble_that_lasts_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        tries = 0
        enough = asyncio.Event()
        async with running(tmp_path / "no" / "log") as log:
            opened = log._opened

            def counting() -> object:
                nonlocal tries
                tries += 1
                if tries == 5:
                    enough.set()
                return opened()

            monkeypatch.setattr(log, "_opened", counting)
            log.some(1)
            await enough.wait()
            assert len(log.troubles) == 1
            (tmp_path / "no").mkdir()

    run(play)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_disk_at_the_end_counts_what_is_lost() -> None:
    async def play() -> None:
        async with running("/dev/full") as log:
            log.some(3)
            await log.in_trouble.wait()
            log.some(4)
        full = "/dev/full: No space left on device"
        assert log.troubles == [(full, 0), (full, 7)]
        assert log.lost == 7

    run(play)


def test_disk_that_was_full_gets_every_line_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that was taken in part goes on where it stopped."""
    path = tmp_path / "log"

    class Stingy:
        """A file that takes five bytes, then has no room, by turns."""

        turns = 0

        async def __aenter__(self) -> "Stingy":
            return self

        async def __aexit__(self, *_error: object) -> None:
            pass

        async def write(self, data: bytes) -> int:
            Stingy.turns += 1
            if Stingy.turns % 3 == 0:
                raise OSError(28, "No space left on device")
            if Stingy.turns % 7 == 0:
                return 0
            with path.open("ab") as file:
                return file.write(data[:5])

    async def play() -> None:
        monkeypatch.setattr(module, "FLUSH_S", 0.0)
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        monkeypatch.setattr(AccessLog, "_opened", lambda _self: Stingy())
        async with running(path) as log:
            log.some(40)
            await until(path, expected(0, 40))
            log.some(1)
            await until(path, expected(0, 41))
            assert log.lost == 0

    run(play)


def test_lines_beyond_the_bound_are_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        monkeypatch.setattr(module, "BACKLOG_BYTES_MAX", 20)
        async with running(tmp_path / "no" / "log") as log:
            log.some(1000)
            assert log.lost == 1000 - 11  # ten of two bytes, and the one that went over
            await log.in_trouble.wait()
            (tmp_path / "no").mkdir()
            await until(tmp_path / "no" / "log", expected(0, 10) + b"10\n")
            log.write(outcome(1))
            assert log.lost == 1000 - 11
            await until(tmp_path / "no" / "log", expected(0, 10) + b"10\n1\n")

    run(play)


def test_standard_output_is_written_and_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        with (tmp_path / "out").open("wb") as out:
            monkeypatch.setattr(sys, "stdout", out)
            async with running("stdout") as log:
                log.some(2)
                log.reopen()
                log.some(1)
            out.write(b"still open\n")
        assert (tmp_path / "out").read_bytes() == expected(0, 3) + b"still open\n"

    run(play)


def test_log_that_is_off_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        monkeypatch.chdir(tmp_path)
        log = Log("off")
        log.some(10)
        await log.run()
        assert (log.lost, log.troubles) == (0, [])

    run(play)
    assert list(tmp_path.iterdir()) == []

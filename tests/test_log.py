"""A log line can be read by people and machines, and never costs who writes it a wait."""

import fcntl
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loomproxy import log as module
from loomproxy.log import (
    BURST,
    BURST_OF_A_CHILD,
    EVENTS_MAX,
    LINE_BYTES_MAX,
    QUEUE_BYTES_MAX,
    RATE_PER_S,
    TRACEBACK_CHARS_MAX,
    Log,
    Rates,
    Traceback,
    is_line,
    log,
    relay,
    show,
)
from tests.support.waiting import WITHIN_S

ROOT = Path(__file__).resolve().parents[1]

Said = Callable[[], str]
Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A small pipe: where it is read, and where it is written."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, LINE_BYTES_MAX)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def lines_of(fd: int, until: str) -> list[str]:
    """What is written to a pipe, up to the line that holds `until`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    text = ""
    while until not in text or not text.endswith("\n"):
        assert poll.poll(WITHIN_S * 1000), f"{until!r} was awaited after {text[-500:]!r}"
        text += os.read(fd, 65536).decode()
    return text.splitlines()


def test_line_is_key_value_with_quotes_where_needed(said: Said) -> None:
    log("worker left", level="error", slot=1, reason='said "no"\nand \\', empty="")
    line = said()
    assert line.startswith("at=")
    assert line.endswith(
        ' level=error event="worker left" slot=1 reason="said \\"no\\"\\nand \\\\" empty=""\n'
    )
    assert line.count("\n") == 1
    assert is_line(line.rstrip("\n"))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\x1b[2Jb", r'"a\x1b[2Jb"'),
        ("\x1b", r'"\x1b"'),
        ("a\r\nat=x", r'"a\r\nat=x"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("a\udc80b", r'"a\udc80b"'),
        ("zażółć", "zażółć"),
    ],
)
def test_what_a_client_sent_neither_ends_a_line_nor_steers_a_terminal(
    said: Said, text: str, written: str
) -> None:
    log("request refused", detail=text)
    assert said().endswith(f" detail={written}\n")


def test_long_line_is_cut_at_what_a_pipe_takes_in_one_piece(said: Said) -> None:
    log("long", text="x" * 10_000)
    line = said()
    assert len(line) == LINE_BYTES_MAX
    assert line.endswith("xxx\n")


def test_traceback_is_one_fact_and_of_a_long_one_the_end_is_kept(said: Said) -> None:
    def deep(calls: int) -> None:
        if calls:
            deep_again(calls - 1)
        raise ZeroDivisionError("how it ended")

    def deep_again(calls: int) -> None:
        deep(calls)

    for calls in (0, 100):
        try:
            deep(calls)
        except ZeroDivisionError as error:
            log("internal error", level="error", traceback=Traceback(error))
            size = len(str(Traceback(error)))
        line = said()
        assert line.count("\n") == 1
        assert ' traceback="Traceback (' in line
        assert line.endswith('ZeroDivisionError: how it ended"\n')
    assert TRACEBACK_CHARS_MAX < size < TRACEBACK_CHARS_MAX + 50


def test_what_libraries_log_comes_here_with_its_traceback(said: Said) -> None:
    def callback() -> None:
        raise ZeroDivisionError("in a callback")

    root = logging.getLogger()
    before = root.handlers[:]
    module.hear_libraries()
    try:
        try:
            callback()
        except ZeroDivisionError:
            logging.getLogger("asyncio").exception("Exception in callback %s", "tick")
        logging.getLogger("asyncio").info("nobody asked")
    finally:
        root.handlers = before
    (line,) = (line for line in said().splitlines() if is_line(line))
    assert ' level=error event="a library said" logger=asyncio ' in line
    assert ' message="Exception in callback tick" traceback="Traceback ' in line
    assert line.endswith('in a callback"')


# --- rates ----------------------------------------------------------------------------------------


def test_event_has_a_burst_and_then_its_rate_and_says_what_was_left_out() -> None:
    rates = Rates()
    assert [rates.admit("a", 5.0) for _ in range(BURST)] == [0] * BURST
    assert [rates.admit("a", 5.0) for _ in range(7)] == [None] * 7
    assert rates.admit("b", 5.0) == 0, "another event has a rate of its own"
    assert rates.admit("a", 5.0 + 0.9 / RATE_PER_S) is None
    assert rates.admit("a", 5.0 + 1.1 / RATE_PER_S) == 8
    assert rates.admit("a", 5.0 + 1.1 / RATE_PER_S) is None
    assert rates.take_suppressed() == 1
    assert rates.take_suppressed() == 0


def test_long_run_has_the_rate_and_silence_no_more_than_a_burst() -> None:
    rates = Rates()
    told = [rates.admit("a", at / 1000) for at in range(10_000)]
    admitted = [count for count in told if count is not None]
    assert BURST + 10 * RATE_PER_S - 2 <= len(admitted) <= BURST + 10 * RATE_PER_S
    assert sum(admitted) + len(admitted) + rates.take_suppressed() == 10_000
    after = [rates.admit("a", 1e6) for _ in range(BURST + 5)]
    assert after == [0] * BURST + [None] * 5


def test_events_without_end_cost_no_memory_without_end() -> None:
    rates = Rates()
    for number in range(EVENTS_MAX * 2):
        rates.admit(f"event {number}", 0.0)
    assert len(rates._buckets) == EVENTS_MAX + 1
    assert rates.admit("yet another", 0.0) is None


def test_suppressed_lines_are_told_with_the_next_one(said: Said) -> None:
    for number in range(BURST + 3):
        log("again", number=number)
    assert said().count("event=again") == BURST
    bucket = module._LOG.rates._buckets["again"]
    bucket._tokens = 1.0  # as time would
    log("again", number="last")
    assert said().endswith(" event=again suppressed=3 number=last\n")


# --- what children say ----------------------------------------------------------------------------


def test_line_of_a_child_in_our_format_is_passed_on_as_it_is(said: Said) -> None:
    line = 'at=2024-01-01T00:00:00.000Z level=error event="it \\" hurts" slot=1 pid=23 a=b'
    relay(line, "worker said", slot=1, pid=23)
    assert said() == f"{line}\n"


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "",
        "at=2024-01-01T00:00:00.000Z level=info event=forged slot=2 pid=23",
        "at=2024-01-01T00:00:00.000Z level=info event=forged slot=1 pid=234",
        "at=2024-01-01T00:00:00.000Z level=info event=forged detail=x slot=1 pid=23",
        "at=2024-01-01T00:00:00.000Z level=info event=\x1b[2J slot=1 pid=23",
    ],
)
def test_anything_else_of_a_child_is_told_as_what_it_said(said: Said, line: str) -> None:
    relay(line, "worker said", slot=1, pid=23)
    text = said()
    assert ' level=warning event="worker said" slot=1 pid=23 line="' in text
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_traceback_of_a_child_is_told_whole(said: Said) -> None:
    for number in range(BURST_OF_A_CHILD + 1):
        relay(f"  line {number}", "worker said", slot=1, pid=23)
    assert said().count("\n") == BURST_OF_A_CHILD


def test_what_a_guest_says_is_quoted_and_one_that_talks_silences_no_other(said: Said) -> None:
    forged = "at=2026-01-01T00:00:00.000Z level=error event=forged plugin=acme"
    module.quote(forged, "plugin said", of="acme", plugin="acme")
    (line,) = said().splitlines()
    assert "level=info" in line
    assert 'event="plugin said" plugin=acme line="at=2026' in line
    for _ in range(module.BURST_OF_A_CHILD + 50):
        module.quote("blah", "plugin said", of="acme", plugin="acme")
    module.quote("help", "plugin said", of="beta", plugin="beta")
    lines = said().splitlines()
    assert len(lines) < module.BURST_OF_A_CHILD + 25
    assert "plugin=beta line=help" in lines[-1]


def test_text_for_a_person_is_written_as_it_is(said: Said) -> None:
    show("\nready\n")
    assert said() == "\nready\n\n"


# --- readers that do not read ---------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_nobody_waits_for_a_reader_and_what_is_lost_is_told(pipe: Pipe, *, blocking: bool) -> None:
    reading, writing = pipe
    os.set_blocking(writing, blocking)
    one = Log(writing)
    begun_at = time.monotonic()
    lines, size = 0, 1000
    while not one._lost:
        one.tell(f"event {lines % 200}", "info", {"number": lines, "text": "x" * size})
        one.rates = Rates()
        lines += 1
        assert lines < 2 * QUEUE_BYTES_MAX / size
    for _ in range(2):
        one.pass_on("y" * size)
    assert time.monotonic() - begun_at < WITHIN_S
    assert not one.flush(0.01)
    found = lines_of(reading, f" number={lines - 2} ")
    assert one.flush()
    one.tell("there again", "info", {})
    found += lines_of(reading, "there again")
    assert found[-1].split(" event=")[1].startswith('"there again"')
    told = [line.split(" lines_lost=")[1] for line in found if " lines_lost=" in line]
    assert sum(map(int, told)) == 3
    numbers = [line.split(" number=")[1].split(" ")[0] for line in found if " number=" in line]
    assert numbers == [str(number) for number in range(lines - 1)], "in order, and whole"
    assert QUEUE_BYTES_MAX - 2 * size < sum(len(line) + 1 for line in found) < QUEUE_BYTES_MAX * 1.1


def test_loss_before_a_passed_on_line_is_told_before_it(pipe: Pipe) -> None:
    reading, writing = pipe
    one = Log(writing)
    one._lost = 2
    one.pass_on("as it is")
    told, passed_on = lines_of(reading, "as it is")
    assert told.endswith(' level=warning event="log lines lost" lines_lost=2')
    assert passed_on == "as it is"
    assert one._lost == 0


def test_reader_that_went_away_costs_lines_only() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    one = Log(writing)
    one.tell("anybody there", "info", {})
    assert one.flush()
    assert one._lost == 1
    os.close(writing)


def test_without_a_stderr_nothing_is_written_anywhere() -> None:
    one = Log(None)
    one.tell("anybody there", "info", {})
    assert one.flush()
    assert (one._lost, one._thread) == (1, None)
    code = "from loomproxy.log import _LOG; assert _LOG._fd is None"
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], cwd=ROOT, check=False
    )
    assert done.returncode == 0


def test_end_of_a_process_tells_what_was_not_told_and_waits_a_second_at_most() -> None:
    code = (
        "from loomproxy.log import log\n"
        "for number in range({lines}): log('again' + str(number % {events}), text='x' * 900)\n"
        "print('done', flush=True)\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", code.format(events=2, lines=2 * (BURST + 3))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN_S,
    )
    assert ' event="log lines lost" ' in read.stderr.splitlines()[-1]
    assert read.stderr.splitlines()[-1].endswith(" suppressed_in_all=6")
    unread = subprocess.Popen(
        [sys.executable, "-c", code.format(events=150, lines=150 * BURST)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with unread:
        assert unread.stdout is not None
        assert unread.stdout.readline() == b"done\n"
        begun_at = time.monotonic()
        assert unread.wait(WITHIN_S) == 0
        assert time.monotonic() - begun_at < 5.0


def test_several_threads_and_destructors_may_log(pipe: Pipe) -> None:
    reading, writing = pipe
    one = Log(writing)

    class Late:
        def __str__(self) -> str:
            one.tell("inner", "info", {})
            return "outer"

    threads = [
        threading.Thread(target=one.tell, args=(f"thread {number}", "info", {"text": Late()}))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    found: list[str] = []
    while len(found) < 16:
        found += lines_of(reading, "event=")
    assert sum("event=inner" in line for line in found) == 8
    assert sum("text=outer" in line for line in found) == 8

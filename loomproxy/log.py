"""The log of both processes: one key=value line on stderr for each fact, in glossary words.

Requests are logged elsewhere, by the workers. What is written here is rare and meant for a person
or a journal; so it is never worth waiting for. Writing a line puts it into a bounded queue that one
thread empties: a reader that is slow, stopped or gone costs lines, never a turn of the loop. An
event that happens all the time is told some times each second, with how often it was not. What is
lost either way is counted, and the count is told.
"""

import atexit
import contextlib
import logging
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Final

QUEUE_BYTES_MAX: Final = 256 << 10
"""How much may wait for a reader of stderr; further lines are lost."""

LINE_BYTES_MAX: Final = 4096
"""Longer lines are cut here: as much as a pipe takes in one piece (pipe(7): PIPE_BUF)."""

TRACEBACK_CHARS_MAX: Final = 2500
"""Of a longer traceback the end is kept, which says what happened."""

RATE_PER_S: Final = 10.0
"""How many lines each event may have in the long run."""

BURST: Final = 20
"""How many lines an event may have at once after silence."""

BURST_OF_A_CHILD: Final = 200
"""The same for lines of a child in a format of its own: it may say a few tracebacks as it ends."""

EVENTS_MAX: Final = 256
"""How many events are told apart; there are fewer in the code, and further ones share a rate."""

FLUSH_S: Final = 1.0
"""How long a process that ends may wait for its last lines to leave."""

_PLAIN: Final = re.compile(r"[^\s\"=\\]+")
_OURS: Final = re.compile(
    r'at=[-0-9T:.]+Z level=[a-z]+ event=(?:"(?:[^"\\]|\\.)*"|[^\s"=\\]+)(?P<facts>.*)'
)


class Bucket:
    """The tokens of one event: `burst` at first, and so many more each second, never above it."""

    __slots__ = ("_at", "_burst", "_tokens", "suppressed")

    def __init__(self, burst: int, now: float) -> None:
        self.suppressed = 0  # lines since the last one that was told
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether there is a token at `now` (seconds of a clock that never goes back)."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * RATE_PER_S)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Rates:
    """Which lines are told, event by event."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def admit(self, event: str, now: float, burst: int = BURST) -> int | None:
        """Whether a line of `event` is told at `now`: None when not.

        Else how many of that event were suppressed before it.
        """
        if event not in self._buckets and len(self._buckets) >= EVENTS_MAX:
            event = ""
        bucket = self._buckets.get(event)
        if bucket is None:
            bucket = self._buckets[event] = Bucket(burst, now)
        if not bucket.take(now):
            bucket.suppressed += 1
            return None
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed

    def take_suppressed(self) -> int:
        """How many were suppressed and not told since; counted anew from here."""
        suppressed = 0
        for bucket in self._buckets.values():
            suppressed += bucket.suppressed
            bucket.suppressed = 0
        return suppressed


class Log:
    """Lines on their way to the descriptor `fd`; without one, all are lost.

    What is public may be called in every thread, and again while it runs (a destructor may log).
    """

    def __init__(self, fd: int | None) -> None:
        self.who = ""  # what every line says after its event
        self.rates = Rates()
        self._fd = fd
        self._changed = threading.Condition()  # its lock is one that its holder may take again
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0  # the line that is being written included
        self._lost = 0  # lines, since it was last told
        self._thread: threading.Thread | None = None

    def tell(
        self,
        event: str,
        level: str,
        facts: dict[str, object],
        *,
        burst: int = BURST,
        whose: str = "",
    ) -> None:
        """Queue a line, if the rate allows it: of the event, or of whom it comes from."""
        with self._changed:
            suppressed = self.rates.admit(f"{event}{whose}", time.monotonic(), burst)
            if suppressed is None:
                return
            if suppressed:
                facts = {"suppressed": suppressed, **facts}
            if self._lost:
                facts = {"lines_lost": self._lost, **facts}
            if self._put(_line(event, level, self.who, facts)):
                self._lost = 0
            else:
                self._lost += 1

    def pass_on(self, line: str) -> None:
        """Queue a line as it is, behind one that tells what was lost before it."""
        with self._changed:
            if self._lost:
                lost: dict[str, object] = {"lines_lost": self._lost}
                if self._put(_line("log lines lost", "warning", self.who, lost)):
                    self._lost = 0
            if not self._put(line.encode(errors="backslashreplace") + b"\n"):
                self._lost += 1

    def flush(self, within_s: float = FLUSH_S) -> bool:
        """Wait until all lines have left, `within_s` at most; return whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queued_bytes, within_s)

    def close(self) -> None:
        """The process ends: tell what was not told, and let it leave."""
        with self._changed:
            suppressed = self.rates.take_suppressed()
            if suppressed or self._lost:
                self.tell("log lines lost", "warning", {"suppressed_in_all": suppressed})
        self.flush()

    def _put(self, data: bytes) -> bool:
        """Queue `data`; False when it does not fit, or there is nobody to write it."""
        if self._queued_bytes + len(data) > QUEUE_BYTES_MAX or not self._has_thread():
            return False
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._changed.notify_all()
        return True

    def _has_thread(self) -> bool:
        if self._thread is None and self._fd is not None:
            thread = threading.Thread(target=self._work, args=(self._fd,), name="log", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread is to be had now
                thread.start()
                self._thread = thread
                atexit.register(self.close)
        return self._thread is not None

    def _work(self, fd: int) -> None:
        """Write what is queued, for ever."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                data = self._queue.popleft()
            written = _write(fd, data)
            with self._changed:
                self._queued_bytes -= len(data)
                self._lost += not written
                self._changed.notify_all()


class Traceback:
    """The traceback of `error` as a fact, made when its line is."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        """The usual lines, the first of them left out where they are too many."""
        text = "".join(traceback.format_exception(self._error)).rstrip()
        if len(text) > TRACEBACK_CHARS_MAX:
            text = f"Traceback (its end): ...{text[-TRACEBACK_CHARS_MAX:]}"
        return text


class _FromLibraries(logging.Handler):
    """What others log, the event loop above all: an error in a callback is told by it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        facts: dict[str, object] = {"logger": record.name, "message": record.getMessage()}
        if error is not None:
            facts["traceback"] = Traceback(error)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        log("a library said", level=level, **facts)


# Without a stderr at the start, its number goes to the next socket that is opened.
_LOG: Final = Log(None if sys.__stderr__ is None else 2)


def log(event: str, /, *, level: str = "info", **facts: object) -> None:
    """Tell what happened: how serious (`info`, `warning`, `error`), what, and its facts.

    `event` is a literal: what differs from time to time is a fact.
    """
    _LOG.tell(event, level, facts)


def relay(line: str, event: str, /, **who: object) -> None:
    """Tell what a child said: a line of its own log as it is, anything else as a fact of `event`.

    `who` is what the child's log begins each line with (`introduce`); a line that does not was not
    written by it.
    """
    ours = _OURS.fullmatch(line) if line.isprintable() else None
    if ours is not None and f"{ours['facts']} ".startswith(f"{_pairs(who)} "):
        _LOG.pass_on(line)
    else:
        _LOG.tell(event, "warning", {**who, "line": line}, burst=BURST_OF_A_CHILD)


def quote(line: str, event: str, /, *, of: str, **who: object) -> None:
    """Tell what a program said that is not ours, as a fact of `event`, whatever it looks like.

    `of` has a rate of its own, so that one that talks all the time silences no other.
    """
    _LOG.tell(event, "info", {**who, "line": line}, burst=BURST_OF_A_CHILD, whose=f" {of}")


def is_line(text: str) -> bool:
    """Whether `text` is a line of such a log."""
    return _OURS.fullmatch(text) is not None


def show(text: str) -> None:
    """Write `text` for a person, between the lines of the log and no less patiently."""
    _LOG.pass_on(text)


def introduce(**who: object) -> None:
    """Have every line of this process say these facts first."""
    _LOG.who = _pairs(who)


def flush() -> None:
    """Let the last lines leave, for a second at most: for a process that ends without `atexit`."""
    _LOG.close()


def hear_libraries() -> None:
    """Have what libraries log come here too: their own way to stderr would wait for its reader."""
    logging.getLogger().addHandler(_FromLibraries(logging.WARNING))


def _line(event: str, level: str, who: str, facts: dict[str, object]) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = f"at={at} level={level} event={_quoted(event)}{who}{_pairs(facts)}"
    return text.encode()[: LINE_BYTES_MAX - 1] + b"\n"


def _pairs(facts: dict[str, object]) -> str:
    return "".join(f" {key}={_quoted(str(value))}" for key, value in facts.items())


def _quoted(text: str) -> str:
    """`text` as it is, or in quotes where a reader could not tell where it ends.

    Clients choose some of it: what could end the line or steer a terminal is written as an escape.
    """
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    if not text.isprintable():
        text = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    return f'"{text}"'


def _write(fd: int, data: bytes) -> bool:
    """Write all of `data`, however long it takes; False when nobody will ever read it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # Somebody else made the descriptor non-blocking.
            writable = select.poll()
            writable.register(fd, select.POLLOUT)
            writable.poll()
        except OSError:
            return False
    return True

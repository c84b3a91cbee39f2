"""An exchange as a play: `>>` an event arrives, `<<` a command is expected, `assert` performs it.

    play = house.play()
    assert (
        play
        >> get("/")
        << deadline(3.0)
        << opens("http://10.0.0.1:80")
        >> opened()
        << ...
        << sends_up(b"GET / HTTP/1.1")
    )

Between two events exactly the commands named are expected, in order; `...` stands for any number of
them. Where a value does not matter, `ANY` stands for it. A mismatch prints the whole play up to the
line that differs. A play may go on after it was asserted; one that was never asserted fails its
test (see `curtain`). The idea is mitmproxy's.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any, Final

import msgspec

from loomproxy.core.event import Answered, Event, Opened, OpenFailed, SlotFreed
from loomproxy.core.exchange import Exchange
from loomproxy.core.fault import CONNECT_FAILED, Fault
from loomproxy.core.message import RequestHead, ResponseHead
from loomproxy.core.units import Instant
from tests.commands import (
    Command,
    Fate,
    Finish,
    HeadDown,
    Open,
    Scribe,
    SendUp,
    SetDeadline,
    Wake,
)

BEGINS_AT: Final = Instant(1000.0)
"""When every play begins."""


class _Any:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()


class Later:
    """Time passes, and nothing happens."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"{self.seconds} s later"


def shown(thing: object) -> str:
    """An event or a command in one short line: heads and faults by what tells them apart."""
    if isinstance(thing, Fault):
        return thing.name
    if isinstance(thing, RequestHead):
        return f"{thing.method.decode()} {thing.target.decode()} HTTP/1.{thing.minor_version}"
    if isinstance(thing, ResponseHead):
        return f"HTTP/1.{thing.minor_version} {thing.status} {thing.framing.value}"
    if isinstance(thing, Finish):
        outcome = thing.outcome
        return f"Finish({thing.fate.name}, {outcome.status}, {outcome.termination}, {outcome!r})"
    if isinstance(thing, msgspec.Struct):
        fields = [f"{name}={shown(getattr(thing, name))}" for name in thing.__struct_fields__]
        return f"{type(thing).__name__}({', '.join(fields)})"
    return repr(thing)


class Answering:
    """An event that answers the question which is open when it arrives."""

    def __init__(self, kind: type, *values: object) -> None:
        self.make = lambda ask: kind(ask, *values)
        self.words = f"{kind.__name__}({', '.join(map(shown, values))})"

    def __repr__(self) -> str:
        return self.words


def opened() -> Answering:
    """The connection that was asked for is there."""
    return Answering(Opened)


def open_failed(fault: Fault = CONNECT_FAILED) -> Answering:
    """The connection that was asked for cannot be had."""
    return Answering(OpenFailed, fault)


def slot_freed() -> Answering:
    """It is this exchange's turn in the queue."""
    return Answering(SlotFreed)


def answered(status: int, content_type: bytes, body: bytes) -> Answering:
    """The house answers."""
    return Answering(Answered, status, content_type, body)


class Expected:
    """A command that is expected, by what matters of it."""

    def __init__(self, words: str, test: Callable[[Any, "Play"], bool]) -> None:
        self.words = words
        self.test = test

    def __repr__(self) -> str:
        return self.words


def deadline(seconds: float) -> Expected:
    """The one deadline is set to so many seconds from now."""
    return Expected(
        f"SetDeadline(in {seconds} s)",
        lambda it, play: isinstance(it, SetDeadline) and math.isclose(it.at, play.now + seconds),
    )


def opens(endpoint: str, *, fresh: bool = False) -> Expected:
    """A connection to `endpoint` is asked for, under the number of the open question."""
    return Expected(
        f"Open({endpoint}, fresh={fresh})",
        lambda it, play: (
            isinstance(it, Open)
            and (it.endpoint.name, it.fresh, it.ask) == (endpoint, fresh, play.exchange.ask)
        ),
    )


def sends_up(
    begin: bytes = b"", *parts: bytes, end: bytes = b"", without: bytes = b"\0"
) -> Expected:
    """Bytes go up that begin with `begin`, end with `end`, and hold `parts` but not `without`."""
    return Expected(
        f"SendUp({begin!r} … {parts} … {end!r})",
        lambda it, _play: isinstance(it, SendUp) and _says(it.data, begin, parts, end, without),
    )


def head_down(status: int, *parts: bytes, end: bytes = b"", without: bytes = b"\0") -> Expected:
    """A head with `status` goes down; an answer of our own has its body with it."""
    begin = b"HTTP/1.1 %d " % status
    return Expected(
        f"HeadDown({status}, {parts} … {end!r})",
        lambda it, _play: (
            isinstance(it, HeadDown)
            and it.status == status
            and _says(it.data, begin, parts, end, without)
        ),
    )


def wakes(other: Exchange) -> Expected:
    """The exchange `other`, which waits for a slot, is told that one is free."""
    return Expected("Wake", lambda it, _play: isinstance(it, Wake) and it.ticket.owner is other)


def finish(fate: Fate, termination: str = "--", **outcome: object) -> Expected:
    """It is over, with these two letters; further fields of the outcome as given."""
    wanted = {"termination": termination, **outcome}
    return Expected(
        f"Finish({fate.name}, {wanted})",
        lambda it, _play: (
            isinstance(it, Finish)
            and it.fate is fate
            and all(getattr(it.outcome, name) == value for name, value in wanted.items())
        ),
    )


def _says(data: bytes, begin: bytes, parts: tuple[bytes, ...], end: bytes, without: bytes) -> bool:
    return (
        data.startswith(begin)
        and data.endswith(end)
        and without not in data
        and all(part in data for part in parts)
    )


Line = Command | Expected | EllipsisType
Scene = tuple[Event | Answering | Later, list[Line]]


class Play:
    """One exchange on the stage."""

    def __init__(self, exchange: Exchange, scribe: Scribe) -> None:
        self.exchange = exchange
        self.scribe = scribe
        self.now = BEGINS_AT
        self._ahead: list[Scene] = []
        self._so_far: list[str] = []
        self.asserted = False
        if _on_stage:
            _on_stage[-1].append(self)

    def __rshift__(self, event: Event | Answering | Later) -> "Play":
        """An event arrives."""
        self.asserted = False
        self._ahead.append((event, []))
        return self

    def __lshift__(self, line: Line) -> "Play":
        """A command is expected."""
        assert self._ahead, "a play begins with an event"
        self._ahead[-1][1].append(line)
        return self

    def __bool__(self) -> bool:
        """Perform what is ahead; raise an AssertionError with the play where it differs."""
        __tracebackhide__ = True
        self.asserted = True
        assert self._ahead, "nothing is played"
        ahead, self._ahead = self._ahead, []
        for event, lines in ahead:
            self._perform(event, lines)
        return True

    def _perform(self, event: Event | Answering | Later, lines: list[Line]) -> None:
        __tracebackhide__ = True
        self._so_far.append(f"    >> {shown(event)}")
        if isinstance(event, Later):
            assert not lines, "nothing follows from time alone"
            self.now = Instant(self.now + event.seconds)
            return
        if isinstance(event, Answering):
            event = event.make(self.exchange.ask)
        self.exchange.handle(event, self.now)
        commands = self.scribe.take()
        if not self._alike(commands, lines):
            said = [f"  -    << {line!r}" for line in lines]
            said += [f"  +    << {shown(command)}" for command in commands]
            raise AssertionError("\n".join(["the play went differently", *self._so_far, *said]))
        self._so_far += [f"       << {shown(command)}" for command in commands]

    def _alike(self, commands: list[Command], lines: list[Line]) -> bool:
        if not lines:
            return not commands
        line, rest = lines[0], lines[1:]
        if line is ...:
            return any(self._alike(commands[at:], rest) for at in range(len(commands) + 1))
        if not commands:
            return False
        alike = line.test(commands[0], self) if isinstance(line, Expected) else commands[0] == line
        return alike and self._alike(commands[1:], rest)


_on_stage: list[list[Play]] = []


@contextlib.contextmanager
def curtain() -> Iterator[None]:
    """Around a test: every play that went on stage in it must have been asserted to its end."""
    plays: list[Play] = []
    _on_stage.append(plays)
    try:
        yield
    finally:
        _on_stage.pop()
    unasserted = [play for play in plays if not play.asserted]
    assert not unasserted, f"{len(unasserted)} plays were written and never asserted"

"""Waiting with a deadline: for facts that somebody notes, and for claims that nobody announces."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 10.0
"""How long a test waits for what must happen: far above what it takes on a busy machine."""

_LOOK_EVERY_S: Final = 0.01


def eventually(claim: Callable[[], T], what: str, *, within_s: float = WITHIN_S) -> T:
    """The first true value of `claim`, for facts without events (files, /proc, processes)."""
    end = time.monotonic() + within_s
    never = threading.Event()
    while True:
        value = claim()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what} (last seen: {value!r})")
        never.wait(_LOOK_EVERY_S)


def steady(read: Callable[[], T], *, for_s: float, within_s: float = 30.0) -> T:
    """The value of `read` once it has stayed the same for `for_s` seconds."""
    since, last = time.monotonic(), read()

    def same() -> bool:
        nonlocal since, last
        value = read()
        if value != last:
            since, last = time.monotonic(), value
        return time.monotonic() - since >= for_s

    eventually(same, f"a value that stays the same for {for_s} s", within_s=within_s)
    return last


class Fact(dict[str, Any]):
    """Something that happened, with what was known of it; `at` is the monotonic moment."""

    __getattr__ = dict.__getitem__


class Journal:
    """Facts in the order they happened, noted by one thread and waited for by another."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []
        self._news = threading.Condition()

    def note(self, kind: str, **known: Any) -> None:
        """Write a fact down and wake who waits."""
        with self._news:
            self._facts.append(Fact(kind=kind, at=time.monotonic(), **known))
            self._news.notify_all()

    def all(self, kind: str, **known: Any) -> list[Fact]:
        """Every fact of this kind so far of which `known` holds."""
        with self._news:
            return self._matching(kind, known)

    def wait(self, kind: str, *, count: int = 1, within_s: float = WITHIN_S, **known: Any) -> Fact:
        """The `count`-th fact of this kind, waiting for it."""
        with self._news:
            if not self._news.wait_for(lambda: len(self._matching(kind, known)) >= count, within_s):
                last = [f"{fact.kind} {dict(fact)}" for fact in self._facts[-12:]]
                raise AssertionError(
                    f"not within {within_s} s: {count} times {kind} {known}; last noted:\n"
                    + "\n".join(last)
                )
            return self._matching(kind, known)[count - 1]

    def _matching(self, kind: str, known: dict[str, Any]) -> list[Fact]:
        return [
            fact
            for fact in self._facts
            if fact["kind"] == kind and all(fact.get(key) == value for key, value in known.items())
        ]

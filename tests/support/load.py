"""A steady load from ordinary clients: it counts what failed, and why.

Each caller keeps its connection as long as the proxy lets it. A request on a *reused* connection
which closes before any byte of the answer is sent again once, as every HTTP client does (RFC 9112
§9.3.1); these are counted as `raced`, so that a test can claim that there were none.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Self

from tests.support.caller import Address, Caller, Ended, Response
from tests.support.waiting import eventually


@dataclass
class Score:
    """What became of the load so far."""

    answered: int = 0
    raced: int = 0
    turned_away: int = 0  # connecting was refused
    failed: list[str] = field(default_factory=list)


class Load:
    """Several callers that ask again and again; a context manager."""

    def __init__(
        self,
        address: Address,
        target: str = "/",
        *,
        callers: int = 8,
        method: str = "GET",
        body: bytes | None = None,
        pause_s: float = 0.002,
    ) -> None:
        self.score = Score()
        self._address = address
        self._target = target
        self._method = method
        self._body = body
        self._pause_s = pause_s
        self._guard = threading.Lock()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> Score:
        """Let every caller end its current exchange, then stop."""
        self._enough.set()
        for thread in self._threads:
            thread.join(20.0)
        assert not any(thread.is_alive() for thread in self._threads), "a caller hangs"
        return self.score

    def stop_calling(self) -> None:
        """Begin nothing new, as a balancer that saw readiness turn false."""
        self._enough.set()

    def wait_answered(self, more: int) -> None:
        """Wait until this many more requests were answered."""
        goal = self.score.answered + more
        eventually(
            lambda: self.score.answered >= goal, f"{more} more answers under load; {self.score}"
        )

    def _call(self) -> None:
        caller: Caller | None = None
        while not self._enough.is_set():
            caller = self._once(caller)
            self._enough.wait(self._pause_s)
        if caller is not None:
            caller.close()

    def _once(self, caller: Caller | None) -> Caller | None:
        """One request; the connection to go on with, if any."""
        reused = caller is not None
        begun = time.monotonic()
        try:
            caller = caller or Caller(self._address)
        except OSError as error:
            self._count(error)
            return None
        try:
            response = caller.get(self._target, self._method, body=self._body)
        except (OSError, Ended) as error:
            nothing_came = not caller.held
            caller.close()
            took_s = time.monotonic() - begun
            if reused and nothing_came and not isinstance(error, TimeoutError):
                with self._guard:
                    self.score.raced += 1
                return self._once(None)
            self._fail(f"{type(error).__name__}: {error} after {took_s:.3f} s, reused={reused}")
            return None
        return self._judge(caller, response)

    def _judge(self, caller: Caller, response: Response) -> Caller | None:
        if response.status != 200 or not response.complete:
            self._fail(f"{response.status} complete={response.complete} {response.body[:200]!r}")
        else:
            with self._guard:
                self.score.answered += 1
        if response.head.field("connection") == "close" or not response.complete:
            caller.close()
            return None
        return caller

    def _count(self, error: OSError) -> None:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            with self._guard:
                self.score.turned_away += 1
        else:
            self._fail(f"connecting: {error!r}")

    def _fail(self, why: str) -> None:
        with self._guard:
            self.score.failed.append(why)

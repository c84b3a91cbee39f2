"""What the plays of one file share: an origin, and a proxy that sends everything to it."""

from dataclasses import dataclass
from typing import Any

from tests.support.caller import Caller, Response
from tests.support.loom import Loom
from tests.support.origin import Act, Origin


@dataclass
class Stage:
    """An origin, and a proxy that sends everything to it."""

    origin: Origin
    loom: Loom
    path: str  # of this test alone

    def on(self, act: Act) -> str:
        """Have the origin play `act` for this test's path; returns the path."""
        return self.origin.on(self.path, act)

    def ask(self, act: Act | None = None, method: str = "GET", **more: Any) -> Response:
        """One request for this test's path, played by `act`."""
        if act is not None:
            self.on(act)
        return self.loom.ask(self.path, method, **more)

    def caller(self, **more: Any) -> Caller:
        """A new client connection."""
        return self.loom.caller(**more)

"""The stage of the end-to-end tests: an origin and a proxy before it, shared by the plays of one file."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.caller import Caller, Response
from tests.support.loom import Loom, Looms, Settings, looms, pool, settings, to
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

    def ask(self, act: Act | None = None, method: str = "GET", **more: object) -> Response:
        """One request for this test's path, played by `act`."""
        if act is not None:
            self.on(act)
        return self.loom.ask(self.path, method, **more)

    def caller(self, **more: object) -> Caller:
        """A new client connection."""
        return self.loom.caller(**more)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> str:
    """What is tested: `source` or `zipapp`."""
    return str(request.config.getoption("--subject"))


@pytest.fixture
def proxies(subject: str) -> Iterator[Looms]:
    """Starts proxies for one test."""
    with looms(subject) as made:
        yield made


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An origin for one test."""
    with Origin() as made:
        yield made
        assert not made.failures, made.failures


@pytest.fixture(scope="module")
def stage_settings(request: pytest.FixtureRequest) -> Settings:
    """What a file's shared proxy is configured with besides its pool and route; a file may define its own."""
    return dict(getattr(request.module, "STAGE", {}))


@pytest.fixture(scope="module")
def shared(subject: str, stage_settings: Settings) -> Iterator[tuple[Origin, Loom]]:
    """One origin and one proxy for all plays of a file."""
    with Origin() as origin, looms(subject) as made:
        more = dict(stage_settings)
        routes = [*more.pop("routes", []), to("app", name="app")]
        pools = {**more.pop("pools", {}), "app": pool(origin.url, ejection={"failures": 0})}
        loom = made.start(settings(pools=pools, routes=routes, **more))
        yield origin, loom
        made.close()
        assert not origin.failures, origin.failures


@pytest.fixture
def stage(shared: tuple[Origin, Loom], request: pytest.FixtureRequest) -> Stage:
    """The shared stage, with a path for this test alone."""
    origin, loom = shared
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return Stage(origin, loom, f"/{name}")

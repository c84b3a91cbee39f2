"""The stage of the end-to-end tests: an origin with a proxy before it, shared by a file's plays."""

from collections.abc import Iterator

import pytest

from tests.support.loom import Loom, Looms, looms, pool, settings, to
from tests.support.origin import Origin
from tests.support.stage import Stage


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
def shared(subject: str, request: pytest.FixtureRequest) -> Iterator[tuple[Origin, Loom]]:
    """One origin and one proxy for all plays of a file, which may configure more in `STAGE`."""
    with Origin() as origin, looms(subject) as made:
        more = dict(getattr(request.module, "STAGE", {}))
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

"""Options of the whole test run."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from loomproxy import log

# How fast inputs are invented says how busy the machine is, and nothing of what is tested.
settings.register_profile("house", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--subject`: what the end-to-end tests start."""
    parser.addoption(
        "--subject",
        choices=("source", "zipapp"),
        default="source",
        help="run the end-to-end tests against the source tree or against dist/loomproxy.pyz",
    )


@pytest.fixture(autouse=True)
def _lines_belong_to_their_test() -> Iterator[None]:
    """What the log still has to write is captured with the test that said it."""
    yield
    log._LOG.flush()


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the log of this process said since it was last asked; its rates begin anew."""
    monkeypatch.setattr(log._LOG, "rates", log.Rates())

    def read() -> str:
        assert log._LOG.flush()
        return capfd.readouterr().err

    return read

"""What every play of an exchange has around it."""

from collections.abc import Iterator

import pytest

from tests.playbook import curtain


@pytest.fixture(autouse=True)
def _curtain() -> Iterator[None]:
    """A play that was never asserted proves nothing."""
    with curtain():
        yield

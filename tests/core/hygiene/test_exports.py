"""What other rooms call of `loomproxy.core.hygiene` is found in one place."""

from loomproxy.core import hygiene


def test_everything_that_is_promised_is_there() -> None:
    for name in hygiene.__all__:
        assert getattr(hygiene, name) is not None

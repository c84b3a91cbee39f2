"""Options of the whole test run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--subject`: what the end-to-end tests start."""
    parser.addoption(
        "--subject",
        choices=("source", "zipapp"),
        default="source",
        help="run the end-to-end tests against the source tree or against dist/loomproxy.pyz",
    )

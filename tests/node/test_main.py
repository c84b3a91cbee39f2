"""What the node says of the limits of its process."""

from loomproxy.config.load import quick
from loomproxy.config.model import Config
from loomproxy.node.main import descriptors_warning


def config() -> Config:
    made = quick("127.0.0.1:0", ["http://127.0.0.1:9"])
    assert isinstance(made, Config)
    return made


def test_too_few_descriptors_for_the_connections_allowed_are_told_with_what_to_do() -> None:
    warning = descriptors_warning(config(), 1024)
    assert "a process may have 1024" in warning
    assert "LimitNOFILE" in warning
    assert "connections_max" in warning


def test_enough_descriptors_are_no_news() -> None:
    assert descriptors_warning(config(), 1 << 20) == ""

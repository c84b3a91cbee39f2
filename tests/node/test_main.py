"""What the node says of the limits of its process."""

import resource
from typing import Any

import msgspec
import pytest

from loomproxy.config.load import quick
from loomproxy.config.model import Config, Node
from loomproxy.node.main import descriptors_warning


def config(**node: Any) -> Config:
    made = quick("127.0.0.1:0", ["http://127.0.0.1:9"])
    assert isinstance(made, Config)
    static = msgspec.structs.replace(made.static, node=Node(**node))
    return msgspec.structs.replace(made, static=static)


def test_too_few_descriptors_for_the_connections_allowed_are_told_with_what_to_do() -> None:
    warning = descriptors_warning(config(), 1024)
    assert "a process may have 1024" in warning
    assert "LimitNOFILE" in warning
    assert "connections_max" in warning


@pytest.mark.parametrize("descriptors_max", [1 << 20, resource.RLIM_INFINITY])
def test_enough_descriptors_are_no_news(descriptors_max: int) -> None:
    assert descriptors_warning(config(), descriptors_max) == ""


def test_few_connections_wanted_need_few_descriptors() -> None:
    few, many = config(connections_max=400), config(connections_max=500)
    assert descriptors_warning(few, 1024) == ""
    assert "takes 480 connections and not the 500" in descriptors_warning(many, 1024)

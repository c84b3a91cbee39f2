"""A provider says which pool is its own, and whether anything new may go there."""

from loomproxy.core.chat.provider import Provider, Tongue
from loomproxy.core.endpoint import Address, EndpointSpec


def test_its_pool_is_named_after_it_and_is_no_name_of_the_configuration() -> None:
    assert Provider("acme").pool == "plugin:acme"


def test_it_is_ready_while_one_of_its_endpoints_is_enabled() -> None:
    on = EndpointSpec(Address(path="/run/new"))
    off = EndpointSpec(Address(path="/run/old"), enabled=False)
    assert not Provider("acme").ready
    assert not Provider("acme", (off,)).ready
    assert Provider("acme", (off, on)).ready


def test_each_tongue_is_another() -> None:
    assert {tongue.value for tongue in Tongue} == {"plugin", "openai"}

"""What a worker knows of a provider."""

from loomproxy.core.chat.provider import Provider
from loomproxy.core.endpoint import Address, EndpointSpec


def at(path: str, *, enabled: bool) -> EndpointSpec:
    return EndpointSpec(Address(path=path), enabled=enabled)


def test_a_provider_is_ready_with_one_enabled_endpoint() -> None:
    old, new = at("/run/1", enabled=False), at("/run/2", enabled=True)
    assert Provider("acme", (old, new)).ready
    assert not Provider("acme", (old,)).ready
    assert not Provider("acme").ready


def test_its_pool_has_its_name() -> None:
    assert Provider("acme").pool == "plugin:acme"

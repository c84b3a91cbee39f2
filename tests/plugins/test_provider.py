"""A manifest and its models become what workers are told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loomproxy.core.chat.provider import Model, Provider, Tongue
from loomproxy.core.endpoint import Address, EndpointSpec
from loomproxy.plugins.contract import Capabilities, Metadata, ModelInfo
from loomproxy.plugins.manifest import Auth, Found, Manifest, PathMap
from loomproxy.plugins.provider import (
    base_path,
    builtin_endpoint,
    models_path,
    provider,
    remote_endpoint,
)

METADATA = Metadata("Acme", "1.0.0", "1.0.0", "acme", capabilities=Capabilities(streaming=True))
PROCESS = Manifest(METADATA, command="./run")
REMOTE = Manifest(METADATA, endpoint="http://host:9/base")
BUILTIN = Manifest(METADATA, type="builtin", endpoint="http://host:9/v1")


def told(manifest: Manifest, *models: ModelInfo, **more: Any) -> Provider:
    found = Found(Path("/p/plugin.yaml"), Path("/p"), manifest)
    more = {"endpoints": (), "reason": "", "published_at": 0, **more}
    return provider(found, models, **more)


def model(info: ModelInfo, manifest: Manifest = PROCESS) -> Model:
    (only,) = told(manifest, info).models
    return only


def test_what_workers_are_told_of_a_plugin() -> None:
    manifest = Manifest(METADATA, command="x", request_timeout_s=9.0, idle_timeout_s=4.0)
    endpoints = (
        EndpointSpec(Address(path="/run/a")),
        EndpointSpec(Address(path="/b"), enabled=False),
    )
    result = told(manifest, ModelInfo("m"), endpoints=endpoints, published_at=7, reason="")
    assert result == Provider(
        "acme",
        endpoints,
        result.models,
        tongue=Tongue.PLUGIN,
        streaming=True,
        target=b"/chat/completions",
        request_timeout_s=9.0,
        idle_timeout_s=4.0,
        published_at=7,
    )
    assert result.ready


def test_why_nothing_is_ready_is_told() -> None:
    result = told(PROCESS, reason="it is starting")
    assert (result.reason, result.ready) == ("it is starting", False)


@pytest.mark.parametrize(
    ("manifest", "tongue", "target", "models"),
    [
        (PROCESS, Tongue.PLUGIN, b"/chat/completions", "/models"),
        (REMOTE, Tongue.PLUGIN, b"/base/chat/completions", "/base/models"),
        (BUILTIN, Tongue.OPENAI, b"/v1/chat/completions", "/v1/models"),
        (
            msgspec.structs.replace(BUILTIN, path_map=PathMap("/c", "/m")),
            Tongue.OPENAI,
            b"/v1/c",
            "/v1/m",
        ),
        (
            msgspec.structs.replace(BUILTIN, endpoint="unix:/run/a.sock"),
            Tongue.OPENAI,
            b"/chat/completions",
            "/models",
        ),
        (
            msgspec.structs.replace(REMOTE, endpoint="http://host:9/"),
            Tongue.PLUGIN,
            b"/chat/completions",
            "/models",
        ),
    ],
)
def test_where_each_kind_answers_and_what_it_speaks(
    manifest: Manifest, tongue: Tongue, target: bytes, models: str
) -> None:
    result = told(manifest)
    assert (result.tongue, result.target) == (tongue, target)
    assert models_path(manifest) == models
    assert models == base_path(manifest) + models.removeprefix(base_path(manifest))


def test_a_plugin_streams_when_it_says_so() -> None:
    silent = msgspec.structs.replace(METADATA, capabilities=Capabilities())
    assert told(PROCESS).streaming
    assert not told(Manifest(silent, command="x"), ModelInfo("m")).streaming


@pytest.mark.parametrize(
    ("prices", "into", "out"),
    [
        ({}, None, None),
        ({"cost_per_mtoken": 3.0}, 3.0, 3.0),
        ({"cost_per_mtoken": 0.0}, 0.0, 0.0),
        ({"input_cost_per_mtoken": 1.0, "output_cost_per_mtoken": 2.0}, 1.0, 2.0),
        ({"cost_per_mtoken": 3.0, "output_cost_per_mtoken": 2.0}, 3.0, 2.0),
        ({"cost_per_mtoken": 3.0, "input_cost_per_mtoken": 0.0}, 0.0, 3.0),
        ({"input_cost_per_mtoken": 1.0}, 1.0, None),
    ],
)
def test_one_price_is_that_of_both_directions(
    prices: dict[str, float], into: float | None, out: float | None
) -> None:
    priced = model(ModelInfo("m", **prices))
    assert (priced.input_cost_per_mtoken, priced.output_cost_per_mtoken) == (into, out)


def test_a_model_keeps_what_it_says() -> None:
    info = ModelInfo("m", "M", "good", 8, 4, deprecated=True, metadata={"dropped": 1})
    result = model(info)
    assert (result.id, result.name, result.description) == ("m", "M", "good")
    assert (result.context_window, result.max_output_tokens, result.deprecated) == (8, 4, True)
    assert model(ModelInfo("m")).name == "m"


def test_a_model_that_says_nothing_of_itself_can_do_what_its_plugin_can() -> None:
    assert model(ModelInfo("m")).capabilities["streaming"]
    its_own = model(ModelInfo("m", capabilities=Capabilities(vision=True))).capabilities
    assert its_own["vision"]
    assert not its_own["streaming"]


def test_a_custom_capability_never_overrides_one_of_the_contract() -> None:
    custom = {"vision": True, "long context": True, "cheap": False}
    capabilities = model(
        ModelInfo("m", capabilities=Capabilities(custom_capabilities=custom))
    ).capabilities
    assert capabilities == {
        "streaming": False,
        "function_calling": False,
        "vision": False,
        "embeddings": False,
        "fine_tuning": False,
        "long context": True,
        "cheap": False,
    }


@pytest.mark.parametrize("endpoint", [builtin_endpoint, remote_endpoint])
def test_an_endpoint_is_shown_what_auth_says(endpoint: Any) -> None:
    assert endpoint(BUILTIN) == EndpointSpec(Address("host", 9))
    for auth, shown in (
        (Auth(secret="k"), ((b"Authorization", b"Bearer k"),)),
        (Auth(secret="k", scheme="Token"), ((b"Authorization", b"Token k"),)),
        (Auth("authorization", "", "k"), ((b"authorization", b"k"),)),
        (Auth("X-Api-Key", secret="k"), ((b"X-Api-Key", b"k"),)),
        (Auth(), ()),
    ):
        with_auth = msgspec.structs.replace(BUILTIN, auth=auth)
        assert endpoint(with_auth).secrets == shown
    on_unix = msgspec.structs.replace(BUILTIN, endpoint="unix:/run/a.sock")
    assert endpoint(on_unix).address == Address(path="/run/a.sock")


def test_what_workers_are_told_can_travel() -> None:
    result = told(
        BUILTIN, ModelInfo("m", cost_per_mtoken=1.0), endpoints=(builtin_endpoint(BUILTIN),)
    )
    sent = msgspec.msgpack.encode(result)
    assert msgspec.msgpack.decode(sent, type=Provider) == result

"""A plugin's typed configuration: what a dataclass means as a schema, and what is refused."""

from dataclasses import dataclass, field
from typing import Any, Optional

import msgspec
import pytest

from loomproxy.plugins import contract, sdk
from loomproxy.plugins.sdk.config import NoConfig, configure, schema_of


@dataclass(frozen=True)
class Config:
    api_key: str = sdk.secret("The key.", min_length=3)
    region: str = sdk.option("eu", "Where.", enum=("eu", "us"))
    retries: int = sdk.option(2, min=0, max=5)
    wait: float = 1.5
    cache: bool = False
    team: str | None = None
    tag: Optional[str] = sdk.option(None, pattern="[a-z]+")  # noqa: UP045 - authors write it so


FIELDS = [
    contract.ConfigField(
        "api_key",
        "string",
        required=True,
        description="The key.",
        sensitive=True,
        validation=contract.Validation(min_length=3),
    ),
    contract.ConfigField(
        "region",
        "string",
        description="Where.",
        default="eu",
        validation=contract.Validation(enum=("eu", "us")),
    ),
    contract.ConfigField("retries", "int", default=2, validation=contract.Validation(min=0, max=5)),
    contract.ConfigField("wait", "float", default=1.5),
    contract.ConfigField("cache", "bool", default=False),
    contract.ConfigField("team", "string"),
    contract.ConfigField("tag", "string", validation=contract.Validation(pattern="[a-z]+")),
]


def test_a_dataclass_is_a_config_schema() -> None:
    assert msgspec.convert(schema_of(Config), list[contract.ConfigField]) == FIELDS
    assert schema_of(NoConfig) == []


def test_annotations_may_be_text_as_future_annotations_leave_them() -> None:
    @dataclass
    class Later:
        a: "int | None" = None
        b: "typing.Optional[float]" = None  # type: ignore[name-defined]  # noqa: F821 - text only
        c: "None | bool" = None  # noqa: RUF036 - authors write it so

    assert [entry["type"] for entry in schema_of(Later)] == ["int", "float", "bool"]


def test_what_is_absent_has_its_default_and_a_whole_number_is_a_float() -> None:
    config = configure(Config, {"api_key": "äöü", "wait": 2, "team": None})
    assert config == Config("äöü", "eu", 2, 2.0, False, None, None)
    assert type(config.wait) is float
    assert "äöü" not in repr(config)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "no JSON object"),
        ({}, "api_key: is required"),
        ({"api_key": ""}, "api_key: is empty"),
        ({"api_key": None}, "api_key: is not text"),
        ({"api_key": "xy"}, "api_key: the value does not satisfy min_length: 3"),
        ({"region": "mars"}, "region: 'mars' does not satisfy enum"),
        ({"retries": 6}, "retries: 6 does not satisfy max: 5"),
        ({"retries": -1}, "retries: -1 does not satisfy min: 0"),
        ({"retries": 2.0}, "retries: is not a whole number"),
        ({"retries": True}, "retries: is not a whole number"),
        ({"wait": "1"}, "wait: is not a number"),
        ({"wait": True}, "wait: is not a number"),
        ({"wait": 10**400}, "wait: is not a number"),
        ({"cache": 1}, "cache: is not true or false"),
        ({"tag": "abc1"}, "tag: 'abc1' does not satisfy pattern"),
        ({"tag": "abc\n"}, "tag: 'abc\\n' does not satisfy pattern"),
        ({"nope": 1}, "nope: there is no such key"),
    ],
)
def test_each_rule_refuses_by_name(given: Any, named: str) -> None:
    if isinstance(given, dict) and given and "api_key" not in given:
        given = {"api_key": "secret", **given}
    with pytest.raises(sdk.PluginError) as caught:
        configure(Config, given)
    assert caught.value.code == "invalid_request"
    assert named in caught.value.message
    assert "secret" not in caught.value.message


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(sdk.PluginError) as caught:
        configure(Config, {"retries": 9, "wait": None, "nope": 1})
    assert len(caught.value.details["problems"]) == 3


def test_what_is_no_flat_dataclass_is_refused_where_it_is_written() -> None:
    @dataclass
    class Deep:
        keys: list[str] = field(default_factory=list)

    @dataclass
    class Odd:
        keys: dict[str, str]

    class Plain:
        pass

    for kind, words in (
        (Deep, "default_factory"),
        (Odd, "Odd.keys: is dict"),
        (Plain, "@dataclass"),
    ):
        with pytest.raises(TypeError, match=words):
            sdk.Plugin("p", version="1.0.0", config=kind)
    with pytest.raises(Exception, match=r"unterminated|missing"):
        sdk.option("", pattern="(")

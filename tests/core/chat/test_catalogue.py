"""Which provider answers which model."""

import json

import pytest

from loomproxy.core.chat.catalogue import (
    NAMES_SHOWN_MAX,
    OTHER_MODELS,
    Catalogue,
    Target,
)
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.provider import Model, Provider
from loomproxy.core.endpoint import Address, EndpointSpec

HERE = (EndpointSpec(Address(path="/run/a")),)
ACME = Provider(
    "acme",
    HERE,
    models=(
        Model(
            "m1",
            name="One",
            context_window=8000,
            input_cost_per_mtoken=0.5,
            capabilities={"streaming": True},
        ),
        Model("shared"),
        Model("org/m3"),
    ),
    published_at=17,
)
OTHER = Provider("other", HERE, models=(Model("shared"), Model("acme/m1")))
ANY = Provider("any", HERE)
AWAY = Provider("away", models=(Model("gone"),), reason="it crashed.")
STOPPED = Provider("stopped", (EndpointSpec(Address(path="/run/s"), enabled=False),))
ALL = Catalogue((ACME, OTHER, ANY, AWAY, STOPPED))


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("acme/m1", ACME, "m1"),
        ("acme/org/m3", ACME, "org/m3"),
        ("m1", ACME, "m1"),
        ("org/m3", ACME, "org/m3"),
        ("other/acme/m1", OTHER, "acme/m1"),
        ("any/thing/at-all", ANY, "thing/at-all"),
    ],
)
def test_a_name_leads_to_a_provider(name: str, provider: Provider, model: str) -> None:
    assert ALL.find(name) == Target(provider, model, listed=provider is not ANY)


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("shared", 400, "say which: acme/shared, other/shared."),
        ("nobody-s", 404, "No provider serves the model 'nobody-s'. GET /v1/models lists"),
        ("acme/m2", 404, "Did you mean acme/m1"),
        ("what/ever", 404, "GET /v1/models lists all there are."),
        ("away/gone", 503, "The provider away is not available: it crashed."),
        ("gone", 503, "it crashed"),
        ("stopped/x", 503, "nothing of it is ready"),
        ("acme/", 200, ""),
    ],
)
def test_a_name_that_leads_nowhere_is_explained(name: str, status: int, says: str) -> None:
    found = ALL.find(name)
    if status == 200:
        assert found == Target(ACME, "m1")
        return
    assert isinstance(found, Complaint)
    assert found.status == status
    assert says in found.message


def test_one_provider_may_be_asked_by_name() -> None:
    assert ALL.find_in("acme", "") == Target(ACME, "m1")
    assert ALL.find_in("other", "shared") == Target(OTHER, "shared")
    nobody, nothing = ALL.find_in("nobody", ""), ALL.find_in("any", "")
    assert isinstance(nobody, Complaint)
    assert (nobody.status, nobody.param) == (404, "provider_id")
    assert "acme, any, away, other, stopped" in nobody.message
    assert isinstance(nothing, Complaint)
    assert (nothing.status, nothing.param) == (400, "model")


def test_there_may_be_no_provider() -> None:
    found = Catalogue().find_in("acme", "m1")
    assert isinstance(found, Complaint)
    assert found.message.endswith("there are: none.")
    assert Catalogue().listing == b'{"object":"list","data":[]}'


def test_of_many_names_some_are_shown() -> None:
    many = Catalogue(Provider(f"p{n}", HERE, models=(Model("m"),)) for n in range(9))
    found = many.find("m")
    assert isinstance(found, Complaint)
    assert found.message.count("/m") == NAMES_SHOWN_MAX
    assert found.message.endswith(", ….")


def test_a_model_that_a_client_made_up_has_no_name_in_metrics() -> None:
    assert Target(ACME, "m1").label == "m1"
    assert Target(ANY, "invented", listed=False).label == OTHER_MODELS


def test_the_list_has_what_can_be_asked_now() -> None:
    said = json.loads(ALL.listing)
    assert said["object"] == "list"
    assert [each["id"] for each in said["data"]] == [
        "acme/m1",
        "acme/shared",
        "acme/org/m3",
        "other/shared",
        "other/acme/m1",
    ]
    assert said["data"][0] == {
        "id": "acme/m1",
        "object": "model",
        "created": 17,
        "owned_by": "acme",
        "name": "One",
        "context_window": 8000,
        "capabilities": {"streaming": True},
        "input_cost_per_mtoken": 0.5,
        "output_cost_per_mtoken": None,
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("acme/m1", "acme/m1"),
        ("m1", "acme/m1"),
        ("shared", None),
        ("gone", None),
        ("away/gone", None),
        ("x", None),
    ],
)
def test_one_of_the_list(name: str, found: str | None) -> None:
    entry = ALL.entry(name)
    assert (None if entry is None else json.loads(entry)["id"]) == found


def test_a_name_without_end_is_shown_as_far_as_anybody_reads() -> None:
    for found in (
        ALL.find("x" * 10_000),
        ALL.find_in("x" * 10_000, "m"),
        ALL.find("acme/" + "y" * 10_000),
    ):
        assert isinstance(found, Complaint)
        assert len(found.message) < 250

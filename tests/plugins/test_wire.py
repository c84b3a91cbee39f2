"""What plugins say is read whatever it is: rows for each answer, and any bytes at all."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.problem import Problem, Problems
from loomproxy.plugins.contract import (
    Capabilities,
    ConfigField,
    HealthStatus,
    Metadata,
    ModelInfo,
    PluginError,
    Validation,
)
from loomproxy.plugins.wire import (
    CODES,
    ERROR_BYTES_MAX,
    EXCERPT_CHARS_MAX,
    HEALTH_BYTES_MAX,
    MESSAGE_CHARS_MAX,
    MODELS_MAX,
    UPSTREAM_MODELS_BYTES_MAX,
    error_in,
    error_of,
    health_of,
    metadata_of,
    models_of,
    openai_models_of,
)

METADATA = {
    "name": "Acme",
    "version": "1.0.0",
    "plugin_api_version": "1.0.0",
    "provider_type": "acme",
}
READERS = (metadata_of, health_of, models_of, openai_models_of)

HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "no UTF-8": b'"\xff"',
    "a NUL": b"\0",
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "half a surrogate pair, the second": b'["\\udc00"]',
    "NaN": b'{"healthy": NaN}',
    "Infinity": b"[Infinity]",
    "a number out of range": b"[1e999]",
    "a number of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "a depth bomb of lists": b"[" * 100_000,
    "a depth bomb of lists that ends": b"[" * 500 + b"]" * 500,
    "a depth bomb of objects": b'{"details":' * 400 + b"1" + b"}" * 400,
    "a depth that the decoder takes": b'[{"id": "a", "metadata": {"a":' + b"[" * 40 + b"]" * 40
    + b"}}]",
    "a wrong end": b"{}x",
    "too much": b" " * (UPSTREAM_MODELS_BYTES_MAX + 1),
}  # fmt: skip


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def problems_of(read: object) -> dict[str, Problem]:
    assert isinstance(read, Problems), read
    return {problem.path: problem for problem in read.items}


# ---- Metadata. ---------------------------------------------------------------------------------


def test_metadata() -> None:
    field = {
        "name": "key",
        "type": "string",
        "required": True,
        "sensitive": True,
        "description": "From\nAcme.",
        "validation": {"pattern": "[a-z]+", "enum": ["a", "b"], "min_length": None},
    }
    more = {"capabilities": {"streaming": True, "custom_capabilities": {"x y": False}}}
    read = metadata_of(encoded({**METADATA, **more, "config_schema": [field]}))
    assert read == Metadata(
        **METADATA,
        capabilities=Capabilities(streaming=True, custom_capabilities={"x y": False}),
        config_schema=(
            ConfigField(
                "key",
                "string",
                required=True,
                sensitive=True,
                description="From Acme.",
                validation=Validation(pattern="[a-z]+", enum=("a", "b")),
            ),
        ),
    )


@pytest.mark.parametrize("body", [None, {}])
def test_null_metadata_is_told_and_crashes_nothing(body: object) -> None:
    assert set(problems_of(metadata_of(encoded(body)))) == {f"metadata.{key}" for key in METADATA}


@pytest.mark.parametrize("body", [[], "x", 1, True, [METADATA]])
def test_metadata_that_is_no_object_is_told(body: object) -> None:
    assert set(problems_of(metadata_of(encoded(body)))) == {"metadata"}


@pytest.mark.parametrize("key", list(METADATA))
def test_metadata_without_what_it_needs_is_refused(key: str) -> None:
    without = {name: value for name, value in METADATA.items() if name != key}
    for body in (without, {**METADATA, key: None}, {**METADATA, key: ""}, {**METADATA, key: 1}):
        assert set(problems_of(metadata_of(encoded(body)))) == {f"metadata.{key}"}


@pytest.mark.parametrize("key", ["description", "capabilities", "config_schema", "license"])
def test_a_null_where_nothing_is_needed_is_its_default(key: str) -> None:
    assert metadata_of(encoded({**METADATA, key: None})) == Metadata(**METADATA)


@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "10.0.0"])
def test_another_major_of_the_contract_is_refused(version: str) -> None:
    read = metadata_of(encoded({**METADATA, "plugin_api_version": version}))
    problem = problems_of(read)["metadata.plugin_api_version"]
    assert problem.seen.startswith(version)
    assert "major 1" in problem.expected


@pytest.mark.parametrize("version", ["1.0.0", "1.7.3", "1.0.1-rc.1"])
def test_another_minor_of_the_contract_is_taken(version: str) -> None:
    assert isinstance(metadata_of(encoded({**METADATA, "plugin_api_version": version})), Metadata)


def test_what_the_contract_does_not_know_is_passed_over() -> None:
    body = {**METADATA, "later": {"a": [1]}, "capabilities": {"telepathy": True}}
    body["config_schema"] = [{"name": "a", "type": "int", "unit": "s", "validation": {"x": 1}}]
    assert isinstance(metadata_of(encoded(body)), Metadata)


def test_a_reference_in_what_a_plugin_says_is_nothing_but_text() -> None:
    """A guest that names a variable of the proxy must not be told what it holds."""
    os.environ["LOOMPROXY_TEST_SECRET"] = "geheim"
    try:
        said = "${LOOMPROXY_TEST_SECRET} ${file:/etc/hostname} ${"
        read = metadata_of(encoded({**METADATA, "description": said}))
    finally:
        del os.environ["LOOMPROXY_TEST_SECRET"]
    assert isinstance(read, Metadata)
    assert read.description == said


def test_a_pattern_of_somebody_elsewhere_is_compiled_and_not_run() -> None:
    """This one would take longer than the test may."""
    field: dict[str, Any] = {"name": "a", "type": "string", "default": "a" * 64 + "!"}
    field["validation"] = {"pattern": "(a|aa)+$"}
    assert isinstance(metadata_of(encoded({**METADATA, "config_schema": [field]})), Metadata)
    field["validation"] = {"pattern": "("}
    read = metadata_of(encoded({**METADATA, "config_schema": [field]}))
    assert set(problems_of(read)) == {"metadata.config_schema[0].validation.pattern"}


# ---- Health. -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"healthy": True}, HealthStatus(healthy=True)),
        ({"healthy": False, "message": None}, HealthStatus(healthy=False)),
        (
            {
                "healthy": False,
                "message": "Not\ninitialized",
                "latency_ms": 3,
                "details": {"a": []},
            },
            HealthStatus(
                healthy=False, message="Not initialized", latency_ms=3.0, details={"a": []}
            ),
        ),
        ({"healthy": True, "later": 1}, HealthStatus(healthy=True)),
    ],
)
def test_health(body: object, status: HealthStatus) -> None:
    assert health_of(encoded(body)) == status


@pytest.mark.parametrize(
    "moment", ["2026-01-21T13:42:00", "2026-01-21T13:42:00.123456", "2026-01-21T13:42:00+01:00", ""]
)
def test_a_moment_without_offset_is_as_good_as_any(moment: str) -> None:
    read = health_of(encoded({"healthy": True, "timestamp": moment}))
    assert read == HealthStatus(healthy=True, checked_at=moment)


def test_a_long_message_is_cut_and_takes_nobody_out_of_service() -> None:
    read = health_of(encoded({"healthy": True, "message": "x" * 10_000}))
    assert isinstance(read, HealthStatus)
    assert len(read.message) == 4096


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "health.healthy"),
        ({"healthy": None}, "health.healthy"),
        ({"healthy": 1}, "health.healthy"),
        ({"healthy": "true"}, "health.healthy"),
        ({"healthy": True, "latency_ms": "3"}, "health.latency_ms"),
        ({"healthy": True, "details": []}, "health.details"),
        ({"healthy": True, "message": 1}, "health.message"),
        ([], "health"),
        ("ok", "health"),
    ],
)
def test_health_of_a_wrong_shape_is_told(body: object, path: str) -> None:
    assert path in problems_of(health_of(encoded(body)))


# ---- Models. -----------------------------------------------------------------------------------


def test_models_are_a_list_without_anything_around_it() -> None:
    body: list[dict[str, Any]] = [
        {"id": "a", "name": "A", "context_window": 4096, "metadata": {"k": [1]}, "owner": "x"},
        {"id": "b", "input_cost_per_mtoken": 1, "output_cost_per_mtoken": 2.5},
    ]
    assert models_of(encoded(body)) == (
        ModelInfo("a", "A", context_window=4096, metadata={"k": [1]}),
        ModelInfo("b", input_cost_per_mtoken=1.0, output_cost_per_mtoken=2.5),
    )


@pytest.mark.parametrize("body", [[], None])
def test_no_models_are_none(body: object) -> None:
    """Go writes a list that nobody filled as null."""
    assert models_of(encoded(body)) == ()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"data": []}, "models"),
        ("a", "models"),
        ([{"name": "a"}], "models[0].id"),
        ([{"id": ""}], "models[0].id"),
        ([None], "models[0].id"),
        ([["a"]], "models[0]"),
        (["a"], "models[0]"),
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "models[2].id"),
        ([{"id": "a", "context_window": -1}], "models[0].context_window"),
        ([{"id": "a", "context_window": 10**30}], "models[0].context_window"),
        ([{"id": "a", "cost_per_mtoken": -1}], "models[0].cost_per_mtoken"),
        ([{"id": "a", "capabilities": {"vision": 1}}], "models[0].capabilities.vision"),
        ([{"id": str(number)} for number in range(MODELS_MAX + 1)], "models"),
    ],
)
def test_models_of_a_wrong_shape_are_told(body: object, path: str) -> None:
    assert path in problems_of(models_of(encoded(body)))


def test_as_many_models_as_are_allowed_are_good() -> None:
    read = models_of(encoded([{"id": str(number)} for number in range(MODELS_MAX)]))
    assert isinstance(read, tuple), str(read)
    assert len(read) == MODELS_MAX


def test_an_answer_of_just_the_size_that_is_allowed_is_read() -> None:
    whole = b'{"healthy": true}'.ljust(HEALTH_BYTES_MAX)
    assert health_of(whole) == HealthStatus(healthy=True)
    assert isinstance(health_of(whole + b" "), Problems)


def test_every_model_that_is_wrong_is_told_at_once() -> None:
    body = [{"id": "a"}, {"id": 1}, {"id": "b", "deprecated": "no"}]
    assert set(problems_of(models_of(encoded(body)))) == {"models[1].id", "models[2].deprecated"}


def test_models_of_an_upstream_that_speaks_the_openai_dialect() -> None:
    entry = {"id": "gpt", "object": "model", "created": 1, "name": 5, "metadata": "x"}
    assert openai_models_of(encoded({"object": "list", "data": [entry]})) == (ModelInfo("gpt"),)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], "models"),
        (None, "models"),
        ({}, "models"),
        ({"data": None}, "models"),
        ({"data": [1]}, "models.data[0]"),
        ({"data": [{}]}, "models.data[0].id"),
        ({"data": [{"id": "a"}, {"id": "a"}]}, "models.data[1].id"),
    ],
)
def test_an_upstreams_models_of_a_wrong_shape_are_told(body: object, path: str) -> None:
    assert path in problems_of(openai_models_of(encoded(body)))


# ---- Errors. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("transient", [True, False])
def test_code_and_transient_come_through_intact(code: str, transient: bool) -> None:
    body = {"code": code, "message": "m", "transient": transient, "details": {"retry_after": 3}}
    error = error_of(429, encoded(body))
    assert (error.code, error.message, error.transient) == (code, "m", transient)
    assert error.details == {"retry_after": 3}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"code": "timeout", "message": "slow", "transient": None, "details": None},
            PluginError("timeout", "slow"),
        ),
        (
            {"code": "timeout", "message": "slow", "transient": 1, "details": []},
            PluginError("timeout", "slow"),
        ),
        ({"code": "timeout"}, PluginError("timeout", "timeout")),
        ({"code": "timeout", "message": " \n"}, PluginError("timeout", "timeout")),
        (
            {"code": "out_of_tea", "message": "no tea", "transient": True},
            PluginError("internal_error", "no tea", {"code": "out_of_tea"}, transient=True),
        ),
        (
            {"code": "", "message": ""},
            PluginError("internal_error", "it says nothing", {"code": ""}),
        ),
        ({"code": "timeout", "message": "two\nlines\x1b[0m"}, None),
    ],
)
def test_errors_are_read_as_far_as_they_can_be(body: object, error: PluginError | None) -> None:
    expected = error or PluginError("timeout", "two lines�[0m")
    assert error_of(500, encoded(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": "boom"}',
        b'{"error": {"code": "timeout", "message": "boom"}}',
        b'{"code": 5, "message": "boom"}',
        b'{"code": "timeout", "message": {"boom": 1}}',
        b'{"message": "boom"}',
        b'["boom"]',
        b'"boom"',
        b"<html>\n<b>boom</b></html>",
        b"boom\xff\xfe",
        b"boom\0\x1b[2J",
        b"boom" + b"[" * 100_000,
        b'{"code": "timeout", "message": "boom' + b"x" * ERROR_BYTES_MAX + b'"}',
    ],
)
def test_a_body_that_is_no_error_is_told_with_its_status_and_its_beginning(body: bytes) -> None:
    error = error_of(502, body)
    assert error.code == "internal_error"
    assert not error.transient
    assert "502" in error.message
    assert "boom" in error.message
    assert error.message.isprintable()
    assert len(error.message) < EXCERPT_CHARS_MAX + 80


@pytest.mark.parametrize("body", [b"", b" \n "])
def test_an_error_without_a_body_is_told_with_its_status(body: bytes) -> None:
    message = error_of(418, body).message
    assert message == "the plugin answered 418 without a PluginError"


def test_a_body_that_just_fits_is_told_whole() -> None:
    assert error_of(500, b"x" * EXCERPT_CHARS_MAX).message.endswith("x" * EXCERPT_CHARS_MAX)
    assert error_of(500, b"x" * (EXCERPT_CHARS_MAX + 1)).message.endswith("x…")


def test_a_long_message_is_cut() -> None:
    error = error_of(500, encoded({"code": "timeout", "message": "x" * 50_000}))
    assert len(error.message) == MESSAGE_CHARS_MAX
    assert error.message.endswith("…")


def test_the_error_within_a_stream_is_read_alike() -> None:
    assert error_in({"code": "timeout", "message": "m"}) == PluginError("timeout", "m")
    assert error_in("boom") is None


# ---- Whatever comes. ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("read", READERS)
def test_hostile_answers_are_told_in_short(read: Any, data: bytes) -> None:
    result = read(data)
    assert isinstance(result, Problems)
    assert len(str(result)) < 1000
    assert error_of(500, data).message


def test_tens_of_thousands_of_keys_are_passed_over() -> None:
    flood = {f"k{number}": number for number in range(50_000)}
    assert metadata_of(encoded({**flood, **METADATA})) == Metadata(**METADATA)


def test_a_health_answer_of_a_megabyte_is_refused_before_it_is_read() -> None:
    flood = {f"k{number}": number for number in range(100_000)}
    read = health_of(encoded({"healthy": True, "details": flood}))
    assert "more than 65536 bytes" in problems_of(read)["health"].seen


def test_problems_with_tens_of_thousands_of_keys_are_bounded() -> None:
    flood = {f"k{number}": number for number in range(50_000)}
    read = metadata_of(encoded({**METADATA, "capabilities": {"custom_capabilities": flood}}))
    assert len(problems_of(read)) == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("id", "name", "healthy", "details", "code", "message", "data", *METADATA)
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    for read in READERS:
        result = read(data)
        assert not isinstance(result, Problems) or result.items
    error = error_of(500, data)
    assert error.message
    assert error.code in CODES

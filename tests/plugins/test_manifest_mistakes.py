"""Everything that is wrong with a manifest is told at once, each with its place and what to do."""

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loomproxy.config.problem import Problems
from loomproxy.config.shape import keys_of
from loomproxy.plugins.contract import ConfigField, Metadata, ModelInfo, Validation
from loomproxy.plugins.manifest import Auth, Limits, Manifest, read
from loomproxy.plugins.wire import MODELS_MAX
from tests.plugins.manifests import (
    BUILTIN,
    METADATA,
    PROCESS,
    REMOTE,
    bad,
    with_field,
    with_metadata,
    written,
)


@pytest.mark.parametrize(
    ("tree", "path", "claim"),
    [
        # The kind of plugin.
        ({**PROCESS, "type": "grpc"}, "type", "no proxy speaks it yet"),
        ({"metadata": METADATA, "type": "grpc"}, "type", "no proxy speaks it yet"),
        ({**REMOTE, "type": "grpc"}, "type", "no proxy speaks it yet"),
        ({**PROCESS, "type": "wasm"}, "type", "none of the words"),
        ({"metadata": METADATA}, "command", "missing"),
        ({"metadata": METADATA, "command": ""}, "command", "missing"),
        ({**PROCESS, **REMOTE}, "endpoint", "beside `command`"),
        ({"metadata": METADATA, "type": "builtin"}, "endpoint", "missing"),
        # Keys that would do nothing.
        ({**BUILTIN, "command": "x"}, "command", "says nothing about `type: builtin`"),
        ({**BUILTIN, "args": ["x"]}, "args", "says nothing"),
        ({**BUILTIN, "env": {"A": "b"}}, "env", "says nothing"),
        ({**BUILTIN, "replicas": 2}, "replicas", "says nothing"),
        ({**BUILTIN, "user": "nobody"}, "user", "says nothing"),
        ({**BUILTIN, "transport": "tcp"}, "transport", "says nothing"),
        ({**BUILTIN, "limits": {"processes": 1}}, "limits", "says nothing"),
        ({**BUILTIN, "stop_timeout": 1}, "stop_timeout", "says nothing"),
        ({**REMOTE, "user": "nobody"}, "user", "a plugin with an `endpoint`"),
        ({**REMOTE, "args": ["x"]}, "args", "says nothing"),
        ({**REMOTE, "path_map": {"models": "/m"}}, "path_map", "says nothing"),
        ({**PROCESS, "path_map": {"models": "/m"}}, "path_map", "says nothing"),
        ({**PROCESS, "auth": {"secret": "x"}}, "auth", "a plugin with a `command`"),
        # The program.
        ({**PROCESS, "command": "../x"}, "command", "leads out of the plugin's folder"),
        ({**PROCESS, "command": "a/../../x"}, "command", "leads out"),
        ({**PROCESS, "command": "python3 plugin.py"}, "command", "holds a space"),
        ({**PROCESS, "command": "a\0"}, "command", "control character"),
        ({**PROCESS, "args": "x"}, "args", "is not a list"),
        ({**PROCESS, "args": ["a\0"]}, "args[0]", "holds a NUL"),
        ({**PROCESS, "env": {"A": 1}}, "env.A", "is not text"),
        ({**PROCESS, "env": {"A-B": "x"}}, "env.A-B", "no name of a variable"),
        ({**PROCESS, "env": {"LOOM_PLUGIN_TOKEN": "x"}}, "env.LOOM_PLUGIN_TOKEN", "sets it itself"),
        ({**PROCESS, "replicas": 0}, "replicas", "below 1"),
        ({**PROCESS, "replicas": 65}, "replicas", "above 64"),
        ({**PROCESS, "limits": {"memory": 1}}, "limits.memory", "below 8MiB"),
        # The endpoint.
        ({**REMOTE, "endpoint": "ftp://a"}, "endpoint", "unknown scheme"),
        ({**REMOTE, "endpoint": "a:1"}, "endpoint", "no scheme"),
        ({**REMOTE, "auth": {"header": "Host", "secret": "x"}}, "auth.header", "not changed here"),
        ({**REMOTE, "auth": {"header": "TE", "secret": "x"}}, "auth.header", "frames the message"),
        ({**REMOTE, "auth": {"secret": "a\nb"}}, "auth.secret", "line break"),
        ({**REMOTE, "auth": {"scheme": "a b"}}, "auth.scheme", "not a token"),
        ({**BUILTIN, "path_map": {"models": "m"}}, "path_map.models", "does not begin with /"),
        # What it says of itself.
        ({"command": "x"}, "metadata", "missing"),
        ({**PROCESS, "metadata": []}, "metadata", "is not a mapping"),
        (with_metadata(name=""), "metadata.name", "empty"),
        (with_metadata(name=None), "metadata.name", "is not text"),
        (with_metadata(version="1"), "metadata.version", "no version"),
        (with_metadata(provider_type="Acme"), "metadata.provider_type", "no provider_type"),
        (with_metadata(plugin_api_version="2.0.0"), "metadata.plugin_api_version", "another"),
        (with_metadata(plugin_api_version="0.1.0"), "metadata.plugin_api_version", "another"),
        (with_metadata(providertype="x"), "metadata.providertype", "unknown"),
        (with_metadata(capabilities={"vision": "yes"}), "metadata.capabilities.vision", "neither"),
        # Its configuration.
        (with_field(type="text"), "metadata.config_schema[0].type", "none of the words"),
        (with_field(default=1), "metadata.config_schema[0].default", "not text"),
        (with_field(unit="s"), "metadata.config_schema[0].unit", "unknown"),
        (
            with_field(validation={"pattern": "("}),
            "metadata.config_schema[0].validation.pattern",
            "does not compile",
        ),
        (
            with_field(validation={"pattern": "a" * 513}),
            "metadata.config_schema[0].validation.pattern",
            "longer than 512",
        ),
        (
            with_field(validation={"min_length": -1}),
            "metadata.config_schema[0].validation.min_length",
            "below 0",
        ),
        (
            with_field(validation={"enum": "a"}),
            "metadata.config_schema[0].validation.enum",
            "not a list",
        ),
        (
            with_metadata(config_schema=[{"name": "a", "type": "int"}] * 2),
            "metadata.config_schema[1].name",
            "stands here again",
        ),
        # Its models.
        ({**PROCESS, "models": []}, "models", "0 models"),
        ({**PROCESS, "models": ["a", {"id": "a"}]}, "models[1].id", "stands here again"),
        ({**PROCESS, "models": [{"id": "a", "price": 1}]}, "models[0].price", "unknown"),
        ({**PROCESS, "models": [1]}, "models[0]", "not a mapping"),
        ({**PROCESS, "models": list(map(str, range(MODELS_MAX + 1)))}, "models", "4097 models"),
        # The file.
        ({**PROCESS, "comand": "x"}, "comand", "unknown"),
        ({**PROCESS, "health_check_interval": 0}, "health_check_interval", "below 100ms"),
        ({**PROCESS, "startup_timeout": "soon"}, "startup_timeout", "no duration"),
        ({**PROCESS, "command": "${GONE}"}, "command", "not set"),
        ([PROCESS], "plugin.json", "not a mapping"),
    ],
)
def test_each_mistake_is_told_alone_with_its_place(
    tmp_path: Path, tree: object, path: str, claim: str
) -> None:
    problems = bad(tmp_path, tree)
    assert list(problems) == [path]
    problem = problems[path]
    assert claim in problem.seen
    assert problem.expected
    assert problem.do.endswith((".", "?"))


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    tree = {
        "metadata": {
            **METADATA,
            "version": "x",
            "plugin_api_version": "3.0.0",
            "config_schema": [{"name": "a", "type": "int", "default": "x"}],
        },
        "type": "builtin",
        "command": "../x",
        "replicas": 2,
        "models": ["a", "a"],
        "comand": 1,
    }
    assert set(bad(tmp_path, tree)) == {
        "metadata.version",
        "metadata.plugin_api_version",
        "metadata.config_schema[0].default",
        "endpoint",
        "command",
        "replicas",
        "models[1].id",
        "comand",
    }


def test_what_could_not_be_read_is_not_complained_of_twice(tmp_path: Path) -> None:
    assert list(bad(tmp_path, {**PROCESS, "type": 5, "endpoint": "http://a"})) == ["type"]
    assert list(bad(tmp_path, {"metadata": METADATA, "endpoint": "x"})) == ["endpoint"]
    field = {"name": "", "type": "x", "default": 5, "validation": {"min": 1}}
    assert set(bad(tmp_path, with_metadata(config_schema=[field]))) == {
        "metadata.config_schema[0].name",
        "metadata.config_schema[0].type",
    }


def test_a_value_from_the_environment_is_never_repeated(tmp_path: Path) -> None:
    tree = {
        **REMOTE,
        "endpoint": "${S}",
        "auth": {"secret": "${S}", "header": "${S}"},
        "replicas": "${S}",
    }
    problems = bad(tmp_path, tree, {"S": "geheim geheim\n"})
    assert set(problems) == {"endpoint", "auth.secret", "auth.header", "replicas"}
    assert "geheim" not in "".join(map(str, problems.values()))


# ---- Whatever comes. ---------------------------------------------------------------------------

KEYS = sorted(
    {
        key.name
        for struct in (Manifest, Metadata, ConfigField, Validation, ModelInfo, Limits, Auth)
        for key in keys_of(struct)
    }
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(("int", "string", "builtin", "grpc", "${X}", "1.0.0", "acme", "http://a")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(string.ascii_lowercase, max_size=3), inner, max_size=5
        )
    ),
    max_leaves=15,
)


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    tree=JUNK | st.fixed_dictionaries({}, optional={key.name: JUNK for key in keys_of(Manifest)}),
    base=st.sampled_from((PROCESS, REMOTE, BUILTIN, {})),
)
def test_any_tree_is_a_manifest_or_problems(
    tmp_path: Path, tree: object, base: dict[str, Any]
) -> None:
    whole = {**base, **tree} if isinstance(tree, dict) else tree
    result = read(written(tmp_path, whole), {"X": "x"})
    if isinstance(result, Problems):
        assert result.items
    else:
        assert result.manifest.metadata.provider_type

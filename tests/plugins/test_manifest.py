"""A manifest is good, or everything wrong with it is told at once, in either format."""

import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loomproxy.config.problem import Problem, Problems
from loomproxy.config.shape import keys_of
from loomproxy.plugins.contract import Capabilities, ConfigField, Metadata, ModelInfo, Validation
from loomproxy.plugins.manifest import (
    BYTES_MAX,
    Auth,
    Found,
    Limits,
    Manifest,
    PathMap,
    claimed,
    read,
)
from loomproxy.plugins.schema import configure
from loomproxy.plugins.wire import MODELS_MAX

METADATA: dict[str, Any] = {
    "name": "Acme",
    "version": "1.0.0",
    "plugin_api_version": "1.0.0",
    "provider_type": "acme",
}
PROCESS: dict[str, Any] = {"metadata": METADATA, "command": "./plugin.py"}
REMOTE: dict[str, Any] = {"metadata": METADATA, "endpoint": "http://127.0.0.1:9/base"}
BUILTIN: dict[str, Any] = {**REMOTE, "type": "builtin"}


def written(folder: Path, tree: object, name: str = "plugin.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(tree) if name.endswith("json") else yaml.safe_dump(tree))
    return path


def good(folder: Path, tree: object, environ: dict[str, str] | None = None) -> Manifest:
    found = read(written(folder, tree), environ or {})
    assert isinstance(found, Found), str(found)
    return found.manifest


def bad(folder: Path, tree: object, environ: dict[str, str] | None = None) -> dict[str, Problem]:
    problems = read(written(folder, tree), environ or {})
    assert isinstance(problems, Problems), problems
    return {problem.path: problem for problem in problems.items}


def with_metadata(**more: Any) -> dict[str, Any]:
    return {**PROCESS, "metadata": {**METADATA, **more}}


def with_field(**more: Any) -> dict[str, Any]:
    return with_metadata(config_schema=[{"name": "a", "type": "string", **more}])


# ---- What is good. -----------------------------------------------------------------------------

LOOM = """\
# As Loom's own documents write one.
metadata:
  name: Example Plugin
  version: 1.0.0
  plugin_api_version: 1.0.0
  provider_type: example-provider
  description: >
    A plugin
    of many lines.
  author: Somebody
  license: MIT
  capabilities:
    streaming: false
    function_calling: true
    custom_capabilities: {long_context: true}
  config_schema:
    - name: api_key
      type: string
      required: true
      description: Your API key
      sensitive: true
      validation: {min_length: 8}
    - name: timeout
      type: int
      required: false
      default: 30
      validation: {min: 1, max: 300}
type: http
endpoint: http://localhost:8090
auto_start: false
health_check_interval: 60
"""


def test_keys_are_snake_case_in_both_formats(tmp_path: Path) -> None:
    """In Loom v1.2 every YAML manifest of its documents was refused."""
    path = tmp_path / "plugin.yaml"
    path.write_text(LOOM)
    found = read(path, {})
    assert isinstance(found, Found), str(found)
    assert found == Found(
        path,
        tmp_path,
        Manifest(
            Metadata(
                "Example Plugin",
                "1.0.0",
                "1.0.0",
                "example-provider",
                "A plugin of many lines.",
                "Somebody",
                license="MIT",
                capabilities=Capabilities(
                    function_calling=True, custom_capabilities={"long_context": True}
                ),
                config_schema=(
                    ConfigField(
                        "api_key",
                        "string",
                        required=True,
                        description="Your API key",
                        sensitive=True,
                        validation=Validation(min_length=8),
                    ),
                    ConfigField(
                        "timeout", "int", default=30, validation=Validation(min=1, max=300)
                    ),
                ),
            ),
            endpoint="http://localhost:8090",
            auto_start=False,
            health_check_interval_s=60.0,
        ),
    )
    assert good(tmp_path, yaml.safe_load(LOOM)) == found.manifest


def test_the_shortest_of_each_kind(tmp_path: Path) -> None:
    assert good(tmp_path, PROCESS).kind == "process"
    assert good(tmp_path, REMOTE).kind == "remote"
    assert good(tmp_path, BUILTIN).kind == "builtin"
    assert good(tmp_path, PROCESS) == Manifest(Metadata(**METADATA), command="./plugin.py")


def test_every_key_of_a_process(tmp_path: Path) -> None:
    manifest = good(
        tmp_path,
        {
            **PROCESS,
            "type": "http",
            "args": ["--port", ""],
            "env": {"A_1": "x y\n"},
            "user": "nobody",
            "transport": "tcp",
            "auto_start": False,
            "health_check_interval": "100ms",
            "startup_timeout": "5s",
            "request_timeout": 60,
            "idle_timeout": "1m",
            "drain_timeout": 0,
            "stop_timeout": "2s",
            "limits": {"memory": "512MiB", "open_files": 64, "cpu_seconds": 60, "processes": 8},
            "replicas": 3,
            "required": True,
            "models": ["a", {"id": "b", "cost_per_mtoken": 2}],
        },
    )
    assert (manifest.args, manifest.env) == (("--port", ""), {"A_1": "x y\n"})
    assert (manifest.user, manifest.transport, manifest.replicas) == ("nobody", "tcp", 3)
    assert (manifest.auto_start, manifest.required) == (False, True)
    assert manifest.limits == Limits(512 << 20, 64, 60, 8)
    assert manifest.models == (ModelInfo("a"), ModelInfo("b", cost_per_mtoken=2.0))
    assert (
        manifest.health_check_interval_s,
        manifest.startup_timeout_s,
        manifest.request_timeout_s,
        manifest.idle_timeout_s,
        manifest.drain_timeout_s,
        manifest.stop_timeout_s,
    ) == (0.1, 5.0, 60.0, 60.0, 0.0, 2.0)


def test_every_key_of_a_builtin_provider(tmp_path: Path) -> None:
    manifest = good(
        tmp_path,
        {
            **BUILTIN,
            "auth": {"header": "X-Api-Key", "value": "${KEY}"},
            "path_map": {"chat_completions": "/v1/chat", "models": "/v1/all"},
        },
        {"KEY": "geheim"},
    )
    assert manifest.endpoint == "http://127.0.0.1:9/base"
    assert manifest.auth == Auth("X-Api-Key", "geheim")
    assert manifest.path_map == PathMap("/v1/chat", "/v1/all")


def test_what_says_what_would_be_without_it_is_no_mistake(tmp_path: Path) -> None:
    without = {"command": "", "args": [], "env": {}, "replicas": 1, "transport": "unix"}
    assert good(tmp_path, {**BUILTIN, **without, "limits": None}) == good(tmp_path, BUILTIN)


def test_references_are_resolved_from_the_environment_and_beside_the_manifest(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("from a file\n")
    tree = {
        **PROCESS,
        "env": {"A": "${A}", "B": "${B:-b}", "C": "${file:token}", "D": "$${A}"},
        "replicas": "${N}",
    }
    manifest = good(tmp_path, tree, {"A": "a", "N": "2"})
    assert manifest.env == {"A": "a", "B": "b", "C": "from a file", "D": "${A}"}
    assert manifest.replicas == 2


def test_a_default_from_the_environment_is_read_as_its_fields_type(tmp_path: Path) -> None:
    tree = with_field(type="int", default="${N}", validation={"max": 5})
    schema = good(tmp_path, tree, {"N": "4"}).metadata.config_schema
    assert configure(schema, {}, "p") == {"a": 4}
    assert set(bad(tmp_path, tree, {"N": "6"})) == {"metadata.config_schema[0].default"}


def test_a_manifest_that_is_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap so."""
    (tmp_path / "..data").mkdir()
    written(tmp_path / "..data", PROCESS)
    (tmp_path / "plugin.json").symlink_to("..data/plugin.json")
    found = read(tmp_path / "plugin.json", {})
    assert isinstance(found, Found), str(found)
    assert found.directory == tmp_path
    assert found.path == tmp_path / "plugin.json"


def test_the_directory_is_where_the_folder_really_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    written(tmp_path / "real", PROCESS)
    (tmp_path / "link").symlink_to("real")
    found = read(tmp_path / "link" / "plugin.json", {})
    assert isinstance(found, Found), str(found)
    assert found.directory == tmp_path / "real"
    assert found.path == tmp_path / "real" / "plugin.json"


# ---- What is wrong. ----------------------------------------------------------------------------


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
        ({**PROCESS, "auth": {"value": "x"}}, "auth", "a plugin with a `command`"),
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
        ({**REMOTE, "endpoint": "https://a"}, "endpoint", "TLS"),
        ({**REMOTE, "endpoint": "a:1"}, "endpoint", "no scheme"),
        ({**REMOTE, "auth": {"header": "Host", "value": "x"}}, "auth.header", "not changed here"),
        ({**REMOTE, "auth": {"header": "TE", "value": "x"}}, "auth.header", "frames the message"),
        ({**REMOTE, "auth": {"value": "a\nb"}}, "auth.value", "line break"),
        ({**REMOTE, "auth": {}}, "auth.value", "empty"),
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
        "auth": {"value": "${S}", "header": "${S}"},
        "replicas": "${S}",
    }
    problems = bad(tmp_path, tree, {"S": "geheim geheim\n"})
    assert set(problems) == {"endpoint", "auth.value", "auth.header", "replicas"}
    assert "geheim" not in "".join(map(str, problems.values()))


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("plugin.yaml", "metadata:\n  name: [}", "plugin.yaml:2:10"),
        ("plugin.json", "{", "plugin.json:1:2"),
        ("plugin.yml", "a: &a [*a, *a]", "plugin.yml"),
        ("plugin.yaml", "[" * 5000, "plugin.yaml:1:33"),
        ("plugin.json", "[" * 200_000, "plugin.json"),
        ("plugin.yaml", "- " * 100, "plugin.yaml:1:65"),
        ("plugin.yaml", "a" * (BYTES_MAX + 1), "plugin.yaml"),
        ("plugin.yaml", "\udcff", "plugin.yaml"),
        ("plugin.json", "null", "metadata"),
        ("plugin.yaml", "", "metadata"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, name: str, text: str, where: str
) -> None:
    path = tmp_path / name
    path.write_text(text, errors="surrogateescape")
    problems = read(path, {})
    assert isinstance(problems, Problems)
    assert problems.items[0].path.startswith(where)
    assert len(str(problems)) < 5000


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "plugin.json"
    path.write_text('{"command": "a", "command": "b"}')
    assert "stands here again" in str(read(path, {}))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plugin.json")
    assert "is no regular file" in str(read(tmp_path / "plugin.json", {}))
    (tmp_path / "plugin.yaml").symlink_to("/dev/zero")
    assert "is no regular file" in str(read(tmp_path / "plugin.yaml", {}))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in str(read(tmp_path / "plugin.json", {}))
    assert "No such file" in str(read(tmp_path / "gone" / "plugin.json", {}))
    (tmp_path / "plugin.yaml").symlink_to("gone.yaml")
    assert "No such file" in str(read(tmp_path / "plugin.yaml", {}))


# ---- Whose it is, when it is wrong. ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"metadata": {"provider_type": "acme"}, "type": 5}', "acme"),
        ('{"metadata": {"provider_type": "Acme"}}', ""),
        ('{"metadata": {"provider_type": "${X}"}}', ""),
        ('{"metadata": {"provider_type": 5}}', ""),
        ('{"metadata": [1]}', ""),
        ("[]", ""),
        ("{", ""),
    ],
)
def test_whom_a_manifest_is_about_is_known_though_it_is_wrong(
    tmp_path: Path, text: str, name: str
) -> None:
    path = tmp_path / "plugin.json"
    path.write_text(text)
    assert claimed(path) == name


def test_a_file_that_is_not_there_is_about_nobody(tmp_path: Path) -> None:
    assert claimed(tmp_path / "plugin.json") == ""


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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

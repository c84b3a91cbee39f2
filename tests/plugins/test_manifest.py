"""A manifest that is good, in either format; and files that cannot be read at all."""

import os
from pathlib import Path

import pytest
import yaml

from loomproxy.config.problem import Problems
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
from tests.plugins.manifests import (
    BUILTIN,
    METADATA,
    PROCESS,
    REMOTE,
    bad,
    good,
    with_field,
    written,
)

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
            "auth": {"header": "X-Api-Key", "secret": "${KEY}"},
            "path_map": {"chat_completions": "/v1/chat", "models": "/v1/all"},
        },
        {"KEY": "geheim"},
    )
    assert manifest.endpoint == "http://127.0.0.1:9/base"
    assert manifest.auth == Auth("X-Api-Key", secret="geheim")
    assert manifest.path_map == PathMap("/v1/chat", "/v1/all")


def test_what_says_what_would_be_without_it_is_no_mistake(tmp_path: Path) -> None:
    without = {"command": "", "args": [], "env": {}, "replicas": 1, "transport": "unix"}
    assert good(tmp_path, {**BUILTIN, **without, "limits": None}) == good(tmp_path, BUILTIN)


def test_as_many_models_as_are_allowed_are_good(tmp_path: Path) -> None:
    models = good(tmp_path, {**PROCESS, "models": list(map(str, range(MODELS_MAX)))}).models
    assert models is not None
    assert len(models) == MODELS_MAX


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


# ---- Files that cannot be read. ----------------------------------------------------------------


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
    (tmp_path / "round").symlink_to("round")
    assert "symbolic links" in str(read(tmp_path / "round" / "plugin.yaml", {}))
    assert "symbolic links" in str(read(tmp_path / "round", {}))


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


def test_what_references_stand_for_is_known_so_that_it_can_be_hidden(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    path = tmp_path / "plugin.yaml"
    path.write_text(
        "metadata: {name: a, version: 1.0.0, plugin_api_version: 1.0.0, provider_type: a}\n"
        "command: a\n"
        "args: ['--key=${KEY}', '${file:key}', '${PORT:-8080}', '${ZONE:-eu}']\n"
    )
    found = read(path, {"KEY": "from-outside", "ZONE": "us"})
    assert isinstance(found, Found), str(found)
    assert found.manifest.args == ("--key=from-outside", "from-a-file", "8080", "us")
    assert found.secrets == {"from-outside", "from-a-file", "us"}

"""The reference and the schema of manifests say what the model says."""

import json
from pathlib import Path

import pytest

from loomproxy.config.problem import Problems
from loomproxy.config.shape import keys_of
from loomproxy.plugins.__main__ import main
from loomproxy.plugins.document import REFERENCE, SCHEMA, documents
from loomproxy.plugins.manifest import Manifest, read

ROOT = Path(__file__).resolve().parents[2]


def test_the_documents_of_the_project_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT) == 0, capsys.readouterr().err


def test_a_stale_document_is_told_and_then_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], tmp_path) == 1
    assert "Run python -m loomproxy.plugins." in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert {path: (tmp_path / path).exists() for path in documents()} == {
        REFERENCE: True,
        SCHEMA: True,
    }


def test_the_reference_has_every_key_of_every_group() -> None:
    text = documents()[REFERENCE]
    for name in ("metadata.provider_type", "limits.memory", "metadata.config_schema[].validation"):
        assert f"`{name}`" in text
    for key in keys_of(Manifest):
        assert f"| `{key.name}` |" in text
        assert key.description.endswith(".")


def test_the_schema_asks_for_metadata_and_for_no_key_that_there_is_not() -> None:
    schema = json.loads(documents()[SCHEMA])
    assert schema["required"] == ["metadata"]
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == [key.name for key in keys_of(Manifest)]
    for name in schema["$defs"]:
        assert f'"#/$defs/{name}"' in documents()[SCHEMA]


def test_the_example_of_the_reference_is_a_good_manifest(tmp_path: Path) -> None:
    example = documents()[REFERENCE].split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "plugin.yaml"
    path.write_text(example)
    found = read(path, {})
    assert not isinstance(found, Problems), str(found)
    assert found.manifest.metadata.provider_type == "acme"

"""The reference and the schema say what the model says."""

import json
from pathlib import Path

import pytest

from loomproxy.config.__main__ import main
from loomproxy.config.document import (
    REFERENCE,
    SCHEMA,
    documents,
    expected,
    reference,
    schema,
)
from loomproxy.config.load import load
from loomproxy.config.model import Config, Dynamic, Listener, Match, Node, Pool, Route, Static
from loomproxy.config.plugins import Guests, Plugins
from loomproxy.config.shape import Anything, Group, Key, Leaf, Maybe, in_words, keys_of

ROOT = Path(__file__).resolve().parents[2]


def key(struct: type, name: str) -> Key:
    return next(each for each in keys_of(struct) if each.name == name)


def test_the_documents_of_the_project_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT) == 0, capsys.readouterr().err


def test_a_stale_document_is_told_and_then_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], tmp_path) == 1
    assert SCHEMA in capsys.readouterr().err
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / REFERENCE).write_text("old")
    assert main(["--check"], tmp_path) == 1
    err = capsys.readouterr().err
    assert REFERENCE in err
    assert SCHEMA not in err
    assert {path: (tmp_path / path).exists() for path in documents()} == dict.fromkeys(
        documents(), True
    )


def test_the_reference_has_every_key_with_its_meaning() -> None:
    text = reference()
    assert text.count("\n# ") == 0
    assert "| `node.workers` | `auto`, or a whole number from 1 to 512 | `auto` |" in text
    assert "| `pools.NAME.keepalive.idle_timeout` | a duration from 1ms to 1h | `4s` |" in text
    assert "| `listeners[].name` | a name | **required** |" in text
    assert "| `node.demo_upstream` | an address and a port | none |" in text
    assert "| `routes[].upgrades` |" in text
    assert '`["websocket"]`' in text
    assert "`301` or `302`" in text
    assert "`64KiB`" in text


def test_every_key_is_described() -> None:
    for struct in (Static, Dynamic, Guests, Plugins, Node, Listener, Pool, Match, Route):
        for each in keys_of(struct):
            assert each.description.endswith("."), each.name


def test_shapes() -> None:
    workers = key(Node, "workers").shape
    assert workers == Leaf("count", ("auto",), 1, 512)
    assert key(Route, "pool").shape == Maybe(Leaf("name"))
    assert key(Static, "node").shape == Group(Node)
    assert expected(Anything()) == "any value"
    assert expected(key(Plugins, "config").shape).endswith("a mapping from a name to any value")
    assert expected(key(Pool, "balance").shape) == "`round_robin` or `least_in_flight`"
    assert key(Listener, "idle_timeout").attribute == "idle_timeout_s"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("duration", 0.0, "0s"),
        ("duration", 0.001, "1ms"),
        ("duration", 0.25, "250ms"),
        ("duration", 60.0, "60s"),
        ("duration", 300.0, "5m"),
        ("duration", 3600.0, "1h"),
        ("duration", 86400.0, "1d"),
        ("duration", 0.0000015, "1.5e-06"),
        ("size", 0, "0"),
        ("size", 1000, "1000"),
        ("size", 64 << 10, "64KiB"),
        ("count", 1_000_000_000, "1000000000"),
        ("number", 0.2, "0.2"),
    ],
)
def test_numbers_in_words(kind: str, value: float, words: str) -> None:
    assert in_words(kind, value) == words


def test_the_schema_names_every_definition_it_uses() -> None:
    text = json.dumps(schema())
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    for name in definitions:
        assert f'"#/$defs/{name}"' in text
    assert text.count('"additionalProperties": false') == len(definitions) + 1


def test_the_examples_hold_no_key_that_the_schema_lacks() -> None:
    for name in ("quickstart", "loomproxy"):
        assert isinstance(load(ROOT / "conf" / f"{name}.yaml", {}), Config)

"""What an instance makes of a published document: the shared keys are its, the others its own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.config.problem import Problems
from loomproxy.config.shared import shared

LOCAL = """
node: {instance_id: one}
listeners: [{name: public, address: "127.0.0.1:8080"}]
pools: {old: {endpoints: ["http://127.0.0.1:1"]}}
routes: [{name: old, pool: old}]
plugins:
  directory: plugins
  config: {acme: {key: local}}
  desired: {acme: {enabled: false}}
"""

DOCUMENT = """
pools: {app: {endpoints: ["http://127.0.0.1:9000"]}}
routes: [{name: app, pool: app}]
"""


def local(text: str = LOCAL, file: str = "loomproxy.yaml") -> Config:
    config = parse(text, file, {})
    assert isinstance(config, Config), str(config)
    return config


def applied(text: str, environ: dict[str, str] | None = None, file: str = "c.yaml") -> Config:
    config = shared(text, local(), file, environ or {})
    assert isinstance(config, Config), str(config)
    return config


def refused(text: str, environ: dict[str, str] | None = None) -> list[str]:
    config = shared(text, local(), "c.yaml", environ or {})
    assert isinstance(config, Problems)
    return [problem.path for problem in config.items]


def test_a_document_replaces_what_is_shared_and_nothing_else() -> None:
    config = applied(DOCUMENT)
    assert set(config.dynamic.pools) == {"app"}
    assert config.static == local().static
    assert config.plugins.directory == local().plugins.directory
    assert config.plugins.config == {}, "nothing is merged: the document says all there is to know"
    assert config.plugins.desired == {}


def test_a_document_says_what_plugins_are_told_and_which_are_wanted() -> None:
    config = applied(
        DOCUMENT
        + "plugins: {config: {acme-eu: {key: a}}, "
        + "desired: {acme: {enabled: true, version: 1.2.0, config: acme-eu}}}"
    )
    assert config.plugins.config == {"acme-eu": {"key": "a"}}
    desired = config.plugins.desired["acme"]
    assert (desired.enabled, desired.version, desired.config) == (True, "1.2.0", "acme-eu")


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("node: {workers: 2}", "node"),
        ("listeners: []", "listeners"),
        ("database: {type: sqlite}", "database"),
        ("cluster: {zone: a}", "cluster"),
        ("plugins: {directory: /x}", "plugins.directory"),
        ("plugins: {watch: false}", "plugins.watch"),
    ],
)
def test_what_is_an_instances_own_is_not_published(more: str, where: str) -> None:
    assert where in refused(DOCUMENT + more)


def test_unknown_keys_are_refused() -> None:
    assert refused(DOCUMENT + "pulls: {}") == ["pulls"]


def test_a_document_is_checked_with_the_file_that_it_meets() -> None:
    assert refused('routes: [{match: {listeners: [admin]}, respond: {status: 200, body: ""}}]') == [
        "routes[0].match.listeners[0]"
    ]
    assert refused("routes: [{pool: nowhere}]") == ["routes[0].pool"]
    wanted = "plugins: {desired: {acme: {config: nothing}}}"
    assert refused(DOCUMENT + wanted) == ["plugins.desired.acme.config"]


@pytest.mark.parametrize("text", ["[1]", "a: [", "{{", "a: 1\na: 2", "\tx"])
def test_what_is_no_configuration_is_a_problem(text: str) -> None:
    assert refused(text)


def test_an_empty_document_serves_nothing() -> None:
    assert applied("").dynamic.pools == {}


def test_references_are_resolved_where_it_is_applied(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    text = DOCUMENT + "plugins: {config: {acme: {a: '${KEY}', b: '${file:key}'}}}"
    config = applied(text, {"KEY": "from-here"}, str(tmp_path / "c.yaml"))
    assert config.plugins.config["acme"] == {"a": "from-here", "b": "from-a-file"}
    assert refused(text.replace("${file:key}", "x"), {}) == ["plugins.config.acme.a"]


@given(st.text(max_size=200))
def test_no_text_does_more_than_be_refused_or_change_what_is_shared(text: str) -> None:
    config = shared(text, local(), "c.yaml", {})
    if isinstance(config, Config):
        assert config.static == local().static
    else:
        assert all(problem.expected and problem.do for problem in config.items)

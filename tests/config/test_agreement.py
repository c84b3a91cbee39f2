"""What is wrong among the keys of the store and of the cluster, as an operator is told."""

import pytest

from loomproxy.config.load import parse
from loomproxy.config.model import Config
from loomproxy.config.problem import Problems

BASE = 'listeners: [{name: public, address: "127.0.0.1:8080"}]\n'
DSN = "dsn: 'postgresql://loom@127.0.0.1/loom'"


def problems(text: str, environ: dict[str, str] | None = None) -> dict[str, str]:
    config = parse(BASE + text, "/etc/l/loomproxy.yaml", environ or {})
    if isinstance(config, Config):
        return {}
    assert isinstance(config, Problems)
    return {problem.path: str(problem) for problem in config.items}


def test_without_the_section_there_is_no_store() -> None:
    config = parse(BASE, "c.yaml", {})
    assert isinstance(config, Config)
    assert config.static.database is None


def test_a_file_is_the_default_and_lies_beside_the_configuration() -> None:
    config = parse(BASE + "database: {}", "/etc/l/loomproxy.yaml", {})
    assert isinstance(config, Config)
    assert config.static.database is not None
    assert config.static.database.type == "sqlite"
    assert config.static.database.path == "/etc/l/loomproxy.db"


def test_cluster_mode_without_a_dsn_refuses_to_start() -> None:
    found = problems("database: {type: postgres}")
    assert set(found) == {"database.dsn"}
    assert "DATABASE_DSN" in found["database.dsn"]
    found = problems("database: {type: postgres, dsn: '${DATABASE_DSN}'}")
    assert set(found) == {"database.dsn"}, "an unset variable does not un-share silently"
    assert set(
        problems("database: {type: postgres, dsn: '${DATABASE_DSN}'}", {"DATABASE_DSN": ""})
    ) == {"database.dsn"}
    good = {"DATABASE_DSN": "postgresql://loom@db/loom"}
    assert not problems("database: {type: postgres, dsn: '${DATABASE_DSN}'}", good)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://loom:secret@db:5432/loom?sslmode=require",
        "postgresql://db",
        "postgresql://loom@[::1]:5432/loom",
        "postgresql://a:1,b:2/loom?target_session_attrs=read-write",
        "postgresql:///loom?host=/var/run/postgresql",
    ],
)
def test_dsns_that_are_taken(dsn: str) -> None:
    assert not problems(f"database: {{type: postgres, dsn: '{dsn}'}}")


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("mysql://secret@db/loom", "postgresql://"),
        ("host=db user=secret", "postgresql://"),
        ("postgresql://secret@db:70000/loom", "no URL"),
        ("postgresql://secret@db:x/loom", "no URL"),
        ("postgresql://secret@[::1/loom", "no URL"),
        ("postgresql://secret@db/loom?pool_max_conns=5", "database.pool_max"),
        ("postgresql://secret@db/loom?connect_timeout=5", "database.connect_timeout"),
    ],
)
def test_a_dsn_that_is_wrong_is_told_without_being_shown(dsn: str, told: str) -> None:
    found = problems(f"database: {{type: postgres, dsn: '{dsn}'}}")
    assert told in found["database.dsn"]
    assert "secret" not in found["database.dsn"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("cluster: {zone: a}", "cluster"),
        ("database: {type: sqlite}\ncluster: {heartbeat: 1s}", "cluster"),
        (f"database: {{{DSN}}}", "database.dsn"),
        ("database: {path: ':memory:'}", "database.path"),
        ("database: {path: 'file:x?mode=ro'}", "database.path"),
        ("database: {type: mysql}", "database.type"),
        (f"database: {{type: postgres, {DSN}, schema: 'a; DROP'}}", "database.schema"),
        (f"database: {{type: postgres, {DSN}, schema: pg_x}}", "database.schema"),
        (
            f"database: {{type: postgres, {DSN}}}\ncluster: {{heartbeat: 10s}}",
            "cluster.active_within",
        ),
        (
            f"database: {{type: postgres, {DSN}}}\ncluster: {{forget_after: 15s}}",
            "cluster.forget_after",
        ),
        (f"database: {{type: postgres, {DSN}}}\ncluster: {{lease_ttl: 9s}}", "cluster.lease_ttl"),
    ],
)
def test_what_does_not_fit_together_is_told(text: str, where: str) -> None:
    assert set(problems(text)) == {where}


def test_a_row_has_so_many_entries_at_most() -> None:
    many = ", ".join(f"k{n}: v" for n in range(33))
    addresses = ", ".join(f"'10.0.0.{n}'" for n in range(33))
    found = problems(
        f"database: {{type: postgres, {DSN}}}\n"
        f"cluster: {{metadata: {{{many}}}, addresses: [{addresses}]}}"
    )
    assert set(found) == {"cluster.metadata", "cluster.addresses"}


def test_the_window_of_the_milestone_is_taken() -> None:
    assert not problems(
        f"database: {{type: postgres, {DSN}}}\ncluster: {{heartbeat: 20s, active_within: 60s}}"
    )

"""Everything wrong with a configuration is told at once, with its place and what to do."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loomproxy.config.compile import compile_snapshot
from loomproxy.config.load import load, parse, quick
from loomproxy.config.model import Config, Dynamic, Endpoint, Limits, Static
from loomproxy.config.plugins import Guests, Plugins
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.reference import Resolved
from loomproxy.config.shape import keys_of
from loomproxy.config.walk import PROBLEMS_MAX

CONF = Path(__file__).resolve().parents[2] / "conf"

LISTENERS = [{"name": "public", "address": ":8080"}]
POOLS = {"app": {"endpoints": ["http://127.0.0.1:9000"]}}
ROUTES = [{"pool": "app"}]


def read(environ: dict[str, str] | None = None, **tree: Any) -> Config | Problems:
    whole = {"listeners": LISTENERS, "pools": POOLS, "routes": ROUTES, **tree}
    return parse(json.dumps(whole), "a.json", environ or {})


def good(environ: dict[str, str] | None = None, **tree: Any) -> Config:
    config = read(environ, **tree)
    assert isinstance(config, Config), str(config)
    return config


def bad(environ: dict[str, str] | None = None, **tree: Any) -> dict[str, Problem]:
    problems = read(environ, **tree)
    assert isinstance(problems, Problems)
    return {problem.path: problem for problem in problems.items}


def only(environ: dict[str, str] | None = None, **tree: Any) -> Problem:
    (problem,) = bad(environ, **tree).values()
    return problem


def with_pool(**pool: Any) -> dict[str, Any]:
    return {"pools": {"app": {**POOLS["app"], **pool}}}


def with_route(**route: Any) -> dict[str, Any]:
    return {"routes": [{"pool": "app", **route}]}


# ---- What is good. -----------------------------------------------------------------------------


def test_defaults_fill_what_is_not_written() -> None:
    config = good()
    assert config.static.node.workers == "auto"
    assert config.dynamic.limits == Limits()
    assert config.dynamic.pools["app"].endpoints == (Endpoint("http://127.0.0.1:9000"),)


def test_a_key_without_a_value_is_its_default() -> None:
    config = good(node=None, timeouts={"connect": None}, trusted_proxies=None)
    assert config == good()


def test_durations_and_sizes_have_units_or_none() -> None:
    config = good(
        timeouts={"connect": "250ms", "queue": 2, "idle": 0.5},
        limits={"body_bytes_max": "1GiB", "replay_bytes_max": 100},
    )
    timeouts, limits = config.dynamic.timeouts, config.dynamic.limits
    assert (timeouts.connect_s, timeouts.queue_s, timeouts.idle_s) == (0.25, 2.0, 0.5)
    assert (limits.body_bytes_max, limits.replay_bytes_max) == (1 << 30, 100)


def test_one_value_stands_for_a_list_of_one() -> None:
    config = good(**with_route(match={"hosts": "A.example", "methods": ["GET", "PUT"]}))
    match = config.dynamic.routes[0].match
    assert match.hosts == ("a.example",)
    assert match.methods == ("GET", "PUT")


def test_references_may_stand_for_every_kind_of_value() -> None:
    environ = {"N": "3", "T": "true", "D": "2s", "B": "least_in_flight", "S": "301", "R": "0.5"}
    config = good(
        environ,
        node={"workers": "${N}"},
        timeouts={"connect": "${D}", "queue": "${N}"},
        listeners=[{"name": "public", "address": ":8080", "health": "${T}"}],
        routes=[{"redirect": {"location": "/", "status": "${S}"}}, *ROUTES],
        **with_pool(balance="${B}", retry_budget={"ratio": "${R}"}),
    )
    assert config.static.node.workers == 3
    assert config.static.listeners[0].health is True
    assert config.dynamic.timeouts.connect_s == 2.0
    assert config.dynamic.timeouts.queue_s == 3.0
    assert config.dynamic.pools["app"].balance == "least_in_flight"
    assert config.dynamic.pools["app"].retry_budget.ratio == 0.5
    redirect = config.dynamic.routes[0].redirect
    assert redirect is not None
    assert redirect.status == 301


def test_a_config_survives_the_channel_to_the_workers() -> None:
    config = load(CONF / "loomproxy.yaml")
    assert isinstance(config, Config), str(config)
    for_workers = Config(config.static, config.dynamic)  # What plugins are told is not for them.
    sent = msgspec.msgpack.encode(for_workers)
    assert msgspec.msgpack.decode(sent, type=Config) == for_workers


def test_text_from_a_reference_travels_as_plain_text() -> None:
    config = good({"X": "v"}, **with_route(request_headers={"set": {"X-A": "${X}"}}))
    assert type(config.dynamic.routes[0].request_headers.set["X-A"]) is str


# ---- What is wrong with a value. ---------------------------------------------------------------


def test_all_problems_are_told_at_once_and_in_order() -> None:
    problems = bad(
        node={"workers": 0},
        timeouts={"connect": "soon"},
        routes=[{"pool": "ap"}, {"match": {"path": "x"}}],
    )
    assert list(problems) == [
        "node.workers",
        "timeouts.connect",
        "routes[1].match.path",
        "routes[0].pool",
        "routes[1]",
    ]


def test_a_problem_says_where_what_was_seen_what_was_expected_and_what_to_do() -> None:
    pool = {"endpoints": [{"address": "http://a:1"}, {"address": "http://b:1", "weight": 0}]}
    problem = only(**with_pool(**pool))
    assert str(problem) == (
        "pools.app.endpoints[1].weight: 0 is below 1; expected a whole number from 1 to 1000. "
        "To stop traffic to it, set enabled: false."
    )


@pytest.mark.parametrize(
    ("tree", "path", "seen"),
    [
        ({"node": {"workers": "two"}}, "node.workers", "two is no whole number"),
        ({"node": {"workers": True}}, "node.workers", "true is no whole number"),
        ({"node": {"workers": 1.5}}, "node.workers", "1.5 is no whole number"),
        ({"node": {"workers": "3"}}, "node.workers", "3 is no whole number"),
        ({"node": {"workers": 513}}, "node.workers", "513 is above 512"),
        ({"node": {"drain": {"grace": -1}}}, "node.drain.grace", "-1 is below 0s"),
        ({"node": 7}, "node", "7 is not a mapping"),
        ({"listeners": {}}, "listeners", "a mapping is not a list"),
        ({"access_log": {"path": False}}, "access_log.path", "false is not text"),
        ({"access_log": {"format": "xml"}}, "access_log.format", "xml is none of the words"),
        ({"forwarded": {"via": 3}}, "forwarded.via", "3 is not text"),
        ({"forwarded": {"rfc7239": "yes"}}, "forwarded.rfc7239", "yes is neither true nor false"),
        ({"timeouts": {"idle": "0s"}}, "timeouts.idle", "0s is below 1ms"),
        ({"timeouts": {"idle": "1 week"}}, "timeouts.idle", '"1 week" is no duration'),
        ({"timeouts": {"idle": []}}, "timeouts.idle", "a list is no duration"),
        ({"limits": {"body_bytes_max": 1.5}}, "limits.body_bytes_max", "1.5 is no size"),
        ({"limits": {"fields_max": 10**400}}, "limits.fields_max", "a huge number is above"),
        ({"limits": {"fields_max": "x\ny"}}, "limits.fields_max", "'x\\ny' is no whole number"),
        ({"forwarded": {"believe": "both"}}, "forwarded.believe", "both is none of the words"),
        ({"trusted_proxies": {}}, "trusted_proxies", "a mapping is not a list"),
        ({"trusted_proxies": [None]}, "trusted_proxies[0]", "nothing is not text"),
        ({"trusted_proxies": ["x" * 99]}, "trusted_proxies[0]", "x" * 60 + "… is not a network"),
        ({"pools": [1]}, "pools", "a list is not a mapping"),
        ({"pools": {**POOLS, "a b": POOLS["app"]}}, 'pools."a b"', '"a b" is no name'),
        (with_pool(endpoints=[7]), "pools.app.endpoints[0]", "7 is not a mapping"),
        (with_pool(endpoints=None), "pools.app.endpoints", "nothing is not a list"),
        (with_pool(retry_budget={"ratio": 2}), "pools.app.retry_budget.ratio", "2 is above 1"),
        (with_pool(retry_budget={"ratio": "x"}), "pools.app.retry_budget.ratio", "is no number"),
        (
            {"routes": [*ROUTES, {"redirect": {"location": "/", "status": 200}}]},
            "routes[1].redirect.status",
            "200 is none of the words",
        ),
        (with_route(name="x\ud800"), "routes[0].name", "half a surrogate pair"),
        (with_route(host=7), "routes[0].host", "7 is not text"),
    ],
)
def test_values_of_the_wrong_kind(tree: dict[str, Any], path: str, seen: str) -> None:
    problems = bad(**tree)
    assert path in problems, list(problems)
    assert seen in problems[path].seen


def test_a_mode_without_quotes_says_to_put_it_in_quotes() -> None:
    problem = only(listeners=[{"name": "a", "address": "unix:/a", "mode": 660}])
    assert problem.path == "listeners[0].mode"
    assert "quotes" in problem.do


def test_what_is_missing_says_what_it_is() -> None:
    problems = bad(listeners=[{"name": "a"}], **with_pool(probe={}), routes=None)
    assert problems["listeners[0].address"].seen == "it is missing"
    assert "0.0.0.0:8080" in problems["listeners[0].address"].do


@pytest.mark.parametrize(
    ("tree", "path", "do"),
    [
        ({"listners": []}, "listners", "Did you mean listeners?"),
        ({"upstreams": {}}, "upstreams", "Did you mean pools?"),
        ({"xyz": 1}, "xyz", "Take it out."),
        ({"node": {"worker": 1}}, "node.worker", "Did you mean workers?"),
        (with_pool(strategy="x"), "pools.app.strategy", "Did you mean balance?"),
        (with_route(match={"prefix": "/a"}), "routes[0].match.prefix", "mean path_prefix?"),
        (with_route(**{"a b": 1}), 'routes[0]."a b"', "Take it out."),
    ],
)
def test_unknown_keys_say_what_was_meant(tree: dict[str, Any], path: str, do: str) -> None:
    problem = only(**tree)
    assert problem.path == path
    assert do in problem.do


def test_more_problems_than_anybody_reads_are_not_told_apart() -> None:
    problems = bad(trusted_proxies=["x"] * (PROBLEMS_MAX + 5))
    assert len(problems) == PROBLEMS_MAX


# ---- Secrets. ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tree",
    [
        with_route(request_headers={"set": {"Authorization": "Bearer geheim\n"}}),
        with_route(request_headers={"set": {"Authorization": "${SECRET}"}}),
        with_route(match={"path": "${SECRET}"}),
        with_route(match={"path_regex": "(${SECRET}"}),
        with_route(host="${SECRET}"),
        with_pool(endpoints=["http://user:geheim@host"]),
        with_pool(endpoints=["http://user:${SECRET}@host"]),
        {"trusted_proxies": "${SECRET}"},
        {"node": {"workers": "${SECRET}"}},
        {"routes": [*ROUTES, {"redirect": {"location": "${SECRET}"}}]},
        {"admin": {"token": "geheim"}},
        {"admin": {"token": "${SECRET}"}},
    ],
)
def test_no_problem_repeats_a_secret(tree: dict[str, Any]) -> None:
    problems = bad({"SECRET": "ge heim\n{geheim} geheim"}, **tree)
    assert problems
    assert "geheim" not in str(list(problems.values()))


def test_a_secret_of_digits_is_not_repeated_though_it_looks_like_a_number() -> None:
    problem = only(admin={"token": 1234567890123456})
    assert problem.path == "admin.token"
    assert "the number" in problem.seen
    assert "1234" not in str(problem)


def test_an_empty_token_is_no_open_door() -> None:
    assert only({"ADMIN_TOKEN": ""}, admin={"token": "${ADMIN_TOKEN}"}).path == "admin.token"
    assert good({"ADMIN_TOKEN": "a" * 16}, admin={"token": "${ADMIN_TOKEN}"}).static.admin.token


def test_a_reference_that_leads_nowhere_is_one_problem() -> None:
    problem = only(**with_route(host="${NOWHERE}"))
    assert problem.path == "routes[0].host"
    assert "NOWHERE" in problem.seen


def test_secrets_can_come_from_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    config = tmp_path / "a.json"
    route = {"pool": "app", "request_headers": {"set": {"X-Token": "${file:token}"}}}
    config.write_text(json.dumps({"listeners": LISTENERS, "pools": POOLS, "routes": [route]}))
    loaded = load(config, {})
    assert isinstance(loaded, Config)
    assert loaded.dynamic.routes[0].request_headers.set == {"X-Token": "geheim"}


def test_the_environment_is_the_process_s_own_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOM_TEST_HOST", "from.example")
    whole = {"listeners": LISTENERS, "pools": POOLS, **with_route(host="${LOOM_TEST_HOST}")}
    config = parse(json.dumps(whole), "a.json")
    assert isinstance(config, Config)
    assert config.dynamic.routes[0].host == "from.example"


# ---- Files. ------------------------------------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4\n")
    os.mkfifo(tmp_path / "fifo.yaml")
    for name, seen in (
        ("none.yaml", "No such file"),
        (".", "directory"),
        ("fifo.yaml", "no regular file"),
        ("latin.yaml", "not UTF-8"),
    ):
        problems = load(tmp_path / name)
        assert isinstance(problems, Problems)
        assert seen in str(problems)


def test_a_file_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("node: {instance_id: '${file:big}'}")
    (tmp_path / "big").write_bytes(b"x" * (64 << 10) + b"x")
    assert "larger than 65536 bytes" in str(load(config, {}))


def test_bad_syntax_is_told_with_its_place() -> None:
    problems = parse("node:\n  - a: [}", "a.yaml", {})
    assert isinstance(problems, Problems)
    (problem,) = problems.items
    assert problem.path == "a.yaml:2:9"


def test_the_examples_are_good_and_show_every_key() -> None:
    for name in ("quickstart.yaml", "loomproxy.yaml"):
        config = load(CONF / name, {})
        assert isinstance(config, Config), str(config)
        compile_snapshot(config, 1)
    text = (CONF / "loomproxy.yaml").read_text()
    names = {key.name for key in (*keys_of(Static), *keys_of(Dynamic), *keys_of(Guests))}
    assert not {name for name in names | _all_keys() if f"{name}:" not in text}


def _all_keys() -> set[str]:
    """Every key of the schema, at any depth."""
    schema = json.loads((CONF / "schema.json").read_text())
    return {name for group in schema["$defs"].values() for name in group["properties"]}


# ---- What plugins are told. --------------------------------------------------------------------


def test_without_a_word_about_plugins_there_are_none() -> None:
    assert good().plugins == Plugins()
    assert good(plugins=None).plugins == Plugins()
    assert good(plugins={"config": None}).plugins.config == {}


def test_what_a_plugin_is_told_may_be_anything_with_references_resolved() -> None:
    told = {"key": "${KEY}", "list": [1, {"in": "a ${KEY}"}], "nothing": None, "off": False}
    config = good({"KEY": "geheim"}, plugins={"config": {"acme": told, "bare": None}})
    told = config.plugins.config["acme"]
    assert told == {
        "key": "geheim",
        "list": [1, {"in": "a geheim"}],
        "nothing": None,
        "off": False,
    }
    key = told["key"]
    assert isinstance(key, Resolved)  # So that it can be read as a number, and is never shown.
    assert key.origin == "${KEY}"
    assert config.plugins.config["bare"] == {}


def test_what_is_wrong_with_what_a_plugin_is_told() -> None:
    config = {"acme": {"a": ["${GONE}"], "b": "\ud800"}, "Acme": {}, "other": 1, "x": {"a b": 1}}
    problems = bad(plugins={"config": config, "watched": True, "auto_start": "yes"})
    assert set(problems) == {
        "plugins.config.acme.a[0]",
        "plugins.config.acme.b",
        "plugins.config.Acme",
        "plugins.config.other",
        'plugins.config.x."a b"',
        "plugins.watched",
        "plugins.auto_start",
    }
    assert "names the variable GONE, which is not set" in problems["plugins.config.acme.a[0]"].seen
    assert problems["plugins.watched"].do == "Did you mean watch?"


def test_the_directory_of_plugins_is_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for written, read_as in (
        ("", ""),
        ("plugins", f"{tmp_path}/plugins"),
        ("./plugins", f"{tmp_path}/plugins"),
        ("/srv/plugins", "/srv/plugins"),
    ):
        file.write_text(json.dumps({"listeners": LISTENERS, "plugins": {"directory": written}}))
        config = load(file, {})
        assert isinstance(config, Config), str(config)
        assert config.plugins.directory == read_as


def test_a_long_name_is_cut_in_its_path() -> None:
    (path,) = bad(plugins={"config": {"a" * 5000: {}}})
    assert len(path) < 100


# ---- Without a file. ---------------------------------------------------------------------------


def test_two_arguments_are_a_whole_configuration() -> None:
    config = quick("127.0.0.1:8080", ["http://a:1", "unix:/run/b"], workers=2, admin="unix:/run/c")
    assert isinstance(config, Config)
    assert config.static.node.workers == 2
    assert config.static.admin.address == "unix:/run/c"
    assert [at.address for at in config.dynamic.pools["app"].endpoints] == [
        "http://a:1",
        "unix:/run/b",
    ]
    assert config.dynamic.routes[0].pool == "app"


def test_arguments_are_told_by_their_names() -> None:
    problems = quick("8080", ["a:1", "${file:/etc/passwd}"], workers=0, admin="x")
    assert isinstance(problems, Problems)
    paths = [problem.path for problem in problems.items]
    assert sorted(paths) == ["--admin", "--listen", "--to", "--to", "--workers"]
    assert "which only a configuration file may do" in str(problems)


def test_defaults_are_kept_where_arguments_say_nothing() -> None:
    config = quick(":8080", ["http://a:1"])
    assert isinstance(config, Config)
    assert config.static.node.workers == "auto"
    assert config.static.admin.address == "auto"


def test_without_anywhere_to_send_it_there_is_a_problem() -> None:
    assert "--to" in str(quick(":8080", []))

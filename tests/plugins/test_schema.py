"""Each rule of a plugin's configuration, a row per rule; and no problem gives a secret away."""

from typing import Any

import pytest

from loomproxy.config.problem import Problem, Problems
from loomproxy.config.reference import Resolved
from loomproxy.plugins.contract import ConfigField, Validation
from loomproxy.plugins.schema import (
    ENUM_MAX,
    FIELDS_MAX,
    MASK,
    PATTERN_TEXT_CHARS_MAX,
    STRING_CHARS_MAX,
    check,
    configure,
    masked,
)

SECRET = "s3cr3t-geheim"


def field(kind: str = "string", /, **more: Any) -> ConfigField:
    rules = more.pop("rules", None)
    validation = None if rules is None else Validation(**rules)
    return ConfigField("a", kind, validation=validation, **more)  # type: ignore[arg-type] -- any of the four


def told(value: object, kind: str = "string", /, **more: Any) -> object:
    """What the plugin is told of a value that is good."""
    config = configure((field(kind, **more),), {"a": value}, "p")
    assert isinstance(config, dict), str(config)
    return config["a"]


def wrong(value: object, kind: str = "string", /, **more: Any) -> list[Problem]:
    problems = configure((field(kind, **more),), {"a": value}, "p")
    assert isinstance(problems, Problems), problems
    assert {problem.path for problem in problems.items} == {"p.a"}
    return list(problems.items)


def env(text: str) -> Resolved:
    return Resolved(text, "${X}")


# ---- Types. ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("string", "text", "text"),
        ("string", "", ""),
        ("string", env("5"), "5"),
        ("string", "x" * STRING_CHARS_MAX, "x" * STRING_CHARS_MAX),
        ("int", 0, 0),
        ("int", -3, -3),
        ("int", 2**63 - 1, 2**63 - 1),
        ("int", env("-30"), -30),
        ("float", 1.5, 1.5),
        ("float", 3, 3.0),
        ("float", env("2.5e-1"), 0.25),
        ("float", env("7"), 7.0),
        ("float", env(".5"), 0.5),
        ("bool", True, True),
        ("bool", False, False),
        ("bool", env("True"), True),
        ("bool", env("false"), False),
    ],
)
def test_a_value_of_its_fields_type_is_taken(kind: str, value: object, read: object) -> None:
    result = told(value, kind)
    assert result == read
    assert type(result) is type(read)  # A reference's mark would not travel to the plugin.


@pytest.mark.parametrize(
    ("kind", "value", "claim"),
    [
        ("string", 5, "is not text"),
        ("string", True, "is not text"),
        ("string", ["a"], "is not text"),
        ("string", {"a": 1}, "is not text"),
        ("string", "\ud800", "half a surrogate"),
        ("string", "x" * (STRING_CHARS_MAX + 1), "too long"),
        ("int", 3.7, "no whole number"),
        ("int", 3.0, "no whole number"),
        ("int", True, "no whole number"),
        ("int", "3", "no whole number"),
        ("int", env("3.0"), "no whole number"),
        ("int", env("1_000"), "no whole number"),
        ("int", env("٣"), "no whole number"),
        ("int", env(""), "no whole number"),
        ("int", env("9" * 5000), "no whole number"),
        ("int", 2**63, "more than 64 bits"),
        ("int", env("9" * 19), "more than 64 bits"),
        ("float", True, "no number"),
        ("float", "1.5", "no number"),
        ("float", float("nan"), "no number"),
        ("float", float("inf"), "no number"),
        ("float", 10**400, "no number"),
        ("float", env("nan"), "no number"),
        ("float", env("inf"), "no number"),
        ("float", env("1e999"), "no number"),
        ("bool", 1, "neither true nor false"),
        ("bool", "true", "neither true nor false"),
        ("bool", env("yes"), "neither true nor false"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: object, claim: str) -> None:
    (problem,) = wrong(value, kind)
    assert claim in problem.seen
    assert problem.expected
    assert problem.do.endswith(".")


# ---- Rules. ------------------------------------------------------------------------------------

LENGTHS = {"min_length": 2, "max_length": 3}
BOUNDS = {"min": 0, "max": 10}


@pytest.mark.parametrize(
    ("kind", "rules", "good", "bad", "claim"),
    [
        ("string", LENGTHS, "äö", "ä", "too short"),
        ("string", LENGTHS, "日本語", "日本語文", "too long"),
        ("string", LENGTHS, "👩🏽", "", "too short"),
        ("string", {"min_length": 1}, "x", "", "too short"),
        ("string", {"max_length": 0}, "", "x", "too long"),
        ("string", {"pattern": "[a-z]+"}, "abc", "abc1", "not match"),
        ("string", {"pattern": "[a-z]+"}, "abc", "abc\n", "not match"),
        ("string", {"pattern": "a|ab"}, "ab", "abc", "not match"),
        ("string", {"pattern": "^é$"}, "é", "e", "not match"),
        ("string", {"pattern": ".*"}, "", "x" * (PATTERN_TEXT_CHARS_MAX + 1), "too long"),
        ("string", {"enum": ("a", "b")}, "b", "c", "none of the values"),
        ("string", {"enum": ("1",)}, "1", "", "none of the values"),
        ("int", BOUNDS, 0, -1, "too small"),
        ("int", BOUNDS, 10, 11, "too large"),
        ("int", {"min": 0.5}, 1, 0, "too small"),
        ("float", BOUNDS, 10.0, 10.1, "too large"),
        ("float", {"max": 0}, 0.0, 0.1, "too large"),
        ("int", {"enum": (1.0, 2.0)}, 1, 3, "none of the values"),
        ("float", {"enum": (1, 2)}, 1.0, 1.5, "none of the values"),
        ("int", {"enum": (env("x"), env("4"))}, 4, 5, "none of the values"),
        ("int", {"enum": (True,)}, None, 1, "none of the values"),
        ("bool", {"enum": (1, True)}, True, False, "none of the values"),
        ("string", {"enum": (["a"], {"b": 1}, "a")}, "a", "b", "none of the values"),
    ],
)
def test_each_rule_lets_in_and_refuses(
    kind: str, rules: dict[str, Any], good: object, bad: object, claim: str
) -> None:
    if good is not None:
        assert told(good, kind, rules=rules) == good
    (problem,) = wrong(bad, kind, rules=rules)
    assert claim in problem.seen


def test_a_rule_that_is_not_written_binds_nothing() -> None:
    assert told("", rules={}) == ""
    assert told(-1, "int", rules={"max": 5}) == -1


def test_every_rule_that_a_value_breaks_is_told() -> None:
    rules = {"min_length": 5, "pattern": "[0-9]+", "enum": ("12345",)}
    claims = [problem.seen for problem in wrong("abc", rules=rules)]
    assert len(claims) == 3


# ---- What is there and what is not. ------------------------------------------------------------

SCHEMA = (
    ConfigField("api_key", "string", required=True, sensitive=True, description="From Acme."),
    ConfigField("timeout", "int", default=30, validation=Validation(min=1, max=300)),
    ConfigField("note", "string"),
)


def test_defaults_are_filled_in_and_the_given_is_left_as_it_was() -> None:
    given = {"api_key": "k"}
    config = configure(SCHEMA, given, "p")
    assert config == {"api_key": "k", "timeout": 30}
    assert config is not given
    assert given == {"api_key": "k"}


def test_a_key_without_a_value_is_a_key_that_is_not_there() -> None:
    assert configure(SCHEMA, {"api_key": "k", "timeout": None, "note": None}, "p") == {
        "api_key": "k",
        "timeout": 30,
    }


@pytest.mark.parametrize("given", [{}, {"api_key": None}])
def test_what_is_required_has_to_be_there(given: dict[str, object]) -> None:
    problems = configure(SCHEMA, given, "plugins.config.acme")
    assert isinstance(problems, Problems)
    assert str(problems) == (
        "plugins.config.acme.api_key: it is missing; expected text. Write it: From Acme."
    )


def test_a_default_does_not_stand_in_for_what_is_required() -> None:
    problems = configure((field("int", required=True, default="x"),), {}, "p")
    assert isinstance(problems, Problems)
    assert [problem.seen for problem in problems.items] == ["it is missing"]


def test_empty_text_is_a_value_where_nothing_is_required() -> None:
    given = {"api_key": "k", "note": ""}
    assert configure(SCHEMA, given, "p") == {"api_key": "k", "timeout": 30, "note": ""}


def test_a_variable_that_nobody_set_is_missing_where_text_is_required() -> None:
    problems = configure(SCHEMA, {"api_key": Resolved("", "${ACME_API_KEY:-}")}, "p")
    assert isinstance(problems, Problems)
    assert [problem.seen for problem in problems.items] == ["it is empty"]


def test_unknown_keys_are_refused_with_a_suggestion() -> None:
    problems = configure(SCHEMA, {"api_key": "k", "tiemout": 3, "zzz": 1, "a b": 2}, "p")
    assert isinstance(problems, Problems)
    assert [(problem.path, problem.do) for problem in problems.items] == [
        ("p.tiemout", "Did you mean timeout?"),
        ("p.zzz", "Take it out."),
        ('p."a b"', "Take it out."),
    ]
    assert problems.items[0].expected == "one of api_key, note, timeout"


def test_a_plugin_without_a_schema_takes_no_key() -> None:
    assert configure((), {}, "p") == {}
    problems = configure((), {"a": 1}, "p")
    assert isinstance(problems, Problems)
    assert problems.items[0].expected == "no keys: the plugin takes none"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    problems = configure(SCHEMA, {"timeout": 0, "note": 1, "x": 1}, "p")
    assert isinstance(problems, Problems)
    assert {problem.path for problem in problems.items} == {
        "p.api_key",
        "p.timeout",
        "p.note",
        "p.x",
    }


def test_a_default_that_its_own_field_refuses_does_not_reach_the_plugin() -> None:
    assert isinstance(configure((field("int", default="x"),), {}, "p"), Problems)


def test_a_problem_stays_short_whatever_the_schema_says() -> None:
    about = "x" * 4000
    fields = tuple(ConfigField(f"f{number}", "int") for number in range(200))
    problems = configure((ConfigField("a", "int", True, about), *fields), {"z": 1}, "p")
    assert isinstance(problems, Problems)
    assert len(str(problems)) < 1000
    (problem,) = wrong("a", rules={"enum": tuple(map(str, range(1000)))})
    assert problem.expected.endswith("18, 19, …")


def test_a_flood_of_unknown_keys_is_bounded() -> None:
    problems = configure(SCHEMA, {f"k{number}": 1 for number in range(10_000)}, "p")
    assert isinstance(problems, Problems)
    assert len(problems.items) == 200


# ---- Secrets. ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        ("int", {}),
        ("float", {}),
        ("bool", {}),
        ("string", {"min_length": 100}),
        ("string", {"max_length": 1}),
        ("string", {"pattern": "x"}),
        ("string", {"enum": ("x",)}),
    ],
)
@pytest.mark.parametrize("value", [SECRET, Resolved(SECRET, "${X}")])
def test_no_problem_shows_a_sensitive_value(kind: str, rules: dict[str, Any], value: str) -> None:
    for problem in wrong(value, kind, sensitive=True, rules=rules):
        assert SECRET not in str(problem)
        assert "${X}" not in str(problem)
        assert problem.seen.startswith("the value ")


def test_no_problem_shows_what_a_reference_stands_for() -> None:
    (problem,) = wrong(Resolved(SECRET, "${X}"), "int")
    assert problem.seen == "what ${X} stands for is no whole number"


def test_what_a_sensitive_field_may_be_is_no_ones_business() -> None:
    (problem,) = wrong("x", sensitive=True, rules={"enum": (SECRET,)})
    assert SECRET not in str(problem)


def test_masked_shows_what_is_plain() -> None:
    schema = (*SCHEMA, ConfigField("url", "string"), ConfigField("ratio", "float"))
    config = {
        "api_key": SECRET,
        "timeout": 30,
        "ratio": 0.5,
        "note": Resolved("from outside", "${NOTE}"),
        "url": f"http://user:{SECRET}@host/",
        "unknown": SECRET,
    }
    assert masked(schema, config) == {
        "api_key": MASK,
        "timeout": 30,
        "ratio": 0.5,
        "note": "${NOTE}",
        "url": MASK,
        "unknown": MASK,
    }
    assert config["api_key"] == SECRET


def test_masked_hides_what_cannot_be_told_apart() -> None:
    assert masked(SCHEMA, {"note": [SECRET], "timeout": {"a": SECRET}}) == {
        "note": MASK,
        "timeout": MASK,
    }
    assert masked(SCHEMA, {"note": None, "api_key": ""}) == {"note": None, "api_key": MASK}


# ---- The schema itself. ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "path", "claim"),
    [
        ((field(), field()), "s[1].name", "stands here again"),
        ((field("int", default="x"),), "s[0].default", "no whole number"),
        ((field("int", default=5, rules={"max": 4}),), "s[0].default", "too large"),
        ((field(default="c", rules={"enum": ("a",)}),), "s[0].default", "none of the values"),
        ((field("int", default=3.0),), "s[0].default", "no whole number"),
        ((field("int", rules={"min": 2, "max": 1}),), "s[0].validation.min", "above the max"),
        (
            (field(rules={"min_length": 2, "max_length": 1}),),
            "s[0].validation.min_length",
            "above the max_length",
        ),
        ((field(rules={"min": 1}),), "s[0].validation.min", "says nothing about"),
        ((field(rules={"max": 1}),), "s[0].validation.max", "says nothing about"),
        ((field("int", rules={"pattern": "x"}),), "s[0].validation.pattern", "says nothing"),
        ((field("bool", rules={"min_length": 1}),), "s[0].validation.min_length", "says nothing"),
        ((field("float", rules={"max_length": 1}),), "s[0].validation.max_length", "says nothing"),
        ((field("int", rules={"enum": (1, "2")}),), "s[0].validation.enum[1]", "no whole number"),
        ((field("int", rules={"enum": (1, 2.5)}),), "s[0].validation.enum[1]", "no whole number"),
        ((field("int", rules={"enum": (True,)}),), "s[0].validation.enum[0]", "no whole number"),
        ((field(rules={"enum": ([1],)}),), "s[0].validation.enum[0]", "a list is not text"),
        ((field(rules={"enum": ()}),), "s[0].validation.enum", "it has 0 values"),
        ((field(rules={"enum": ("a",) * (ENUM_MAX + 1)}),), "s[0].validation.enum", "1025 values"),
        (
            tuple(ConfigField(f"f{number}", "int") for number in range(FIELDS_MAX + 1)),
            "s",
            "it has 257 fields",
        ),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(
    fields: tuple[ConfigField, ...], path: str, claim: str
) -> None:
    (problem,) = check(fields, "s")
    assert problem.path == path
    assert claim in problem.seen


def test_as_much_as_is_allowed_is_good() -> None:
    fields = tuple(ConfigField(f"f{number}", "int") for number in range(FIELDS_MAX))
    assert check(fields, "s") == []
    assert check((field(rules={"enum": ("a",) * ENUM_MAX}),), "s") == []
    longest = "x" * PATTERN_TEXT_CHARS_MAX
    assert told(longest, rules={"pattern": "x*"}) == longest


def test_a_schema_with_every_rule_is_good() -> None:
    fields = (
        ConfigField(
            "a",
            "string",
            default="abc",
            validation=Validation(
                min_length=3, max_length=3, pattern="[a-c]+", enum=("abc", "bca")
            ),
        ),
        ConfigField("b", "int", default=0, validation=Validation(min=0, max=0, enum=(0,))),
        ConfigField("c", "float", default=1, validation=Validation(enum=(1, 1.5))),
        ConfigField("f", "int", default=2, validation=Validation(enum=(1.0, 2.0))),
        ConfigField("g", "int", default=3, validation=Validation(enum=(env("3"),))),
        ConfigField("d", "bool", default=False, validation=Validation(enum=(False,))),
        ConfigField("e", "int", default=Resolved("5", "${X}")),
    )
    assert check(fields, "s") == []
    assert configure(fields, {}, "p") == {
        "a": "abc",
        "b": 0,
        "c": 1.0,
        "d": False,
        "e": 5,
        "f": 2,
        "g": 3,
    }


def test_the_default_of_a_sensitive_field_is_not_shown_either() -> None:
    (problem,) = check((field("int", default=SECRET, sensitive=True),), "s")
    assert SECRET not in str(problem)

"""From text to a tree: three formats, each as strict as the others, none that can be blown up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.problem import Problem
from loomproxy.config.text import DEPTH_MAX, TEXT_CHARS_MAX, Tree, UnreadableError, tree_of


def read(text: str, file: str = "a.yaml") -> Tree:
    problems: list[Problem] = []
    tree = tree_of(text, file, problems)
    assert not problems
    return tree


def problem_of(text: str, file: str = "a.yaml") -> Problem:
    problems: list[Problem] = []
    try:
        tree_of(text, file, problems)
    except UnreadableError as error:
        return error.problem
    (problem,) = problems
    return problem


def test_the_same_tree_in_three_formats() -> None:
    tree = {"a": {"b": [1, 2.5, True, "x"]}, "c": ""}
    assert read('a: {b: [1, 2.5, true, x]}\nc: ""\n') == tree
    assert read('{"a": {"b": [1, 2.5, true, "x"]}, "c": ""}', "a.json") == tree
    assert read('c = ""\n[a]\nb = [1, 2.5, true, "x"]\n', "A.TOML") == tree


def test_an_empty_file_is_an_empty_tree() -> None:
    assert read("") == {}
    assert read("# nothing\n", "a.yml") == {}
    assert read("null", "a.json") == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'~'", "~"),
        ("0660", 660),
        ("'0660'", "0660"),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        ("9" * 19, "9" * 19),
        ('"8080"', "8080"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_yaml_is_read_as_its_version_1_2_does(text: str, value: object) -> None:
    assert read(f"a: {text}") == {"a": value}


def test_anchors_and_merges() -> None:
    text = """
base: &base {a: 1, b: 1}
more: &more {c: 3, a: 9}
one: {<<: *base, b: 2}
two: {<<: [*base, *more]}
"""
    tree = read(text)
    assert tree["one"] == {"a": 1, "b": 2}
    assert tree["two"] == {"a": 1, "b": 1, "c": 3}
    assert read('"<<": 1') == {"<<": 1}


def test_a_key_that_stands_twice_is_told_with_its_place() -> None:
    problem = problem_of("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert problem.path == "a.yaml:4:3"
    assert "key c stands here again" in problem.seen
    assert "key a" in problem_of('{"a": 1, "a": 2}', "a.json").seen
    toml = problem_of("a = 1\na = 2\n", "a.toml")
    assert toml.path.startswith("a.toml:2")


def test_the_first_of_two_is_kept_so_that_the_rest_can_be_checked() -> None:
    problems: list[Problem] = []
    assert tree_of("a: 1\na: 2\n", "a.yaml", problems) == {"a": 1}
    assert tree_of('{"a": 1, "a": 2}', "a.json", problems) == {"a": 1}
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("text", "file", "where"),
    [
        ("a: [1\nb: 2", "a.yaml", "a.yaml:2:2"),
        ("a:\n\tb: 1", "a.yaml", "a.yaml:2:1"),
        ("a: 1\n---\nb: 2", "a.yaml", "a.yaml:2:1"),
        ("a: *nobody", "a.yaml", "a.yaml:1:4"),
        ('{"a": 1,}', "a.json", "a.json:1:9"),
        ("a = \n", "a.toml", "a.toml:1:5"),
        ("a = 1\nb = ", "a.toml", "a.toml"),
    ],
)
def test_bad_syntax_is_told_with_line_and_column(text: str, file: str, where: str) -> None:
    problem = problem_of(text, file)
    assert problem.path == where
    assert problem.expected.startswith("valid ")


@pytest.mark.parametrize(
    ("text", "file", "seen"),
    [
        ("a: 1", "a.conf", "does not say the format"),
        ("a: 1", "a", "does not say the format"),
        ("- 1", "a.yaml", "not a mapping"),
        ("7", "a.json", "not a mapping"),
        ("a: !!python/object:os.system x", "a.yaml", "has the tag"),
        ("{[1]: 2}", "a.yaml", "a key is a mapping or a list"),
        ("<<: 3", "a.yaml", "<< names no mapping"),
        ("a: &a [*a]", "a.yaml", "nested too deeply"),
        ("a: \x07", "a.yaml", "not"),
        ("a: \ud800", "a.yaml", "not"),
        ("[" * 100_000, "a.yaml", "nest"),
        ("[" * 100_000, "a.json", "nested too deeply"),
        ("a = " + "[" * 100_000, "a.toml", "nested too deeply"),
        (".".join(["a", "'b'", '"c"', " d "] * 9) + "=1", "a.toml", "more than 32 levels"),
        ("x = {y = 1, a" + ".a" * 200_000 + "=1}", "a.toml", "more than 32 levels"),
        ("a = " + "[" * 40 + "]" * 40, "a.toml", f"more than {DEPTH_MAX} levels"),
        ('{"a":' * 40 + "1" + "}" * 40, "a.json", f"more than {DEPTH_MAX} levels"),
        ('{"a": ' + "1" * 5000 + "}", "a.json", "too long"),
        ("a = " + "1" * 5000, "a.toml", "out of range"),
        (" " * (TEXT_CHARS_MAX + 1), "a.yaml", "more than"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, file: str, seen: str) -> None:
    assert seen in problem_of(text, file).seen


def test_what_is_no_mapping_is_told_what_it_may_begin_with() -> None:
    with pytest.raises(UnreadableError) as caught:
        tree_of("[1]", "a.yaml", [], keys=("metadata", "command"))
    problem = caught.value.problem
    assert problem.expected == "keys such as metadata, command"
    assert problem.do == "Begin with `metadata:`."


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 20)]
    assert "too many values" in problem_of("\n".join(lines)).seen


@given(text=st.text(max_size=60), suffix=st.sampled_from((".yaml", ".json", ".toml")))
def test_any_text_is_a_tree_or_problems(text: str, suffix: str) -> None:
    problems: list[Problem] = []
    try:
        tree = tree_of(text, "a" + suffix, problems)
    except UnreadableError as error:
        problems.append(error.problem)
        tree = {}
    assert isinstance(tree, dict)
    assert all(str(problem) for problem in problems)


@given(st.text("ab:-[]{}&*<>|'\"#?! \n", max_size=60))
def test_any_text_that_looks_like_yaml_is_a_tree_or_problems(text: str) -> None:
    problems: list[Problem] = []
    try:
        tree_of(text, "a.yaml", problems)
    except UnreadableError as error:
        problems.append(error.problem)
    assert all(problem.do for problem in problems)

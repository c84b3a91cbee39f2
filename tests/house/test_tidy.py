"""The tidiness check sees what it is there for, and nothing else; and this tree is tidy."""

from pathlib import Path

import pytest
import tidy


def tree(root: Path, **files: str) -> Path:
    """A small tree of ours: files by their place."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("rule", tidy.RULES, ids=lambda rule: rule.__name__)
def test_this_tree_is_tidy(rule):
    assert list(rule(tidy.ROOT)) == []


def test_a_function_that_does_not_fit_on_a_screen_is_seen(tmp_path):
    body = "    pass\n"
    fits = "def fits():\n" + body * (tidy.FUNCTION_LINES_MAX - 1)
    long = "async def long():\n" + body * tidy.FUNCTION_LINES_MAX
    root = tree(tmp_path, **{"loomproxy/some.py": fits + long})
    (problem,) = tidy.sizes(root)
    assert (
        problem == f"loomproxy/some.py:{tidy.FUNCTION_LINES_MAX + 1}: long has 61 lines. Split it."
    )


def test_a_file_that_is_too_long_is_seen(tmp_path):
    root = tree(
        tmp_path,
        **{
            "scripts/fits.py": "# One.\n" * tidy.FILE_LINES_MAX,
            "tests/long.py": "# One.\n" * (tidy.FILE_LINES_MAX + 1),
        },
    )
    assert [problem.split(":")[0] for problem in tidy.sizes(root)] == ["tests/long.py"]


def test_a_core_module_without_tests_and_a_test_without_module_are_seen(tmp_path):
    behaviour = "def act() -> None:\n    pass\n"
    root = tree(
        tmp_path,
        **{
            "loomproxy/core/__init__.py": '"""Only words."""\n',
            "loomproxy/core/pool.py": behaviour,
            "loomproxy/core/gone.py": behaviour,
            "loomproxy/core/http1/lane.py": behaviour,
            "loomproxy/core/route/match.py": behaviour,
            "tests/core/test_pool.py": "",
            "tests/core/test_pool_properties.py": "",
            "tests/core/http1/test_lane.py": "",
            "tests/core/test_route.py": "",
            "tests/core/test_nobody.py": "",
            "tests/core/http1/test_corpus.py": "from loomproxy.core.http1 import lane\n",
        },
    )
    untested, orphan = tidy.tests_of_core(root)
    assert untested == "loomproxy/core/gone.py: has no test file. Write tests/core/test_gone.py."
    assert orphan.startswith("tests/core/test_nobody.py: is no module's own test")


def test_a_module_that_nobody_imports_is_seen(tmp_path):
    root = tree(
        tmp_path,
        **{
            "loomproxy/__init__.py": "",
            "loomproxy/__main__.py": "START = 'loomproxy.named:main'\n",
            "loomproxy/used.py": "from loomproxy import other\n",
            "loomproxy/other.py": "import loomproxy.used\n",
            "loomproxy/named.py": "",
            "loomproxy/forgotten.py": "from loomproxy.core import deep\n",
            "loomproxy/core/deep.py": "",
        },
    )
    (problem,) = tidy.imported(root)
    assert problem.startswith("loomproxy/forgotten.py: no module imports it")


@pytest.mark.parametrize(
    "text",
    [
        "backend = 1",
        "def to_backend(): pass",
        "class NewBackend: pass",
        "def send(backend_url): pass",
        "self.backend = 1",
        "for BACKEND in (): pass",
    ],
)
def test_a_word_that_the_glossary_has_another_for_is_seen(tmp_path, text):
    root = tree(tmp_path, **{"loomproxy/some.py": f"{text}\n"})
    (problem,) = tidy.words(root)
    assert problem.startswith("loomproxy/some.py:1: ")
    assert "upstream, pool or endpoint" in problem


@pytest.mark.parametrize(
    "text", ["import backend", "print(backend)", "x = 'backend'", "backends = 1", "# A backend."]
)
def test_words_of_others_and_words_in_prose_are_not_names_of_ours(tmp_path, text):
    assert list(tidy.words(tree(tmp_path, **{"loomproxy/some.py": f"{text}\n"}))) == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_a_comment_that_promises_later_work_is_seen(tmp_path, word):
    root = tree(tmp_path, **{"tests/some.py": f"# {word}: all of it.\nx = '{word}'\n"})
    (problem,) = tidy.comments(root)
    assert problem.startswith(f"tests/some.py:1: {word} promises later work")


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# no" + "qa: S603", False),
        ("# no" + "qa: S603, S607", False),
        ("# no" + "qa", False),
        ("# type: ig" + "nore[attr-defined]", False),
        ("# pragma: no cover", False),
        ("# no" + "qa: S603  # ok", False),
        ("# no" + "qa: S603 # the argv is ours", True),
        ("# type: ig" + "nore[attr-defined]  # The stub lacks it.", True),
        ("# pragma: no cover - only the kernel says this", True),
        ("# An ordinary comment", True),
    ],
)
def test_silencing_a_check_needs_a_reason(tmp_path, comment, silent):
    root = tree(tmp_path, **{"loomproxy/some.py": f"x = 1  {comment}\n"})
    assert (list(tidy.comments(root)) == []) is silent


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("# One\n\ntext\n\n## Part\n", True),
        ("# One\n\n```sh\n# a comment in a shell\n```\n", True),
        ("# One\n\n# Two\n", False),
        ("Text first.\n\n# One\n", False),
        ("## Part\n", False),
    ],
)
def test_a_document_begins_with_its_one_title(tmp_path, text, good):
    root = tree(tmp_path, **{"docs/some.md": text})
    assert (list(tidy.titles(root)) == []) is good


@pytest.mark.parametrize(
    "line",
    ["--index-url x", "h11 @ file:///h11.whl", "-e .", "h11==1 --hash=x # from https://host"],
)
def test_a_lock_that_names_a_place_is_seen(tmp_path, line):
    root = tree(
        tmp_path, **{"requirements/runtime.txt": f"h11==0.16.0 \\\n    --hash=sha256:0\n{line}\n"}
    )
    (problem,) = tidy.locks(root)
    assert problem.startswith("requirements/runtime.txt:3: names a place")

"""References to the environment and to files: resolved once, never repeated."""

import errno

import pytest

from loomproxy.config.reference import Resolved, Sources, Verbatim

FILES = {"/run/secret": "geheim\n", "empty": ""}


def read(path: str) -> str:
    if path == "/etc/shadow":
        raise PermissionError(errno.EACCES, "Permission denied")
    if path not in FILES:
        raise ValueError("is no regular file")
    return FILES[path]


SOURCES = Sources({"NAME": "value", "EMPTY": ""}, read)


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("plain $NAME", "plain $NAME"),
        ("${NAME}", "value"),
        ("a ${NAME} b ${NAME}", "a value b value"),
        ("${NONE:-else}", "else"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-else}", "else"),
        ("${NAME:-else}", "value"),
        ("${file:/run/secret}", "geheim"),
        ("${file:empty}", ""),
        ("$${NAME}", "${NAME}"),
    ],
)
def test_what_a_reference_stands_for(text: str, resolved: str) -> None:
    assert SOURCES.resolve(text) == resolved


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("${NONE}", "NONE, which is not set"),
        ("${", "without its }"),
        ("${NAME", "without its }"),
        ("${}", "neither a variable nor"),
        ("${1}", "neither a variable nor"),
        ("${file:/etc/shadow}", r"cannot be read \(Permission denied\)"),
        ("${file:/dev/zero}", "is no regular file"),
    ],
)
def test_references_that_lead_nowhere(text: str, claim: str) -> None:
    with pytest.raises(ValueError, match=claim):
        SOURCES.resolve(text)


def test_what_came_from_elsewhere_is_marked_with_its_origin() -> None:
    resolved = SOURCES.resolve("x${NAME}")
    assert isinstance(resolved, Resolved)
    assert resolved.origin == "x${NAME}"
    assert not isinstance(SOURCES.resolve("plain"), Resolved)


def test_what_a_reference_stands_for_is_not_read_again() -> None:
    assert Sources({"A": "${B}", "B": "no"}, read).resolve("${A}") == "${B}"


def test_in_text_of_others_a_reference_is_nothing_but_text() -> None:
    for text in ("${HOME}", "${file:/etc/passwd}", "${", "$${"):
        assert Verbatim().resolve(text) == text
        assert type(Verbatim().resolve(text)) is str

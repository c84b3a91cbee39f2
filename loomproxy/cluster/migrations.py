"""The steps of the schema: which there are, which are still to run, and when a store is too new.

Steps are additive: a version of this program works with every schema whose first steps are its own,
so that old and new instances run side by side while an upgrade rolls through. A step that takes
something away waits for a version that no longer reads it.
"""

import re
from collections.abc import Sequence
from importlib import resources
from typing import Final, Literal

from loomproxy.cluster.store import Migration, SchemaError

Dialect = Literal["postgres", "sqlite"]

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """All steps of a dialect, oldest first, numbered from 1 without gaps."""
    folder = resources.files("loomproxy.cluster") / "schema" / dialect
    named = sorted((entry.name, entry) for entry in folder.iterdir())
    steps = tuple(
        Migration(int(match[1]), match[2], entry.read_text())
        for name, entry in named
        if (match := _FILE.fullmatch(name))
    )
    assert [step.version for step in steps] == list(range(1, len(steps) + 1)), named
    return steps


def pending(steps: Sequence[Migration], done: Sequence[tuple[int, str]]) -> tuple[Migration, ...]:
    """The steps that a store has not seen; `done` are versions and names, oldest first.

    SchemaError where what it has seen is another history than ours. One that has seen more than we
    know is newer, and fine: its steps are additive.
    """
    for step, (version, name) in zip(steps, done, strict=False):
        if (step.version, step.name) != (version, name):
            raise SchemaError(
                f"step {version} of its schema is {name!r}, where ours is {step.version} "
                f"{step.name!r}: these tables are not ours, or were changed by hand"
            )
    return tuple(steps[len(done) :])

"""Every kind of command there is."""

import inspect
import typing

import pytest

from loomproxy.core import command as commands
from loomproxy.core.command import Command, Fate, SetDeadline
from loomproxy.core.units import Instant

KINDS = frozenset(typing.get_args(Command))


def test_every_command_of_the_module_is_one_of_the_kinds() -> None:
    defined = {
        kind
        for _, kind in inspect.getmembers(commands, inspect.isclass)
        if kind.__module__ == commands.__name__
    }
    assert defined - {Fate} == KINDS


def test_a_command_cannot_be_changed_on_its_way() -> None:
    command = SetDeadline(Instant(1.0))
    with pytest.raises(AttributeError, match="immutable"):
        command.at = Instant(2.0)  # type: ignore[misc] # that it cannot be done is the test

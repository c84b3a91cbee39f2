"""What hands can be asked for; those of the plays can do all of it."""

import inspect

from loomproxy.core.command import Fate, Hands
from tests import commands
from tests.commands import Scribe


def test_the_hands_of_the_plays_can_do_all_that_is_asked() -> None:
    asked = {name for name, _ in inspect.getmembers(Hands, inspect.isfunction) if name[0] != "_"}
    assert asked <= set(dir(Scribe))
    for name in asked:
        assert inspect.signature(getattr(Scribe, name)) == inspect.signature(getattr(Hands, name))


def test_each_fate_is_another() -> None:
    assert {fate.value for fate in Fate} == {"keep", "close", "abort"}
    assert commands.Fate is Fate

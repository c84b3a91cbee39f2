"""A published document and an instance's own file: together one configuration.

A document holds what many instances have in common: the keys that a running node can change, and
what their plugins are told. What an instance has alone (its processes, addresses, logs, and where
its plugins lie) stays in its file. Where there is a document it takes the place of those keys of
the file as a whole: nothing is merged, so that the document says all there is to know.

References in a document are resolved where it is applied: `${NAME}` in that instance's environment,
`${file:…}` beside its file. So a document need hold no secret.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from loomproxy.config.check import check
from loomproxy.config.load import sources
from loomproxy.config.model import Config, Dynamic, Static
from loomproxy.config.plugins import Guests, Plugins
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.shape import Key, keys_of
from loomproxy.config.text import Tree, UnreadableError, tree_of
from loomproxy.config.walk import PROBLEMS_MAX, Walk

NAME: Final = "document.yaml"
"""What problems call the document as a whole; its suffix says that it is YAML, or JSON in YAML."""

_SHARED_OF_PLUGINS: Final = ("config", "desired")


def shared(
    text: str, local: Config, file: str, environ: Mapping[str, str] | None = None
) -> Config | Problems:
    """The configuration of an instance whose file is `file` and says `local`, under a document.

    `environ` is where `${NAME}` is looked up: the process's own environment where it is None.
    """
    problems: list[Problem] = []
    try:
        tree = tree_of(text, NAME, problems, keys=("pools", "routes"))
    except UnreadableError as error:
        return Problems((*problems, error.problem))
    problems += _not_shared(tree)
    walk = Walk(sources(file, environ))
    walk.refuse_unknown(tree, [*keys_of(Static), *keys_of(Dynamic), *keys_of(Guests)], "")
    dynamic, told = walk.struct(Dynamic, tree), walk.struct(Guests, tree).plugins
    plugins = msgspec.structs.replace(local.plugins, config=told.config, desired=told.desired)
    config = Config(local.static, dynamic, plugins)
    found = [*problems, *walk.problems]
    known = {problem.path for problem in found}
    found += [problem for problem in check(config) if problem.path not in known]
    return Problems(tuple(found[:PROBLEMS_MAX])) if found else config


def _not_shared(tree: Tree) -> list[Problem]:
    """The keys that are each instance's own."""
    own = [key.name for key in keys_of(Static) if key.name in tree]
    section = tree.get("plugins")
    if isinstance(section, dict):
        keys = [key.name for key in keys_of(Plugins) if key.name not in _SHARED_OF_PLUGINS]
        own += [f"plugins.{name}" for name in keys if name in section]
    expected = f"one of {', '.join(_shared_keys(keys_of(Dynamic)))}"
    do = "Leave it in the file of each instance."
    return [
        Problem(name, "this key is each instance's own", expected, do)
        for name in own[:PROBLEMS_MAX]
    ]


def _shared_keys(dynamic: tuple[Key, ...]) -> list[str]:
    names = [key.name for key in dynamic]
    return sorted([*names, *(f"plugins.{name}" for name in _SHARED_OF_PLUGINS)])

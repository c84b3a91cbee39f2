"""From a file, or the arguments of a command, to a Config; or to everything that is wrong with it.

The environment and the files that `${…}` names are read here, once; nowhere else.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.check import check
from loomproxy.config.model import Config, Dynamic, Static
from loomproxy.config.plugins import Guests
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.reference import FILE_BYTES_MAX, Sources
from loomproxy.config.shape import keys_of
from loomproxy.config.text import TEXT_CHARS_MAX, Tree, UnreadableError, tree_of
from loomproxy.config.walk import PROBLEMS_MAX, Walk

QUICK_POOL: Final = "app"
QUICK_LISTENER: Final = "public"


def load(path: str | Path, environ: Mapping[str, str] | None = None) -> Config | Problems:
    """The configuration in a file, YAML, JSON or TOML by its suffix.

    `environ` is where `${NAME}` is looked up: the process's own environment where it is None.
    """
    file = str(path)
    try:
        text = read_text(file, TEXT_CHARS_MAX * 4)
    except OSError as error:
        seen = f"it cannot be read ({error.strerror})"
        return Problems((Problem(file, seen, "a readable file", "Check its name and its mode."),))
    except ValueError as error:
        return Problems((Problem(file, f"it {error}", "UTF-8 text", "Save it as UTF-8."),))
    return parse(text, file, environ)


def parse(text: str, file: str, environ: Mapping[str, str] | None = None) -> Config | Problems:
    """The configuration in `text`; `file` names it in problems, and its suffix says the format.

    `${file:…}` with a relative path is looked up beside `file`.
    """
    problems: list[Problem] = []
    try:
        tree = tree_of(text, file, problems)
    except UnreadableError as error:
        return Problems((*problems, error.problem))
    config = _config(tree, sources(file, environ), problems)
    return _settled(config, file) if isinstance(config, Config) else config


def _settled(config: Config, file: str) -> Config:
    """With the paths that are relative to `file` as absolute ones, wherever we run."""
    beside, replace = Path(file).parent, msgspec.structs.replace
    directory, database = config.plugins.directory, config.static.database
    if directory:
        whole = str((beside / directory).absolute())
        config = replace(config, plugins=replace(config.plugins, directory=whole))
    if database is not None:
        whole = str((beside / database.path).absolute())
        static = replace(config.static, database=replace(database, path=whole))
        config = replace(config, static=static)
    return config


def quick(
    listen: str,
    to: Sequence[str],
    *,
    workers: int | None = None,
    admin: str | None = None,
) -> Config | Problems:
    """The configuration that `--listen` and `--to` stand for: everything goes to one pool.

    `workers` and `admin` keep their defaults where they are None.
    """
    tree: Tree = {
        "listeners": [{"name": QUICK_LISTENER, "address": listen}],
        "pools": {QUICK_POOL: {"endpoints": list(to)}},
        "routes": [{"name": QUICK_POOL, "pool": QUICK_POOL}],
    }
    if workers is not None:
        tree["node"] = {"workers": workers}
    if admin is not None:
        tree["admin"] = {"address": admin}
    config = _config(tree, Sources({}, _no_file), [])
    return config if isinstance(config, Config) else _as_arguments(config)


_ARGUMENTS: Final = (
    ("listeners[0]", "--listen"),
    (f"pools.{QUICK_POOL}", "--to"),
    ("node.workers", "--workers"),
    ("admin.address", "--admin"),
)


def _as_arguments(problems: Problems) -> Problems:
    """The same problems, where somebody who wrote arguments and no file looks for them."""

    def named(problem: Problem) -> Problem:
        for path, argument in _ARGUMENTS:
            if problem.path.startswith(path):
                return msgspec.structs.replace(problem, path=argument)
        return problem

    return Problems(tuple(named(problem) for problem in problems.items))


def _config(tree: Tree, sources: Sources, problems: list[Problem]) -> Config | Problems:
    walk = Walk(sources)
    walk.refuse_unknown(tree, [*keys_of(Static), *keys_of(Dynamic), *keys_of(Guests)], "")
    static, dynamic = walk.struct(Static, tree), walk.struct(Dynamic, tree)
    config = Config(static, dynamic, walk.struct(Guests, tree).plugins)
    found = [*problems, *walk.problems]
    told = {problem.path for problem in found}
    # A place that was blanked is not complained of twice.
    found += [problem for problem in check(config) if problem.path not in told]
    return Problems(tuple(found[:PROBLEMS_MAX])) if found else config


def sources(file: str, environ: Mapping[str, str] | None) -> Sources:
    """Where the references of `file` are looked up: in `environ`, and beside it."""
    beside = Path(file).parent
    # The one place where the environment is read.
    known = os.environ if environ is None else environ  # noqa: TID251 -- config.load is that place
    return Sources(known, lambda path: read_text(str(beside / path), FILE_BYTES_MAX))


def read_text(path: str, bytes_max: int) -> str:
    """A regular file's text; OSError, or ValueError with a claim."""
    # Not blocking: opening a FIFO would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is no regular file")
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise ValueError(f"is larger than {bytes_max} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def _no_file(_path: str) -> str:
    raise ValueError("names a file, which only a configuration file may do")

"""Any text: it becomes a configuration that compiles, or problems that say what to do."""

from typing import Final

from loomproxy.config.compile import compile_snapshot
from loomproxy.config.load import parse
from loomproxy.config.model import Config

SUFFIXES: Final = (".yaml", ".json", ".toml")
ENVIRON: Final = {"X": "x", "N": "5", "EMPTY": "", "SURROGATE": "\udc80", "LONG": "a" * 9000}


def config_load(given: bytes) -> None:
    """The first byte chooses the format; bytes that are not UTF-8 become lone surrogates."""
    suffix = SUFFIXES[given[0] % len(SUFFIXES)] if given else SUFFIXES[0]
    text = given[1:].decode("utf-8", "surrogateescape")
    result = parse(text, f"/nowhere/loomproxy{suffix}", ENVIRON)
    if isinstance(result, Config):
        assert compile_snapshot(result, 1).revision == 1
        return
    assert result.items
    for problem in result.items:
        assert problem.path
        assert problem.seen
        assert problem.expected
        assert problem.do
        str(problem).encode()

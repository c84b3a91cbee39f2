"""What is to be examined, from what somebody typed: a folder with a manifest, or an address."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.config.address import base_url
from loomproxy.config.load import read_text, sources
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.text import UnreadableError, tree_of
from loomproxy.config.walk import ANYTHING, Walk
from loomproxy.plugins.conformance.verdict import Kind
from loomproxy.plugins.manifest import NAMES, Found, Manifest, read

CONFIG_BYTES_MAX: Final = 1 << 20
"""Of a plugin's configuration in a file of its own."""

WITHIN_S: Final = 30.0
"""How long one call may take, where nobody says otherwise; a start has the manifest's own time."""


class Target(msgspec.Struct, frozen=True):
    """What to examine, and with what."""

    name: str  # as it was typed
    found: Found | None = None  # of a folder, when its manifest can be used
    url: str = ""  # of a plugin that runs already
    problems: Problems | None = None  # why there is nothing to examine
    config: Mapping[str, object] = {}  # as a configuration file has it
    words: Mapping[str, str] = {}  # the same from a command line; the schema says of which type
    token: str = ""  # that a running plugin expects
    model: str = ""  # to chat with; "": the first that it serves
    within_s: float = WITHIN_S

    @property
    def manifest(self) -> Manifest | None:
        """The manifest, where there is one."""
        return self.found.manifest if self.found else None

    @property
    def kind(self) -> Kind:
        """What there is to examine."""
        return Kind(self.manifest.kind) if self.manifest is not None else Kind.REMOTE


def target(text: str, environ: Mapping[str, str], **given: object) -> Target:
    """The target that `text` names; what else is `given` goes into it as it is."""
    is_address = text.startswith("unix:") or "://" in text
    made = _address(text) if is_address else _folder(text, environ)
    return msgspec.structs.replace(made, **given)


def config_file(path: Path) -> Mapping[str, object] | Problems:
    """A plugin's configuration from a file of its own; its references are resolved."""
    problems: list[Problem] = []
    file = str(path)
    try:
        tree = tree_of(read_text(file, CONFIG_BYTES_MAX), file, problems, keys=("api_key",))
    except UnreadableError as error:
        return Problems((*problems, error.problem))
    except (OSError, ValueError) as error:
        claim = getattr(error, "strerror", None) or str(error)
        do = "Check its name and its mode."
        return Problems((Problem(file, f"it cannot be read ({claim})", "a text file", do),))
    walk = Walk(sources(file, None))
    config = walk.read(ANYTHING, tree, "")
    problems += walk.problems
    if problems:
        return Problems(tuple(problems))
    assert isinstance(config, dict)
    return config


def _address(text: str) -> Target:
    try:
        base_url(text)
    except ValueError as error:
        return _wrong(
            text,
            f"it {error}",
            "http://host:port, http://host:port/base or unix:/path",
            "Give the address at which the plugin answers, or its folder.",
        )
    return Target(text, url=text)


def _folder(text: str, environ: Mapping[str, str]) -> Target:
    folder = Path(text)
    if not folder.is_dir():
        return _wrong(
            text,
            "it is no folder",
            "a plugin's folder, http://host:port or unix:/path",
            "Check its spelling; `loomproxy plugins new NAME` makes one.",
        )
    names = [name for name in NAMES if (folder / name).is_file()]
    if len(names) != 1:
        return _wrong(
            text,
            f"it holds {' and '.join(names) or 'no manifest'}",
            f"one of {', '.join(NAMES)}",
            "Keep one of them." if names else "Write one; `loomproxy plugins new NAME` shows how.",
        )
    read_so_far = read(folder / names[0], environ)
    if isinstance(read_so_far, Problems):
        return Target(text, problems=read_so_far)
    return Target(text, found=read_so_far)


def _wrong(path: str, seen: str, expected: str, do: str) -> Target:
    return Target(path, problems=Problems((Problem(path, seen, expected, do),)))

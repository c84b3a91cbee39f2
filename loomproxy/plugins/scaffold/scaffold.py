"""A new plugin's folder, from the templates beside this file, which are data and no code of ours.

In a template `@NAME@` stands for the plugin's name. What is written passes the examination as it
is; `examples/plugins/example-node` and `example-go` are what comes out for these names.
"""

import importlib.resources
import re
from pathlib import Path
from typing import Final

import msgspec

NAME_CHARS_MAX: Final = 63
"""Of a provider_type."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_PLACEHOLDER: Final = b"@NAME@"
_SUFFIX: Final = ".template"
_CALLED: Final = {"gitignore": ".gitignore"}  # a template of that name would be obeyed in our tree

_FIRST_STEPS: Final[dict[str, tuple[str, ...]]] = {
    "python": (),
    "node": (),
    "go": ("(cd {folder} && CGO_ENABLED=0 go build -o {name})",),
}


class ScaffoldError(Exception):
    """No folder was made; says where, what was seen, what was expected and what to do."""


class Scaffold(msgspec.Struct, frozen=True):
    """What was made."""

    folder: Path
    files: tuple[str, ...]
    steps: tuple[str, ...]  # commands to go on with


def scaffold(name: str, lang: str, parent: Path) -> Scaffold:
    """Make the folder `name` in `parent`, which is made as well; ScaffoldError when it cannot be.

    `lang` is python, node or go.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise ScaffoldError(
            f"NAME: {name!r} is no provider_type; expected lower-case letters, digits and dashes, "
            f"{NAME_CHARS_MAX} at most, no dash first. Choose another, such as my-provider."
        )
    folder = parent / name
    templates = importlib.resources.files("loomproxy.plugins.scaffold") / "templates" / lang
    texts = {
        _called(item.name): item.read_bytes().replace(_PLACEHOLDER, name.encode())
        for item in sorted(templates.iterdir(), key=lambda item: item.name)
        if item.name.endswith(_SUFFIX)
    }
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for called, text in texts.items():
            (folder / called).write_bytes(text)
    except FileExistsError:
        raise ScaffoldError(
            f"{folder}: it is there already; nothing in it was changed. Choose another NAME or "
            "--dir, or remove it first."
        ) from None
    except OSError as error:
        raise ScaffoldError(
            f"{folder}: it cannot be written ({error.strerror}). Choose another --dir."
        ) from None
    steps = tuple(step.format(folder=folder, name=name) for step in _FIRST_STEPS[lang])
    if not steps:
        steps = (f"loomproxy plugins test {folder}", f"$EDITOR {folder}/{_main(texts)}")
    else:
        steps = (*steps, f"loomproxy plugins test {folder}")
    return Scaffold(folder, tuple(texts), steps)


def _called(template: str) -> str:
    name = template.removesuffix(_SUFFIX)
    return _CALLED.get(name, name)


def _main(texts: dict[str, bytes]) -> str:
    """The file to write on in."""
    return next(
        name
        for name in texts
        if name.partition(".")[0] in {"main", "plugin", "server"} and not name.endswith(".yaml")
    )

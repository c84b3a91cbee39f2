"""The reference and the JSON schema of the configuration, as text, from the model.

`python -m loomproxy.config` writes them to where they belong.
"""

import json
from collections.abc import Iterator
from typing import Final

import msgspec

from loomproxy.config.key import Base
from loomproxy.config.kinds import KINDS
from loomproxy.config.model import Dynamic, Static
from loomproxy.config.plugins import Guests
from loomproxy.config.shape import (
    Anything,
    Group,
    Key,
    Leaf,
    Many,
    Maybe,
    Shape,
    Table,
    in_words,
    keys_of,
    limits_in_words,
)

Schema = dict[str, object]

REFERENCE: Final = "docs/configuration.md"
SCHEMA: Final = "conf/schema.json"

_REFERENCED: Final = r"\$\{"
_DURATION: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*(us|ms|s|m|h|d)\s*$"
_SIZE: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)\s*$"

_HEAD: Final = """\
# Configuration

*This page is written from the model by `python -m loomproxy.config`. Change
`loomproxy/config/static.py`, `dynamic.py` or `plugins.py`, not this text.*

One file, YAML, JSON or TOML by its suffix. `loomproxy check FILE` tells every problem at once, each
with its path, what was expected and what to do. `conf/quickstart.yaml` is the shortest useful file,
`conf/loomproxy.yaml` shows every key, `conf/schema.json` lets an editor complete and check them.

```yaml
listeners:
  - {name: public, address: ":8080"}
pools:
  app:
    endpoints: ["http://127.0.0.1:9000"]
routes:
  - {pool: app}
```

## How values are written

* **Durations** are `250ms`, `5s`, `2m`, `1h`, `1d`, or a number of seconds.
* **Sizes** are `64KiB`, `10MB`, `1GiB`, or a number of bytes.
* **Lists** of a single value may be written as that value: `methods: GET`.
* **YAML** is read as its version 1.2 does: booleans are `true` and `false`; `off`, `yes` and `no`
  are words. No key may stand twice in one place. Anchors and `<<` work.
* **References** are resolved once, when the file is read: `${NAME}` is a variable of the
  environment, `${NAME:-default}` has a default, `${file:/path}` is the text of a file (without its
  last line break; a relative path is looked up beside the configuration). `$${` is a literal `${`.
  What they stand for never appears in a problem.
* **Unknown keys** are refused.

## Which route a request takes

A request matches many routes; the most specific has it:

1. what the house answers itself (health, metrics), on the listeners that say so;
2. host: exact name, then the longest wildcard, then any;
3. path: exact, then regular expressions in file order, then the longest prefix, then any;
4. a route that names methods before one that does not;
5. more header conditions before fewer;
6. more query conditions before fewer;
7. the order of the file.

A route that does not match at all is no candidate: where the routes of the exact host have none for
a path, the wildcards are asked, then the routes for any host. A star in `*.example.com` stands for
one label or more, never for none.

Prefixes are whole segments: `/api` matches `/api` and `/api/x`, not `/apix`; `/api/` means the
same. Paths are compared as they came, except that percent-encoded letters, digits and `-._~` are
the same as plain ones (RFC 3986 §6.2.2), so that `/%61dmin` is `/admin`; a run of slashes is one,
so that `/api//users` is `/api/users`; and the parameters of a segment do not count, so that
`/api;v=1/users` is that, too. `%2F` is no slash. A rewrite takes the same view when it strips a
prefix; what goes up keeps its spelling. `docs/http.md` says why.

Of several header lines or query parameters with one name, any may satisfy a condition. Query
parameters are compared decoded.
"""

_STATIC_HEAD: Final = """\
## Keys that need a restart

A reload that changes one of these is refused as a whole, and names the keys.
"""

_DYNAMIC_HEAD: Final = """\
## Keys that a reload publishes

Running exchanges end with the configuration they began with; new ones take the new.
"""

_GUESTS_HEAD: Final = """\
## Keys about plugins

A reload follows these, too. Workers never see them: they may hold secrets.
"""


def reference() -> str:
    """The text of docs/configuration.md."""
    parts = [_HEAD]
    heads = ((_STATIC_HEAD, Static), (_DYNAMIC_HEAD, Dynamic), (_GUESTS_HEAD, Guests))
    for head, struct in heads:
        parts.append(head)
        parts += tables_of(struct)
    return "\n".join(parts)


def tables_of(struct: type[Base]) -> Iterator[str]:
    """A table of the keys of a struct, then a section for each group below it."""
    yield _table_of(struct, "")
    for key in keys_of(struct):
        yield from _sections(key.shape, key.name, key.description)


def _sections(shape: Shape, path: str, about: str) -> Iterator[str]:
    """A section for each group at or below `shape`."""
    group, path = _group_in(shape, path)
    if group is None:
        return
    yield f"### `{path}`\n\n{_prose(group.about or about)}\n"
    yield _table_of(group.struct, path)
    for key in group.keys:
        yield from _sections(key.shape, f"{path}.{key.name}", key.description)


def _group_in(shape: Shape, path: str) -> tuple[Group | None, str]:
    """The group that a shape holds, with its path as `pools.NAME` or `listeners[]`."""
    match shape:
        case Group():
            return shape, path
        case Maybe():
            return _group_in(shape.item, path)
        case Many():
            return _group_in(shape.item, f"{path}[]")
        case Table():
            return _group_in(shape.item, f"{path}.NAME")
        case Leaf() | Anything():
            return None, path


def _table_of(struct: type[Base], path: str) -> str:
    """The keys of a struct, one per line."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(struct):
        name = f"`{path}.{key.name}`" if path else f"`{key.name}`"
        row = (name, expected(key.shape), _default(key), _prose(key.description))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _default(key: Key) -> str:
    default = key.default
    if key.required:
        return "**required**"
    if default is None:
        return "none"
    if isinstance(default, Base):
        return "see below"
    if isinstance(default, tuple | dict | str) and not default:
        return "empty"
    return f"`{_written(default, key.shape)}`"


def _written(value: object, shape: Shape) -> str:
    """A default as a file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and isinstance(shape, Leaf):
        return in_words(shape.kind, value)
    return value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value))


def expected(shape: Shape) -> str:
    """What may stand in a place, as a noun phrase."""
    match shape:
        case Leaf():
            return _leaf_expected(shape)
        case Maybe():
            return expected(shape.item)
        case Anything():
            return "any value"
        case Group():
            return "a mapping"
        case Table():
            return f"a mapping from {expected(shape.name)} to {expected(shape.item)}"
        case Many():
            either = f"{expected(shape.item)}, or a list of them"
            return either if shape.one_or_many else f"a list; each item {expected(shape.item)}"


def _leaf_expected(leaf: Leaf) -> str:
    words = " or ".join(f"`{word}`" for word in leaf.words)
    if not leaf.kind:
        return words
    if leaf.kind == "flag":
        return "`true` or `false`"
    kind = KINDS[leaf.kind].expected if leaf.kind in KINDS else limits_in_words(leaf)
    return f"{words}, or {kind}" if words else kind


def _prose(text: str) -> str:
    """Placeholders as code, where the text has no code of its own."""
    return text if "`" in text else text.replace("{", "`{").replace("}", "}`")


def schema() -> Schema:
    """The JSON schema of a configuration file (draft 2020-12)."""
    # That a listener is needed is the checker's to say; an editor may know it, too.
    return schema_of("loomproxy configuration", (Static, Dynamic, Guests), required=["listeners"])


def schema_of(title: str, structs: tuple[type[Base], ...], required: list[str]) -> Schema:
    """The JSON schema of a file in which the keys of some structs stand side by side."""
    keys = [key for struct in structs for key in keys_of(struct)]
    definitions: dict[str, Schema] = {}
    properties = {key.name: _with_description(key, definitions) for key in keys}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _with_description(key: Key, definitions: dict[str, Schema]) -> Schema:
    result = {"description": key.description, **_schema(key.shape, definitions)}
    if not key.required and isinstance(key.default, bool | int | float | str):
        result["default"] = key.default
    return result


def _schema(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    match shape:
        case Leaf():
            return _leaf_schema(shape)
        case Maybe():
            return _any_of(_schema(shape.item, definitions), {"type": "null"})
        case Table():
            item = _schema(shape.item, definitions)
            return {"type": ["object", "null"], "additionalProperties": item}
        case Anything():
            return {}
        case Many():
            item = _schema(shape.item, definitions)
            many: Schema = {"type": "array", "items": item}
            return _any_of(item, many) if shape.one_or_many else many
        case Group():
            return _group_schema(shape, definitions)


def _group_schema(group: Group, definitions: dict[str, Schema]) -> Schema:
    name = group.struct.__name__
    if name not in definitions:
        definitions[name] = {}  # Its place, should it hold itself.
        definitions[name] = {
            "description": group.about,
            "type": ["object", "null"],
            "properties": {key.name: _with_description(key, definitions) for key in group.keys},
            "required": [key.name for key in group.keys if key.required],
            "additionalProperties": False,
        }
    reference: Schema = {"$ref": f"#/$defs/{name}"}
    return _any_of({"type": "string"}, reference) if group.shorthand else reference


def _leaf_schema(leaf: Leaf) -> Schema:
    """One value; text with a `${…}` may stand for everything."""
    if leaf.kind in KINDS:
        return {"type": "string"}  # Words beside them are text too.
    bounds: Schema = {"minimum": leaf.low, "maximum": leaf.high}
    by_kind: dict[str, list[Schema]] = {
        "": [],
        "flag": [{"type": "boolean"}],
        "count": [{"type": "integer", **bounds}],
        "number": [{"type": "number", **bounds}],
        "size": [{"type": "integer", **bounds}, {"type": "string", "pattern": _SIZE}],
        "duration": [{"type": "number", **bounds}, {"type": "string", "pattern": _DURATION}],
    }
    words: list[Schema] = [{"enum": list(leaf.words)}] if leaf.words else []
    return _any_of(*words, *by_kind[leaf.kind], {"type": "string", "pattern": _REFERENCED})


def _any_of(*choices: Schema) -> Schema:
    return {"anyOf": list(choices)}


def written(tree: Schema) -> str:
    """A schema as its file holds it."""
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def documents() -> dict[str, str]:
    """The path of each document, from the root of the project, and its text."""
    return {REFERENCE: reference(), SCHEMA: written(schema())}

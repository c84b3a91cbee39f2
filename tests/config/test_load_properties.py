"""Whatever stands in a file: it becomes a configuration or problems, never a traceback."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loomproxy.config.compile import compile_snapshot
from loomproxy.config.document import schema
from loomproxy.config.load import parse
from loomproxy.config.model import Config, Dynamic, Static
from loomproxy.config.plugins import Guests
from loomproxy.config.shape import keys_of


def _keys() -> set[str]:
    """Every key, at any depth."""
    groups = schema()["$defs"]
    assert isinstance(groups, dict)
    inner = {name for group in groups.values() for name in group["properties"]}
    return inner | {key.name for key in (*keys_of(Static), *keys_of(Dynamic), *keys_of(Guests))}


NAMES = st.sampled_from(sorted(_keys()))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(("auto", "5s", "64KiB", "http://a:1", ":80", "/a", "${X}", "${", "*", "~("))
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def told_or_taken(tree: dict[str, Any]) -> bool:
    """A config that compiles, or problems with all four parts."""
    result = parse(json.dumps(tree), "a.json", {})
    if isinstance(result, Config):
        return compile_snapshot(result, 1).revision == 1
    return all(each.path and each.seen and each.expected and each.do for each in result.items)


@given(st.dictionaries(NAMES, JUNK, max_size=6))
def test_any_junk_is_a_config_or_problems_but_never_a_traceback(tree: dict[str, Any]) -> None:
    assert told_or_taken(tree)


GOOD: dict[str, Any] = {
    "node": {"workers": 2, "drain": {"grace": "1s"}},
    "listeners": [{"name": "public", "address": ":8080"}],
    "pools": {
        "app": {"endpoints": ["http://127.0.0.1:9000"], "probe": {"path": "/x"}, "keepalive": {}}
    },
    "routes": [
        {
            "match": {"hosts": ["a.example"], "headers": {"X": "~a"}, "path_regex": "^/"},
            "pool": "app",
            "rewrite": {"regex": "(a)", "replacement": "\\1"},
            "request_headers": {"set": {"A": "b"}, "add": {"C": ["d"]}, "remove": "E"},
        },
        {"respond": {"status": 200, "headers": {"A": "b"}}},
        {"redirect": {"location": "/"}},
    ],
}


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = [path] if path else []
    for name, value in inner if isinstance(tree, dict | list) else ():
        found += (
            _places(value, (*path, name)) if isinstance(value, dict | list) else [(*path, name)]
        )
    return found


@given(st.lists(st.tuples(st.sampled_from(_places(GOOD)), JUNK), min_size=1, max_size=3))
def test_junk_in_any_place_of_a_good_file_is_told_or_taken(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    tree = json.loads(json.dumps(GOOD))
    for path, junk in changes:
        at = tree
        for name in path[:-1]:
            try:
                at = at[name]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(at, dict) or (isinstance(at, list) and path[-1] in range(len(at))):
                at[path[-1]] = junk
    assert told_or_taken(tree)

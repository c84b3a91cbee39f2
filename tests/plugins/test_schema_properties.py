"""Whatever a configuration and its schema hold: never a traceback, never a secret."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from loomproxy.config.problem import Problems
from loomproxy.config.reference import Resolved
from loomproxy.plugins.contract import ConfigField, Validation
from loomproxy.plugins.schema import MASK, check, configure, masked

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.text(max_size=6).map(lambda text: Resolved(text, "${X}"))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(("a", "b", "c"))
RULES = st.builds(
    Validation,
    min_length=st.none() | st.integers(0, 5),
    max_length=st.none() | st.integers(0, 5),
    pattern=st.none() | st.sampled_from(("[a-z]*", ".", "(?i)x")),
    min=st.none() | st.floats(-5, 5),
    max=st.none() | st.floats(-5, 5),
    enum=st.none() | st.lists(JSON, max_size=3).map(tuple),
)
FIELDS = st.builds(
    ConfigField,
    name=NAMES,
    type=st.sampled_from(("string", "int", "float", "bool")),
    required=st.booleans(),
    default=JSON,
    sensitive=st.booleans(),
    validation=st.none() | RULES,
)


@settings(max_examples=50)
@given(
    schema=st.lists(FIELDS, max_size=3, unique_by=lambda field: field.name).map(tuple),
    given_=st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=4),
)
def test_any_value_becomes_a_configuration_or_problems(
    schema: tuple[ConfigField, ...], given_: dict[str, object]
) -> None:
    check(schema, "s")
    config = configure(schema, given_, "p")
    if isinstance(config, Problems):
        assert config.items
        return
    # What was let in can be sent, and is let in again as it is.
    assert msgspec.json.decode(msgspec.json.encode(config)) == config
    assert configure(schema, config, "p") == config
    assert set(config) <= {field.name for field in schema}


@settings(max_examples=50)
@given(
    schema=st.lists(FIELDS, max_size=3, unique_by=lambda field: field.name).map(tuple),
    name=NAMES,
    hidden=st.text(st.characters(min_codepoint=0x2500, max_codepoint=0x2600), min_size=4),
)
def test_a_sensitive_value_is_never_shown(
    schema: tuple[ConfigField, ...], name: str, hidden: str
) -> None:
    sensitive = tuple(msgspec.structs.replace(field, sensitive=True) for field in schema)
    given_ = {name: hidden}
    assert hidden not in str(masked(sensitive, given_))
    config = configure(sensitive, given_, "p")
    if isinstance(config, Problems):
        assert hidden not in str(config)
    else:
        assert masked(sensitive, config) == dict.fromkeys(config, MASK)

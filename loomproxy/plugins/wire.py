"""What plugins say over the wire, from bytes to the contract's structs: bounded, null-safe, total.

A plugin is a guest, and what it says may be anything. Every function here takes any bytes, and
gives back a struct or problems; none raises. The structs are read by the same walk as a manifest,
with two differences: a key that we do not know is passed over, for the contract grows by adding;
and `${…}` means nothing in them, or a plugin could ask for the proxy's own secrets.
"""

from typing import Final, TypeVar, cast, get_args

import msgspec

from loomproxy.config.key import Base
from loomproxy.config.kinds import one_line
from loomproxy.config.problem import Problem, Problems
from loomproxy.config.reference import Verbatim
from loomproxy.config.shape import Group, Many
from loomproxy.config.text import DEPTH_MAX, is_too_deep
from loomproxy.config.walk import PROBLEMS_MAX, Walk, shown
from loomproxy.plugins.contract import (
    API_VERSION,
    ErrorCode,
    HealthStatus,
    Metadata,
    ModelInfo,
    PluginError,
)

MODELS_BYTES_MAX: Final = 1 << 20
"""Of a plugin's list of models; thousands of them take half of it. Reading the worst list of this
size takes a quarter of a second, which the node does when a plugin starts.
"""

UPSTREAM_MODELS_BYTES_MAX: Final = 4 << 20
"""Of an upstream's list of models, which is read for the names alone, and may tell much more."""

METADATA_BYTES_MAX: Final = 1 << 20
"""Of metadata; as much as a manifest."""

HEALTH_BYTES_MAX: Final = 64 << 10
"""Of a health answer, which is read again and again."""

ERROR_BYTES_MAX: Final = 64 << 10
"""Of a PluginError. A larger body is none."""

MODELS_MAX: Final = 4096
"""Of one plugin. Aggregators of all providers list some hundreds."""

EXCERPT_CHARS_MAX: Final = 256
"""Of a body that is no PluginError, in its message."""

MESSAGE_CHARS_MAX: Final = 2048
"""Of an error's message; what is longer is cut."""

CODE_CHARS_MAX: Final = 64
"""Of a code that the contract does not know, in the details."""

CODES: Final[tuple[str, ...]] = get_args(ErrorCode)

_StructT = TypeVar("_StructT", bound=Base)


class _NotJsonError(ValueError):
    """A body that is no JSON of ours; carries the claim."""


def metadata_of(data: bytes) -> Metadata | Problems:
    """The answer to GET /metadata.

    Its `config_schema` has the right shape; whether it contradicts itself is not asked, for that
    would mean to run patterns of somebody who may be no more than an address to us. What holds is
    the manifest's.
    """
    read = _struct(Metadata, data, METADATA_BYTES_MAX, "metadata")
    if isinstance(read, Problems):
        return read
    problems = check_metadata(read, "metadata")
    return Problems(tuple(problems[:PROBLEMS_MAX])) if problems else read


def health_of(data: bytes) -> HealthStatus | Problems:
    """The answer to GET /health. A time without an offset is as good as any: it is for people."""
    return _struct(HealthStatus, data, HEALTH_BYTES_MAX, "health")


def models_of(data: bytes) -> tuple[ModelInfo, ...] | Problems:
    """The answer to GET /models: a list without anything around it. null is an empty one."""
    try:
        body = _decoded(data, MODELS_BYTES_MAX)
    except _NotJsonError as error:
        return _no_json("models", error)
    return _models(body, "models")


def openai_models_of(data: bytes) -> tuple[ModelInfo, ...] | Problems:
    """The answer of an upstream that speaks the OpenAI dialect: `{"data": [{"id": …}, …]}`."""
    try:
        body = _decoded(data, UPSTREAM_MODELS_BYTES_MAX)
    except _NotJsonError as error:
        return _no_json("models", error)
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        seen = f"{shown(body)} holds no list `data`"
        expected = 'an object such as {"data": [{"id": "gpt-5"}]}'
        do = "Correct `path_map.models`, or list the `models` in the manifest."
        return Problems((Problem("models", seen, expected, do),))
    # The rest of each entry is not the contract's, whatever its keys are called.
    ids = [{"id": item.get("id")} if isinstance(item, dict) else item for item in body["data"]]
    return _models(ids, "models.data")


def _models(body: object, path: str) -> tuple[ModelInfo, ...] | Problems:
    body = [] if body is None else body
    if not isinstance(body, list):
        expected = "a list of models, without anything around it"
        do = 'Answer as in [{"id": "acme-1"}].'
        return Problems((Problem(path, f"{shown(body)} is no list", expected, do),))
    if len(body) > MODELS_MAX:
        seen, expected = f"it has {len(body)} models", f"at most {MODELS_MAX}"
        return Problems((Problem(path, seen, expected, "List some in the manifest."),))
    walk = Walk(Verbatim(), passes_over=True)
    models = cast("tuple[ModelInfo, ...]", walk.read(Many(Group(ModelInfo)), body, path))
    problems = walk.problems or check_models(models, path)
    return Problems(tuple(problems)) if problems else models


def check_metadata(metadata: Metadata, path: str) -> list[Problem]:
    """What is wrong with metadata beyond what one key can say; `path` is where it stands."""
    problems = []
    if not metadata.name.strip():
        do = "Write what people call it."
        problems.append(Problem(f"{path}.name", "it is empty", "a name", do))
    ours, theirs = _major(API_VERSION), _major(metadata.plugin_api_version)
    if theirs and theirs != ours:  # An unreadable one was told already.
        seen = f"{shown(metadata.plugin_api_version)} is another contract than this proxy keeps"
        do = f"Bring the plugin to contract {API_VERSION}, or take a proxy that keeps {theirs}."
        expected = f"a version of major {ours}, such as {API_VERSION}"
        problems.append(Problem(f"{path}.plugin_api_version", seen, expected, do))
    return problems


def _major(version: str) -> str:
    return version.partition(".")[0]


def check_models(models: tuple[ModelInfo, ...], path: str) -> list[Problem]:
    """What is wrong with a list of models beyond what one of them can say."""
    problems = []
    seen: set[str] = set()
    for index, model in enumerate(models):
        if model.id in seen:
            claim = f"the model {shown(model.id)} stands here again"
            do = "Take one of them out."
            problems.append(Problem(f"{path}[{index}].id", claim, "each model once", do))
        seen.add(model.id)
    return problems[:PROBLEMS_MAX]


def error_of(status: int, data: bytes) -> PluginError:
    """What a plugin meant by an answer that is no success.

    A body that is no PluginError becomes `internal_error` with the status and the body's beginning;
    so does a code that the contract does not know, with what its message said.
    """
    try:
        body = _decoded(data, ERROR_BYTES_MAX)
    except _NotJsonError:
        body = None
    return error_in(body) or _no_error(status, data)


def error_in(body: object) -> PluginError | None:
    """The PluginError that a decoded body is; None when it is none."""
    if not isinstance(body, dict):
        return None
    code, message = body.get("code"), body.get("message")
    if not isinstance(code, str) or not isinstance(message, str | None):
        return None
    details, transient = body.get("details"), body.get("transient")
    more = dict(details) if isinstance(details, dict) else {}
    name = _cut(one_line(code), CODE_CHARS_MAX)
    text = _cut(one_line(message or ""), MESSAGE_CHARS_MAX) or name or "it says nothing"
    if code not in CODES:
        more["code"] = name
        code = "internal_error"
    return PluginError(
        code=cast("ErrorCode", code), message=text, details=more, transient=transient is True
    )


def _no_error(status: int, data: bytes) -> PluginError:
    # A character takes at most four bytes, and white space in a row counts once.
    begin = one_line(data[: EXCERPT_CHARS_MAX * 8].decode("utf-8", "replace"))
    excerpt = _cut(begin, EXCERPT_CHARS_MAX)
    said = f"with a body that is no PluginError: {excerpt}" if excerpt else "without a PluginError"
    return PluginError(code="internal_error", message=f"the plugin answered {status} {said}")


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _struct(struct: type[_StructT], data: bytes, bytes_max: int, path: str) -> _StructT | Problems:
    try:
        body = _decoded(data, bytes_max)
    except _NotJsonError as error:
        return _no_json(path, error)
    walk = Walk(Verbatim(), passes_over=True)
    read = cast("_StructT", walk.read(Group(struct), body, path))
    return Problems(tuple(walk.problems)) if walk.problems else read


def _decoded(data: bytes, bytes_max: int) -> object:
    if len(data) > bytes_max:
        raise _NotJsonError(f"it has more than {bytes_max} bytes")
    try:
        body: object = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _NotJsonError("it is no JSON") from None
    except RecursionError:
        raise _NotJsonError(f"it is nested more than {DEPTH_MAX} levels deep") from None
    if is_too_deep(body):
        raise _NotJsonError(f"it is nested more than {DEPTH_MAX} levels deep")
    return body


def _no_json(path: str, error: _NotJsonError) -> Problems:
    return Problems((Problem(path, str(error), "JSON within its bounds", "Mend the answer."),))
